"""The group commit: committed first, broadcast after, and what happens when either fails."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer
from django.db import OperationalError, connection, connections

from streaming.background import DatabaseThread
from streaming.frames import ROW_CHARS
from streaming.journal import Journal, LeaseLost, Log
from streaming.models import Chunk, Outcome, Stream, StreamQuerySet
from tests.conftest import DEADLINE_S, new_stream, until
from tests.streaming.conftest import go_by_the_thread

pytestmark = pytest.mark.django_db(transaction=True)


class Desk:
    """A journal on this loop, with as many claimed streams as a test wants."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    async def log(self) -> Log:
        stream = await sync_to_async(lambda: Stream.objects.claim(new_stream().pk, "w", 600))()
        assert stream is not None
        return Log(self.journal, stream)


@asynccontextmanager
async def desk_with(layer: BaseChannelLayer) -> AsyncIterator[Desk]:
    writer = DatabaseThread("journal")
    journal = Journal(writer, layer)
    journal.start()
    yield Desk(journal)
    await journal.stop()
    await writer.close()


@pytest.fixture
async def desk(layer: BaseChannelLayer) -> AsyncIterator[Desk]:
    async with desk_with(layer) as desk:
        yield desk


async def stored(log: Log) -> list[str]:
    return [row.text for row in await sync_to_async(Chunk.objects.rows)(log.stream)]


async def committed(log: Log) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await log.committed()


async def speaking(desk: Desk) -> Log:
    """A log whose first words are committed, by a loop with a connection of its own: what follows needs no thread."""
    log = await desk.log()
    log.say("text", "Once")
    await committed(log)
    async with asyncio.timeout(DEADLINE_S):
        while desk.journal._near._connection is None:
            await asyncio.sleep(0.001)
    return log


async def whole(log: Log) -> dict[str, Any]:
    """All that is noted of a stream that began anew."""
    log.say("text", "Twice")
    await committed(log)
    log.note("restart", attempt=2)
    log.say("reasoning", 'Hm "\\" ü😀\r\n')
    await committed(log)
    log.say("text", "Once")
    await log.end(Outcome("error", "length", {"total_tokens": 7}, {"code": "x", "detail": "y"}))
    own = {"id", "created_at", "first_text_at", "finished_at", "claimed_at", "lease_until", "topic"}
    stream = await Stream.objects.aget(pk=log.stream)
    assert None not in (stream.first_text_at, stream.finished_at)
    return {field.attname: getattr(stream, field.attname) for field in Stream._meta.fields if field.attname not in own}


@pytest.fixture
async def told(layer: BaseChannelLayer, monkeypatch: Any) -> list[tuple[int, int]]:
    """For each message with rows: the last seq it tells of, and the last seq in the database at that moment. For
    journals that are made after it."""
    found: list[tuple[int, int]] = []

    def last_seq(stream: str) -> int:
        try:
            return Chunk.objects.last_seqs([uuid.UUID(stream)]).get(uuid.UUID(stream), 0)
        finally:
            connections.close_all()

    def look(messages: list[tuple[str, dict[str, Any]]]) -> None:
        with ThreadPoolExecutor(1) as thread:
            for _, message in messages:
                if message["rows"]:
                    found.append((message["rows"][-1][0], thread.submit(last_seq, message["stream"]).result()))

    # One process tells itself at once, others over the network.
    way = "group_send_all_nowait" if hasattr(layer, "group_send_all_nowait") else "group_send_all"
    tell = getattr(layer, way)

    def spy(messages: list[tuple[str, dict[str, Any]]]) -> Any:
        look(messages)
        return tell(messages)

    monkeypatch.setattr(layer, way, spy)
    return found


class Slow:
    """Holds commits at a gate."""

    def __init__(self, monkeypatch: Any) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        append = StreamQuerySet.append

        def held(queryset: Any, entries: Any, **kwargs: Any) -> Any:
            self.entered.set()
            assert self.gate.wait(DEADLINE_S)
            return append(queryset, entries, **kwargs)

        go_by_the_thread(monkeypatch, held)


async def test_no_word_is_told_of_before_it_is_in_the_database(told: list[tuple[int, int]], desk: Desk) -> None:
    log = await desk.log()
    for word in "abcde":
        log.say("text", word)
        await committed(log)
    await desk.journal.stop()
    assert told and all(stored >= seq for seq, stored in told)


async def test_while_a_commit_runs_nothing_is_told_and_what_is_said_becomes_one_row(
    told: list[tuple[int, int]], desk: Desk, monkeypatch: Any
) -> None:
    slow, log = Slow(monkeypatch), await desk.log()
    log.say("text", "first")
    await asyncio.to_thread(slow.entered.wait, DEADLINE_S)
    for word in ("sec", "ond"):
        log.say("text", word)
    assert told == []
    slow.gate.set()
    await committed(log)
    assert await stored(log) == ["first", "second"]


