"""Commits that the event loop asks PostgreSQL for: stored and told like any other, whatever the connection does."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil
import psycopg
import pytest
import uvloop
from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer, get_channel_layer
from django.db import connection, connections, transaction
from django.utils import timezone

from streaming import journal, nonblocking
from streaming.frames import Row, Said
from streaming.journal import LeaseLost, Log
from streaming.models import Chunk, Entry, Outcome, Stream
from streaming.nonblocking import Nonblocking
from tests.conftest import DEADLINE_S, new_stream
from tests.streaming.test_journal import Desk, Slow, committed, desk_with, speaking, stored, whole

pytestmark = [pytest.mark.scaled, pytest.mark.django_db(transaction=True)]


@pytest.fixture
async def desk(layer: BaseChannelLayer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(nonblocking, "AWAY_S", 0)
    async with desk_with(layer) as desk:
        yield desk


async def connected(desk: Desk) -> psycopg.Connection:
    async with asyncio.timeout(DEADLINE_S):
        while (found := near(desk)._connection) is None:
            await asyncio.sleep(0.001)
    return found


def near(desk: Desk) -> Nonblocking:
    assert isinstance(desk.journal._near, Nonblocking)
    return desk.journal._near


def on_a_connection(function: Callable[[], Any]) -> Any:
    """In a thread of its own, with a connection of its own."""

    def run() -> Any:
        try:
            return function()
        finally:
            connections.close_all()

    return asyncio.to_thread(run)


def terminate(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_locks WHERE NOT granted")
        return cursor.fetchone() is not None


async def test_words_need_no_thread(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = [await speaking(desk) for _ in range(3)]
    slow = Slow(monkeypatch)
    for word in (' "up\\on" ', "ü😀", " time"):
        for log in logs:
            log.say("text", word)
        for log in logs:
            await committed(log)
    assert [await stored(log) for log in logs] == [["Once", ' "up\\on" ', "ü😀", " time"]] * 3
    assert not slow.entered.is_set()
    first, *_, last = [chunk async for chunk in Chunk.objects.filter(stream=logs[0].stream).order_by("seq")]
    assert last.data is None and 0 <= (last.created_at - first.created_at).total_seconds() < 10


async def test_a_stream_is_the_same_whoever_notes_how_it_began_and_ended(
    desk: Desk, by_thread: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await speaking(desk)
    by_thread.clear()
    in_loop = await whole(await desk.log())
    assert by_thread == []
    monkeypatch.setattr(journal, "SUM_CHARS", 0)
    by_the_database = await whole(await desk.log())
    assert len(by_thread) == 1  # Nobody but the database knows what it said.
    assert in_loop == by_the_database
    assert (in_loop["text"], in_loop["reasoning"]) == ("Once", 'Hm "\\" ü😀\r\n')


def ending(log: Log, *texts: str, began: bool = False, status: str = "done") -> Entry:
    """The last rows of a log: these texts, and the end."""
    rows = [Row(log.seq + n, "text", text, None) for n, text in enumerate(texts, 1)]
    rows.append(Row(log.seq + len(texts) + 1, "end", "", {"status": status}))
    said = Said(rows[-1].seq, "Once" * log.spoken + "".join(texts), "")
    return Entry(log.stream, log.lease, tuple(rows), began, Outcome(status), said)


@sync_to_async
def noted(log: Log) -> tuple[str, str, bool, bool]:
    """The status and the text of a stream, whether it began to speak, and whether it ended."""
    stream = Stream.objects.get(pk=log.stream)
    return stream.status, stream.text, stream.first_text_at is not None, stream.finished_at is not None


async def test_what_begins_and_ends_at_once_is_noted_at_once(desk: Desk) -> None:
    await speaking(desk)
    await connected(desk)
    short, long, silent = [await desk.log() for _ in range(3)]
    begun = Entry(long.stream, long.lease, (Row(1, "text", "Once", None),), first_words=True)
    entries = [ending(short, "Once", began=True), begun, ending(silent, status="stopped")]
    assert await near(desk).add(entries) == 4
    assert await noted(short) == ("done", "Once", True, True)
    assert await noted(long) == ("streaming", "", True, False)
    assert await noted(silent) == ("stopped", "", False, True)
    at_once = await Stream.objects.aget(pk=short.stream)
    assert at_once.first_text_at == at_once.finished_at


async def test_an_end_leaves_it_as_it_is_when_the_stream_began(desk: Desk) -> None:
    log = await speaking(desk)
    await connected(desk)
    began_at = (await Stream.objects.aget(pk=log.stream)).first_text_at
    assert await near(desk).add([ending(log, " upon")]) == 2
    assert (await Stream.objects.aget(pk=log.stream)).first_text_at == began_at


async def test_a_retry_is_noted_by_the_thread(desk: Desk, by_thread: list[Any]) -> None:
    log = await speaking(desk)
    by_thread.clear()
    log.note("retry", attempt=2, of=3, wait_s=1, reason="busy")
    await committed(log)
    assert by_thread == [(1, False)]
    assert (await Stream.objects.aget(pk=log.stream)).attempt == 2


async def test_of_several_streams_only_those_of_held_leases_are_written_to(desk: Desk) -> None:
    lost, other, silent = await speaking(desk), await speaking(desk), await desk.log()
    await connected(desk)
    await Stream.objects.filter(pk__in=[lost.stream, silent.stream]).aupdate(lease=uuid.uuid4())
    begun = Entry(silent.stream, silent.lease, (Row(1, "text", "Once", None),), first_words=True)
    entries = [ending(lost, " upon"), begun, ending(other, " upon")]
    assert await near(desk).add(entries) == 2
    assert await sync_to_async(Stream.objects.append)(entries, again=True) == {lost.stream, silent.stream}
    assert [await stored(log) for log in (lost, silent, other)] == [["Once"], [], ["Once", " upon", ""]]
    assert await noted(lost) == ("streaming", "", True, False)
    assert await noted(silent) == ("streaming", "", False, False)
    assert await noted(other) == ("done", "Once upon", True, True)


@pytest.mark.parametrize("lease", [None, uuid.uuid4()], ids=["renewed", "taken over"])
async def test_an_end_that_waited_for_its_row_is_noted_if_its_lease_is_still_held(
    desk: Desk, by_thread: list[Any], lease: uuid.UUID | None
) -> None:
    log = await speaking(desk)
    await connected(desk)
    by_thread.clear()
    changed, goes_on = threading.Event(), threading.Event()

    def change() -> None:
        with transaction.atomic():
            Stream.objects.filter(pk=log.stream).update(lease=lease or log.lease, lease_until=timezone.now())
            changed.set()
            assert goes_on.wait(DEADLINE_S)

    changing = asyncio.create_task(on_a_connection(change))
    await asyncio.to_thread(changed.wait, DEADLINE_S)
    end = asyncio.create_task(log.end(Outcome("done")))
    async with asyncio.timeout(DEADLINE_S):
        while not await on_a_connection(somebody_waits_for_a_lock):
            await asyncio.sleep(0.001)
    goes_on.set()
    await changing
    if lease is None:
        await end
        assert by_thread == [] and await stored(log) == ["Once", ""]
        assert await noted(log) == ("done", "Once", True, True)
    else:
        with pytest.raises(LeaseLost):
            await end
        assert await stored(log) == ["Once"]
        assert await noted(log) == ("streaming", "", True, False)


async def test_a_note_that_is_refused_leaves_nothing(desk: Desk) -> None:
    log = await speaking(desk)
    await connected(desk)
    assert await near(desk).add([ending(log, " upon", status="unknown")]) == 0
    assert await stored(log) == ["Once"]


async def test_more_than_a_socket_takes_at_once_arrives(
    desk: Desk, by_thread: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await speaking(desk)
    send_on, sent_on = Nonblocking._send_on, asyncio.Event()

    def noting(self: Nonblocking, connection: psycopg.Connection) -> None:
        sent_on.set()
        send_on(self, connection)

    monkeypatch.setattr(Nonblocking, "_send_on", noting)
    server = psutil.Process((await connected(desk)).info.backend_pid)
    words = "long " * 4_000_000
    server.suspend()
    try:
        log.say("text", words)
        async with asyncio.timeout(DEADLINE_S):
            while near(desk)._answer is None:
                await asyncio.sleep(0.001)
    finally:
        server.resume()
    await committed(log)
    assert sent_on.is_set()
    sent_on.clear()
    log.say("text", ".")
    await committed(log)
    assert "".join(await stored(log)) == f"Once{words}."
    assert by_thread == [(1, False)] and not sent_on.is_set()


async def test_a_connection_that_breaks_in_its_commit_adds_the_rows_once(desk: Desk, by_thread: list[Any]) -> None:
    log = await speaking(desk)
    pid = (await connected(desk)).info.backend_pid
    waits, goes_on = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Stream.objects.select_for_update().get(pk=log.stream)
            waits.set()
            assert goes_on.wait(DEADLINE_S)

    holding = asyncio.create_task(on_a_connection(hold))
    await asyncio.to_thread(waits.wait, DEADLINE_S)
    log.say("text", " upon")
    await on_a_connection(lambda: terminate(pid))
    goes_on.set()
    await holding
    await committed(log)
    assert await stored(log) == ["Once", " upon"]
    assert by_thread[1:] == [(1, True)]


async def test_a_connection_that_breaks_as_it_is_asked_leaves_nothing_behind(desk: Desk, by_thread: list[Any]) -> None:
    log = await speaking(desk)
    with socket.socket(fileno=os.dup((await connected(desk)).fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
    log.say("text", "x" * 20_000)  # So much that libpq finds it out by itself, and closes its socket.
    await desk.journal.step()  # Before the loop has looked.
    assert near(desk)._connection is None
    log.say("text", " upon")
    await committed(log)
    await connected(desk)
    log.say("text", " a")
    await committed(log)
    assert await stored(log) == ["Once", "x" * 20_000, " upon", " a"]
    assert by_thread[1:] == [(1, True), (1, False)]


def test_a_server_that_ends_right_before_it_is_asked_is_heard_of_on_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its farewell and the error come together, and uvloop tells of them once and then of nothing more."""
    monkeypatch.setattr(nonblocking, "LOOK_S", 3600)

    async def told() -> list[str]:
        layer = get_channel_layer()
        assert layer is not None
        async with asyncio.timeout(DEADLINE_S), desk_with(layer) as desk:
            log = await speaking(desk)
            pid = (await connected(desk)).info.backend_pid
            ending = threading.Thread(target=lambda: asyncio.run(on_a_connection(lambda: terminate(pid))))
            ending.start()
            ending.join()  # The loop does not turn meanwhile.
            log.say("text", " upon")
            await desk.journal.step()
            return await stored(log)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(told()) == ["Once", " upon"]


