"""SQLite's write-ahead log is copied beside those who write, and begins anew even if they never cease to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer
from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from streaming import checkpoints
from tests.conftest import DEADLINE_S, new_stream
from tests.streaming.test_inloop import somebody_writes
from tests.streaming.test_journal import desk_with, stored

pytestmark = [pytest.mark.embedded, pytest.mark.django_db(transaction=True)]
WRITES = 20


def write(count: int = 1) -> None:
    for _ in range(count):
        new_stream()


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
def asked() -> Iterator[dict[str, threading.Event]]:
    """Which checkpoints their thread has begun to make."""
    found = {"PASSIVE": threading.Event(), "FULL": threading.Event()}

    def note(sql: str) -> None:
        for mode, event in found.items():
            if mode in sql:
                event.set()

    def listen(connection: BaseDatabaseWrapper, **_: Any) -> None:
        if threading.current_thread().name == "checkpoints":
            connection.connection.set_trace_callback(note)

    connection_created.connect(listen)
    yield found
    connection_created.disconnect(listen)


@pytest.fixture
async def periodic(layer: BaseChannelLayer) -> AsyncIterator[checkpoints.Checkpoints]:
    """The checkpoints of an engine, made when the test says so."""
    async with desk_with(layer) as desk:
        made = checkpoints.Checkpoints(desk.journal)
        yield made
        await made.stop()


@asynccontextmanager
async def somebody_reads(beside: ThreadPoolExecutor) -> AsyncIterator[None]:
    """Sees the database as it is at the beginning."""

    def run(sql: str) -> None:
        connection.ensure_connection()
        connection.connection.execute(sql).fetchall()

    for sql in ("BEGIN", "SELECT count(*) FROM streaming_stream"):
        await asyncio.wrap_future(beside.submit(run, sql))
    yield
    await asyncio.wrap_future(beside.submit(run, "ROLLBACK"))


async def test_the_log_begins_anew_though_somebody_writes_while_it_is_copied(
    periodic: checkpoints.Checkpoints, beside: ThreadPoolExecutor, asked: dict[str, threading.Event], monkeypatch: Any
) -> None:
    monkeypatch.setattr(checkpoints, "LOG_PAGES", 10)
    monkeypatch.setattr(checkpoints, "WAIT_MS", DEADLINE_S * 1000)
    writing = threading.Event()

    def write_meanwhile() -> bool:
        with transaction.atomic():
            write()
            writing.set()
            return asked["FULL"].wait(DEADLINE_S)

    await sync_to_async(write)(WRITES)
    written = beside.submit(write_meanwhile)
    assert await asyncio.to_thread(writing.wait, DEADLINE_S)
    await asyncio.wait_for(periodic.step(), DEADLINE_S)
    assert written.result(DEADLINE_S)
    await sync_to_async(write)()
    assert await sync_to_async(log_pages)() < 10


async def test_a_short_log_makes_nobody_wait(
    periodic: checkpoints.Checkpoints, asked: dict[str, threading.Event]
) -> None:
    await sync_to_async(write)(WRITES)
    with somebody_writes():
        await asyncio.wait_for(periodic.step(), DEADLINE_S)
    assert asked["PASSIVE"].is_set() and not asked["FULL"].is_set()


async def test_who_reads_for_long_keeps_no_writer_waiting(
    periodic: checkpoints.Checkpoints, beside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LOG_PAGES", 10)
    await sync_to_async(write)(WRITES)
    async with somebody_reads(beside):
        await sync_to_async(write)(WRITES)
        await asyncio.wait_for(periodic.step(), DEADLINE_S)
        await sync_to_async(write)()
        assert await sync_to_async(log_pages)() > WRITES


async def test_while_somebody_reads_for_long_it_is_seldom_tried_to_begin_anew(
    periodic: checkpoints.Checkpoints, beside: ThreadPoolExecutor, asked: dict[str, threading.Event], monkeypatch: Any
) -> None:
    monkeypatch.setattr(checkpoints, "LOG_PAGES", 50)

    async def tried(writes: int) -> bool:
        asked["FULL"].clear()
        await sync_to_async(write)(writes)
        await periodic.step()
        return asked["FULL"].is_set()

    await sync_to_async(checkpoints.begin_anew)()
    async with somebody_reads(beside):
        assert await tried(WRITES)
        assert [await tried(1) for _ in range(3)] == [False] * 3
        assert await tried(3 * WRITES)
    assert await tried(12 * WRITES)
    # It begins anew, and is long soon.
    assert not await tried(1)
    assert await tried(WRITES)


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
    periodic: checkpoints.Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PAGES", WRITES)

    async def next_in_s(writes: int) -> float:
        await sync_to_async(write)(writes)
        await periodic.step()
        return periodic.every_s

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


def test_who_had_the_log_begin_anew_waits_for_others_as_before(beside: ThreadPoolExecutor) -> None:
    def patience_ms() -> int:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout")
            return int(cursor.fetchone()[0])

    before = beside.submit(patience_ms).result(DEADLINE_S)
    beside.submit(checkpoints.begin_anew).result(DEADLINE_S)
    assert before == beside.submit(patience_ms).result(DEADLINE_S) > checkpoints.WAIT_MS
