"""Commits in the event loop: few words at once, nothing waited for, nothing lost where the thread has to help."""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer
from django.db import connection

from streaming import commit, inloop, journal
from streaming.frames import Row, Said
from streaming.inloop import InLoop
from streaming.journal import LeaseLost, Log
from streaming.models import Chunk, Entry, Outcome, Stream
from tests.conftest import DEADLINE_S
from tests.streaming.test_journal import Desk, committed, desk_with, speaking, stored, whole

pytestmark = [pytest.mark.embedded, pytest.mark.django_db(transaction=True)]


@pytest.fixture
async def desk(layer: BaseChannelLayer) -> AsyncIterator[Desk]:
    async with desk_with(layer) as desk:
        yield desk


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is that tests run on."""
    monkeypatch.setattr(inloop, "SLOW_S", DEADLINE_S)


@contextmanager
def somebody_writes() -> Iterator[None]:
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


async def test_what_is_soon_done_needs_no_thread(desk: Desk, by_thread: list[Any]) -> None:
    logs = [await speaking(desk) for _ in range(3)]
    for word in (" upon", " a", " time"):
        for log in logs:
            log.say("text", word)
        for log in logs:
            await committed(log)
    assert [await stored(log) for log in logs] == [["Once", " upon", " a", " time"]] * 3
    for log in logs:
        await log.end(Outcome("done"))
    assert [stream.text async for stream in Stream.objects.filter(status="done")] == ["Once upon a time"] * 3
    assert by_thread == []


@pytest.mark.parametrize("kinds", [["text"], ["text", "reasoning"]], ids=["alone", "several"])
async def test_a_row_is_the_same_whoever_adds_it(desk: Desk, by_thread: list[Any], kinds: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inloop, "ROWS", 0)
        log = await speaking(desk)
    for kind in kinds:
        log.say(kind, ' "up\\on" ü😀')
    await committed(log)
    assert by_thread == [(1, False)]
    first, *others = [chunk async for chunk in Chunk.objects.order_by("seq")]
    said = [(other.seq, other.kind, other.text, other.data) for other in others]
    assert said == [(2 + n, kind, ' "up\\on" ü😀', None) for n, kind in enumerate(kinds)]
    assert all(0 <= (other.created_at - first.created_at).total_seconds() < 10 for other in others)
    assert await times_are_written_alike()


@sync_to_async
def times_are_written_alike() -> bool:
    """As text, by which SQLite compares them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT length(created_at)) = 1 FROM streaming_chunk")
        return bool(cursor.fetchone()[0])


@pytest.mark.parametrize("kinds", [["text"], ["text", "reasoning"]], ids=["alone", "several"])
async def test_words_whose_lease_is_lost_or_that_cannot_be_stored_are_not_added(desk: Desk, kinds: list[str]) -> None:
    log, other = await speaking(desk), await speaking(desk)
    near = InLoop()

    async def add(lease: uuid.UUID, text: str) -> int:
        rows = tuple(Row(2 + n, kind, text, None) for n, kind in enumerate(kinds))
        return await near.add([Entry(log.stream, lease, rows)])

    assert await add(other.lease, " upon") == 0
    assert await add(log.lease, " up\0on") == 0
    assert await stored(log) == ["Once"]
    assert await add(log.lease, " upon") == len(kinds)
    await near.close()


async def test_who_writes_meanwhile_is_waited_for_by_the_thread_and_not_by_the_loop(
    desk: Desk, by_thread: list[Any]
) -> None:
    log = await speaking(desk)
    with somebody_writes():
        log.say("text", " upon")
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE_S):
            while not by_thread:
                await asyncio.sleep(0.001)
        assert time.monotonic() - began < 5  # SQLite's own patience is 20 s.
    await committed(log)
    assert await stored(log) == ["Once", " upon"]


async def test_what_takes_long_goes_by_the_thread(
    desk: Desk, by_thread: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inloop, "ROWS", 2)
    monkeypatch.setattr(inloop, "CHARS", 100)
    logs = [await speaking(desk) for _ in range(3)]
    for log in logs:
        log.say("text", " upon")
    for log in logs:
        await committed(log)
    assert by_thread == [(3, False)]
    for kind in ("reasoning", "text", "reasoning"):
        logs[0].say(kind, "x")
    await committed(logs[0])
    assert by_thread[1:] == [(1, False)]
    logs[0].say("reasoning", "x")
    logs[0].say("text", "x" * 101)
    await committed(logs[0])
    await logs[0].end(Outcome("done"))  # Its text is as long.
    assert by_thread[2:] == [(1, False)] * 2
    await logs[1].end(Outcome("done"))
    assert by_thread[4:] == []
    monkeypatch.setattr(journal, "SUM_CHARS", 5)
    await logs[2].end(Outcome("done"))  # Nobody but the database knows what it said.
    assert by_thread[4:] == [(1, False)]
    texts = [(await Stream.objects.aget(pk=log.stream)).text for log in logs]
    assert texts == ["Once uponx" + "x" * 101, "Once upon", "Once upon"]