@pytest.mark.embedded
async def test_the_loop_goes_on_while_many_are_told_of(layer: Any, monkeypatch: Any) -> None:
    loop, tell, turns = asyncio.get_running_loop(), layer.group_send_all_nowait, [0]
    told: list[int] = []

    def count() -> None:
        turns[0] += 1
        if len(told) < 120:
            loop.call_soon(count)

    def spy(messages: list[Any]) -> None:
        told.extend([turns[0]] * len(messages))
        tell(messages)

    monkeypatch.setattr(layer, "group_send_all_nowait", spy)
    loop.call_soon(count)
    async with asyncio.timeout(DEADLINE_S), desk_with(layer) as desk:
        logs = [await desk.log() for _ in range(120)]
        for log in logs:
            log.say("text", "a")
        for log in logs:
            await committed(log)
        while len(told) < len(logs):
            await asyncio.sleep(0)
    assert max(Counter(told).values()) <= 50


async def test_what_is_committed_already_is_not_waited_for(desk: Desk) -> None:
    log = await desk.log()
    await committed(log)
    log.say("text", "all there is")
    for _ in range(2):
        await committed(log)
    assert await stored(log) == ["all there is"]


async def test_many_streams_are_committed_together(desk: Desk, by_thread: list[Any], monkeypatch: Any) -> None:
    slow, logs = Slow(monkeypatch), [await desk.log() for _ in range(5)]
    for log in logs:
        log.say("text", "x")
    slow.gate.set()
    await asyncio.gather(*(committed(log) for log in logs))
    assert by_thread == [(5, False)]


@pytest.mark.parametrize("after_the_commit", [False, True])
async def test_a_commit_that_breaks_is_tried_again_and_adds_its_rows_once(
    desk: Desk, monkeypatch: Any, after_the_commit: bool
) -> None:
    append, failures = StreamQuerySet.append, [OperationalError("gone"), OperationalError("gone")]

    def breaking(*args: Any, **kwargs: Any) -> Any:
        if failures and after_the_commit:
            append(*args, **kwargs)
        if failures:
            raise failures.pop()
        return append(*args, **kwargs)

    go_by_the_thread(monkeypatch, breaking)
    log = await desk.log()
    log.say("text", "Hello")
    await committed(log)
    log.say("text", " there")
    await committed(log)
    assert await stored(log) == ["Hello", " there"]


async def test_an_end_whose_connection_breaks_behind_its_commit_is_told_as_any_other(
    told: list[tuple[int, int]], desk: Desk, monkeypatch: Any
) -> None:
    append, failures = StreamQuerySet.append, [OperationalError("gone")]

    def breaking(*args: Any, **kwargs: Any) -> Any:
        result = append(*args, **kwargs)
        if failures:
            raise failures.pop()
        return result

    log = await desk.log()
    log.say("text", "whole")
    await committed(log)
    go_by_the_thread(monkeypatch, breaking)
    async with asyncio.timeout(DEADLINE_S):
        await log.end(Outcome("done", "stop"))

    async def is_told() -> bool:
        return told == [(1, 1), (2, 2)]

    await until(is_told)
    stream = await Stream.objects.aget(pk=log.stream)
    assert (stream.status, stream.text) == ("done", "whole")


async def test_one_row_that_the_database_refuses_does_not_take_the_others(desk: Desk, monkeypatch: Any) -> None:
    slow, good, bad = Slow(monkeypatch), await desk.log(), await desk.log()
    good.say("text", "fine")
    bad.say("text", "\ud800")
    waiting = asyncio.gather(committed(good), committed(bad), return_exceptions=True)
    await asyncio.sleep(0)
    slow.gate.set()
    results = await waiting
    assert results[0] is None and isinstance(results[1], LeaseLost)
    assert await stored(good) == ["fine"]


