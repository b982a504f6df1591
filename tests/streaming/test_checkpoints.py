"""SQLite's write-ahead log is copied beside those who write, and begins anew even if they never cease to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer
from django.db import connection, connections, transaction

from streaming import checkpoints
from tests.conftest import DEADLINE_S, new_stream
from tests.streaming.test_journal import desk_with, stored

pytestmark = [pytest.mark.embedded, pytest.mark.django_db(transaction=True)]
WRITES = 20


def write(count: int = 1) -> None:
    for _ in range(count):
        new_stream()


def checkpoint() -> None:
    if checkpoints.copy() >= checkpoints.LOG_PAGES:
        checkpoints.begin_anew()


def log_pages() -> int:
    """How long the write-ahead log is."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return int(cursor.fetchone()[1])


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    """A thread with a connection of its own."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
        pool.submit(connections.close_all).result()


@pytest.fixture
def asked(beside: ThreadPoolExecutor) -> dict[str, threading.Event]:
    """Which checkpoints the thread has begun to make."""
    found = {"PASSIVE": threading.Event(), "FULL": threading.Event()}

    def note(sql: str) -> None:
        for mode, event in found.items():
            if mode in sql:
                event.set()

    def listen() -> None:
        connection.ensure_connection()
        connection.connection.set_trace_callback(note)

    beside.submit(listen).result(DEADLINE_S)
    return found


def wait_for(event: threading.Event, unless: Future[None]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not event.wait(0.01) and not unless.done():
        assert time.monotonic() < deadline


def test_the_log_begins_anew_though_somebody_writes_while_it_is_copied(
    beside: ThreadPoolExecutor, asked: dict[str, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LOG_PAGES", 10)
    monkeypatch.setattr(checkpoints, "WAIT_MS", DEADLINE_S * 1000)
    write(WRITES)
    with transaction.atomic():
        write()
        made = beside.submit(checkpoint)
        wait_for(asked["FULL"], unless=made)
    made.result(DEADLINE_S)
    write()
    assert log_pages() < 10


def test_a_short_log_makes_nobody_wait(beside: ThreadPoolExecutor, asked: dict[str, threading.Event]) -> None:
    with transaction.atomic():
        write(WRITES)
        beside.submit(checkpoint).result(DEADLINE_S)
    assert asked["PASSIVE"].is_set() and not asked["FULL"].is_set()


def test_who_reads_for_long_keeps_no_writer_waiting(
    beside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LOG_PAGES", 10)

    def begin_to_read() -> None:
        connection.ensure_connection()
        connection.connection.execute("BEGIN DEFERRED")
        connection.connection.execute("SELECT count(*) FROM streaming_stream").fetchall()

    write(WRITES)
    beside.submit(begin_to_read).result(DEADLINE_S)
    write(WRITES)
    with ThreadPoolExecutor(1) as third:
        third.submit(checkpoint).result(DEADLINE_S)
        write()
        third.submit(connections.close_all).result()
    assert log_pages() > WRITES
    beside.submit(lambda: connection.connection.rollback()).result(DEADLINE_S)


async def test_while_somebody_reads_for_long_it_is_seldom_tried_to_begin_anew(
    layer: BaseChannelLayer, beside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LOG_PAGES", 50)
    tries = 0
    begin_anew = checkpoints.begin_anew

    def counted() -> None:
        nonlocal tries
        tries += 1
        begin_anew()

    def read(sql: str) -> None:
        connection.ensure_connection()
        connection.connection.execute(sql)

    monkeypatch.setattr(checkpoints, "begin_anew", counted)
    async with desk_with(layer) as desk:
        periodic = checkpoints.Checkpoints(desk.journal)

        async def tried(writes: int) -> int:
            before = tries
            await sync_to_async(write)(writes)
            await periodic.step()
            return tries - before

        await sync_to_async(begin_anew)()
        for sql in ("BEGIN", "SELECT 1 FROM streaming_stream"):
            await asyncio.wrap_future(beside.submit(read, sql))
        assert await tried(WRITES) == 1
        assert [await tried(1) for _ in range(3)] == [0, 0, 0]
        assert await tried(3 * WRITES) == 1
        await asyncio.wrap_future(beside.submit(read, "ROLLBACK"))
        assert await tried(12 * WRITES) == 1
        # It begins anew, and is long soon.
        assert await tried(1) == 0
        assert await tried(WRITES) == 1
        await periodic.stop()


async def test_the_log_begins_anew_between_two_commits(
    layer: BaseChannelLayer, by_thread: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them finds it locked: that would wait for longer."""
    begun, goes_on = threading.Event(), threading.Event()

    def begin_anew() -> None:
        begun.set()
        assert goes_on.wait(DEADLINE_S)

    monkeypatch.setattr(checkpoints, "begin_anew", begin_anew)
    async with desk_with(layer) as desk:
        periodic = checkpoints.Checkpoints(desk.journal)
        await periodic.step()
        assert not begun.is_set()
        monkeypatch.setattr(checkpoints, "LOG_PAGES", 0)
        periodic = checkpoints.Checkpoints(desk.journal)
        step = asyncio.create_task(periodic.step())
        assert await asyncio.to_thread(begun.wait, DEADLINE_S)
        log = await desk.log()
        log.say("text", "Once")
        committing = asyncio.create_task(log.committed())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not committing.done() and await stored(log) == []
        goes_on.set()
        await asyncio.gather(step, committing)
        assert await stored(log) == ["Once"]
        await periodic.stop()
    assert by_thread == []


async def test_the_more_is_written_the_sooner_the_next_checkpoint(
    layer: BaseChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PAGES", WRITES)

    async def next_in_s(writes: int) -> float:
        await sync_to_async(write)(writes)
        await periodic.step()
        return periodic.every_s

    async with desk_with(layer) as desk:
        periodic = checkpoints.Checkpoints(desk.journal)
        await periodic.step()
        assert await next_in_s(0) == checkpoints.EVERY_S
        assert await next_in_s(1) == checkpoints.EVERY_S
        assert checkpoints.OFTEN_S <= (busy := await next_in_s(WRITES)) < checkpoints.EVERY_S
        assert await next_in_s(WRITES * WRITES) == checkpoints.OFTEN_S
        await sync_to_async(checkpoints.begin_anew)()
        await next_in_s(0)
        # The log begins anew with these, and they are all that it has.
        assert await next_in_s(WRITES) < checkpoints.EVERY_S
        assert await next_in_s(0) > busy
        await periodic.stop()


def test_who_had_the_log_begin_anew_waits_for_others_as_before(beside: ThreadPoolExecutor) -> None:
    def patience_ms() -> int:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout")
            return int(cursor.fetchone()[0])

    before = beside.submit(patience_ms).result(DEADLINE_S)
    beside.submit(checkpoints.begin_anew).result(DEADLINE_S)
    assert before == beside.submit(patience_ms).result(DEADLINE_S) > checkpoints.WAIT_MS