async def test_a_stream_is_the_same_whoever_ends_it(desk: Desk, by_thread: list[Any]) -> None:
    in_loop = await whole(await desk.log())
    assert by_thread == []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inloop, "ROWS", 0)
        patched.setattr(journal, "SUM_CHARS", 0)
        by_the_database = await whole(await desk.log())
    assert len(by_thread) == 3
    assert in_loop == by_the_database
    assert (in_loop["text"], in_loop["reasoning"]) == ("Once", 'Hm "\\" ü😀\r\n')
    assert await sync_to_async(times_of_streams_are_written_alike)()


def times_of_streams_are_written_alike() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT length(finished_at) + length(first_text_at)) = 1 FROM streaming_stream")
        return bool(cursor.fetchone()[0])


async def test_who_goes_on_with_a_log_leaves_it_to_the_database_what_it_says(desk: Desk) -> None:
    first = await speaking(desk)
    await sync_to_async(Stream.objects.hand_back)([first.lease])
    stream = await sync_to_async(Stream.objects.claim)(first.stream, "w", 600)
    assert stream is not None
    second = Log(desk.journal, stream, seq=1, spoken=True)
    second.say("text", " upon")
    await second.end(Outcome("done"))
    assert (await Stream.objects.aget(pk=first.stream)).text == "Once upon"


async def test_a_retry_is_noted_by_the_thread(desk: Desk, by_thread: list[Any]) -> None:
    log = await speaking(desk)
    log.note("retry", attempt=2, of=3, wait_s=1, reason="busy")
    await committed(log)
    assert by_thread == [(1, False)]
    assert (await Stream.objects.aget(pk=log.stream)).attempt == 2


async def test_an_end_whose_lease_is_lost_leaves_nothing(desk: Desk, by_thread: list[Any]) -> None:
    log, other = await speaking(desk), await speaking(desk)
    await sync_to_async(Stream.objects.filter(pk=log.stream).update)(lease=uuid.uuid4())
    log.say("text", " upon")
    other.say("text", " upon")
    with pytest.raises(LeaseLost):
        await log.end(Outcome("done"))
    await committed(other)
    assert by_thread == [(2, False)]
    assert (await stored(log), await stored(other)) == (["Once"], ["Once", " upon"])
    stream = await Stream.objects.aget(pk=log.stream)
    assert (stream.status, stream.text) == ("streaming", "")


async def test_a_note_that_is_refused_leaves_nothing_and_keeps_nobody_out(desk: Desk) -> None:
    log = await speaking(desk)
    near = InLoop()
    said = Said(2, "Once upon", "")
    refused = Entry(log.stream, log.lease, (Row(2, "text", " upon", None),), outcome=Outcome("unknown"), said=said)
    assert await near.add([refused]) == 0
    assert await stored(log) == ["Once"]
    log.say("text", " a")
    await committed(log)
    assert await stored(log) == ["Once", " a"]
    await near.close()


async def test_a_slow_disk_holds_the_loop_up_for_a_small_part_of_the_time(
    desk: Desk, by_thread: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    append, now, slow_s = commit.append_word_natively, [1000.0], [0.0]

    def slowly(*args: Any) -> int:
        now[0] += slow_s[0]
        return append(*args)

    monkeypatch.setattr(commit, "append_word_natively", slowly)
    monkeypatch.setattr(inloop, "SLOW_S", 0.02)
    monkeypatch.setattr(inloop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    log = await speaking(desk)
    slow_s[0] = 0.1
    for waited_s, went_by_thread in ((0, 0), (0, 1), (19, 2), (2, 2), (0, 3)):
        now[0] += waited_s
        log.say("text", "x")
        await committed(log)
        assert len(by_thread) == went_by_thread
    slow_s[0] = 0.001
    now[0] += 21
    for _ in range(3):
        log.say("text", "x")
        await committed(log)
    assert len(by_thread) == 3
    assert "".join(await stored(log)) == "Once" + "x" * 8


async def test_a_connection_that_fails_leaves_it_to_the_thread(desk: Desk, by_thread: list[Any]) -> None:
    log = await speaking(desk)
    in_loop: Any = desk.journal._near
    assert isinstance(in_loop, InLoop)
    await in_loop.close()
    log.say("text", " upon")
    await committed(log)
    assert await stored(log) == ["Once", " upon"]
    assert by_thread == [(1, False)]