class Away(BaseChannelLayer):
    """A layer whose server is not there, or takes everything in and never answers."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__()
        self.asked = 0
        self._hangs = hangs

    async def group_send_all(self, messages: Any) -> None:
        self.asked += 1
        if self._hangs:
            await asyncio.Event().wait()
        raise ConnectionError("Redis is away")


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_layer_that_fails_or_hangs_does_not_hold_up_the_log(hangs: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr("streaming.journal.BROADCAST_S", 0.05)
    away = Away(hangs=hangs)
    async with desk_with(away) as desk:
        log = await desk.log()
        for word in "abc":
            log.say("text", word)
            await committed(log)
        assert "".join(await stored(log)) == "abc"
    assert away.asked


async def test_words_longer_than_a_row_are_several_rows(desk: Desk) -> None:
    log = await desk.log()
    log.say("text", "x" * (2 * ROW_CHARS + 1))
    await committed(log)
    assert [len(text) for text in await stored(log)] == [ROW_CHARS, ROW_CHARS, 1]


async def test_a_writer_that_outruns_the_database_is_told_to_wait(desk: Desk, monkeypatch: Any, settings: Any) -> None:
    settings.STREAM_PENDING_BYTES = 10
    slow, log = Slow(monkeypatch), await desk.log()
    log.say("text", "a")
    await asyncio.to_thread(slow.entered.wait, DEADLINE_S)
    log.say("text", "b" * 11)
    assert log.full
    slow.gate.set()
    await committed(log)
    assert not log.full


async def test_a_log_that_lost_its_lease_refuses_words(desk: Desk) -> None:
    log = await desk.log()
    await Stream.objects.filter(pk=log.stream).aupdate(lease=None)
    log.say("text", "late")
    with pytest.raises(LeaseLost):
        await committed(log)
    with pytest.raises(LeaseLost):
        log.say("text", "later")
    assert await stored(log) == []


async def test_what_is_said_within_a_window_is_one_row(layer: BaseChannelLayer, settings: Any) -> None:
    settings.JOURNAL_SHARE, settings.JOURNAL_WINDOW_S = 1e-6, 0.05
    async with desk_with(layer) as desk:
        log = await desk.log()
        for word in "abc":
            log.say("text", word)
            await asyncio.sleep(0)
        await committed(log)
    assert await stored(log) == ["abc"]


async def test_what_the_database_takes_is_waited_for_too(
    layer: BaseChannelLayer, settings: Any, monkeypatch: Any
) -> None:
    settings.JOURNAL_SHARE, settings.JOURNAL_WINDOW_S = 0.5, 10
    async with desk_with(layer) as desk:
        log, slow = await desk.log(), Slow(monkeypatch)
        log.say("text", "a")
        began = asyncio.get_running_loop().time()
        asyncio.get_running_loop().call_later(0.2, slow.gate.set)
        await committed(log)
        log.say("text", "b")
        await committed(log)
        # What it took, and as long again as half of that time takes to pay for it.
        assert asyncio.get_running_loop().time() - began > 0.35


@pytest.mark.scaled
async def test_a_server_that_may_only_be_read_from_is_asked_again_on_another_connection(
    desk: Desk, monkeypatch: Any
) -> None:
    append = StreamQuerySet.append
    standbys: list[Any] = []

    def demoted(queryset: Any, *args: Any, **options: Any) -> Any:
        if not standbys:
            with connection.cursor() as cursor:
                cursor.execute("SET default_transaction_read_only = on")
            standbys.append(connection.connection)
        return append(queryset, *args, **options)

    go_by_the_thread(monkeypatch, demoted)
    log = await desk.log()
    log.say("text", "kept")
    await log.end(Outcome("done"))
    assert (await Stream.objects.aget(pk=log.stream)).text == "kept"
    assert standbys[0].closed  # And in no pool, for whoever comes next.


async def test_a_lease_that_is_lost_costs_the_others_of_its_commit_nothing(desk: Desk, by_thread: list[Any]) -> None:
    logs = [await speaking(desk) for _ in range(3)]
    by_thread.clear()
    lost = logs.pop(1)
    await sync_to_async(Stream.objects.filter(pk=lost.stream).update)(lease=None)
    for log in (lost, *logs):
        log.say("text", " upon")
    for log in logs:
        await committed(log)
    with pytest.raises(LeaseLost):
        lost.say("text", " a")
    assert by_thread == [(3, True)]
    assert [await stored(log) for log in (lost, *logs)] == [["Once"], ["Once", " upon"], ["Once", " upon"]]


@pytest.mark.parametrize("unwritable", [" a\0time", " \ud800"])
async def test_what_cannot_be_written_is_refused_by_the_thread(
    desk: Desk, by_thread: list[Any], unwritable: str
) -> None:
    good, bad = await speaking(desk), await speaking(desk)
    by_thread.clear()
    good.say("text", " upon")
    bad.say("text", unwritable)
    await asyncio.gather(committed(good), committed(bad), return_exceptions=True)
    with pytest.raises(LeaseLost):
        bad.say("text", "!")
    assert (await stored(good), await stored(bad)) == (["Once", " upon"], ["Once"])
    assert by_thread == [(2, False), (1, False), (1, False)]