async def test_what_no_loop_tells_of_is_found_by_a_look(
    desk: Desk, by_thread: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nonblocking, "LOOK_S", 0.01)
    log = await speaking(desk)
    near(desk)._loop.remove_reader(near(desk)._socket)
    near(desk)._look(await connected(desk))
    log.say("text", " upon")
    await committed(log)
    assert await stored(log) == ["Once", " upon"] and len(by_thread) == 1


async def test_a_connection_that_cannot_be_watched_is_not_used(
    desk: Desk, by_thread: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(number: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("streaming.nonblocking.os.dup", none_left)
    log = await desk.log()
    for word in ("Once", " upon", " a"):
        log.say("text", word)
        await committed(log)
        await asyncio.sleep(0)
    assert await stored(log) == ["Once", " upon", " a"] and len(by_thread) == 3


async def test_a_database_to_which_nobody_can_connect_any_more_delays_no_commit(
    desk: Desk, by_thread: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, goes_on = threading.Semaphore(0), threading.Event()

    def hang() -> Any:
        tried.release()
        assert goes_on.wait(DEADLINE_S)
        raise psycopg.OperationalError("timeout expired")

    monkeypatch.setattr(nonblocking, "_connected", hang)
    monkeypatch.setattr(nonblocking, "AWAY_S", 3600)
    log = await desk.log()
    for word in ("Once", " upon"):
        log.say("text", word)
        await committed(log)
    assert await asyncio.to_thread(tried.acquire, timeout=DEADLINE_S)
    goes_on.set()
    async with asyncio.timeout(DEADLINE_S):
        while near(desk)._connecting is not None:
            await asyncio.sleep(0.001)
    log.say("text", " a")
    await committed(log)
    assert near(desk)._connecting is None  # Not again so soon.
    assert await stored(log) == ["Once", " upon", " a"] and len(by_thread) == 3


@pytest.mark.parametrize("last", [False, True], ids=["words", "an end"])
async def test_a_commit_whose_answer_is_lost_adds_the_rows_once(desk: Desk, by_thread: list[Any], last: bool) -> None:
    log = await speaking(desk)
    hear, cut = Nonblocking._hear, [True]

    def break_off(self: Nonblocking, connection: psycopg.Connection) -> None:
        if cut:
            cut.pop()
            self._fail(psycopg.OperationalError("cut"))
        else:
            hear(self, connection)

    near(desk)._loop.add_reader(near(desk)._socket, break_off, near(desk), await connected(desk))
    if last:
        await log.end(Outcome("done"))
    else:
        log.say("text", " upon")
        await committed(log)
    assert await stored(log) == ["Once", "" if last else " upon"]
    assert by_thread[1:] == [(1, True)] and not cut
    assert await noted(log) == (("done", "Once", True, True) if last else ("streaming", "", True, False))


async def test_a_connection_that_was_lost_meanwhile_is_made_anew(desk: Desk, by_thread: list[Any]) -> None:
    log = await speaking(desk)
    pid = (await connected(desk)).info.backend_pid
    await on_a_connection(lambda: terminate(pid))
    async with asyncio.timeout(DEADLINE_S):
        while near(desk)._connection is not None:
            await asyncio.sleep(0.001)
    log.say("text", " upon")
    await committed(log)
    assert (await connected(desk)).info.backend_pid != pid
    by_thread.clear()
    log.say("text", " a")
    await committed(log)
    assert await stored(log) == ["Once", " upon", " a"] and not by_thread


async def test_a_connection_that_does_not_know_the_statement_costs_nothing(desk: Desk, by_thread: list[Any]) -> None:
    log = await speaking(desk)
    (await connected(desk)).pgconn.exec_(b"DEALLOCATE ALL")
    log.say("text", " upon")
    await committed(log)
    log.say("text", " a")
    await committed(log)
    assert by_thread[1:] == [(1, False)] * 2
    await connected(desk)
    log.say("text", " time")
    await committed(log)
    assert await stored(log) == ["Once", " upon", " a", " time"] and len(by_thread) == 3


def test_leases_are_renewed_and_stops_asked_for_while_words_are_committed() -> None:
    """Each locks many streams, and none may lock them in an order of its own."""
    found = [Stream.objects.claim(new_stream().pk, "w", 600) for _ in range(40)]
    streams = [stream for stream in found if stream is not None]
    leases = [stream.lease for stream in streams if stream.lease]
    failed: list[BaseException] = []

    def often(work: Callable[[int], object]) -> threading.Thread:
        def run() -> None:
            try:
                for n in range(60):
                    work(n)
            except BaseException as error:
                failed.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def commit(n: int) -> None:
        row = (Row(n + 1, "text", "x", None),)
        lost = Stream.objects.append([Entry(stream.pk, stream.lease, row) for stream in streams if stream.lease])
        assert not lost

    def stop(_: int) -> None:
        Stream.objects.filter(worker="w").request_stop()
        with transaction.atomic():
            Stream.objects.filter(worker="w")._locked().update(stop_requested_at=None)

    for thread in [often(commit), often(lambda _: Stream.objects.renew(leases, 600)), often(stop)]:
        thread.join(DEADLINE_S * 3)
    assert not failed and Chunk.objects.count() == 40 * 60
