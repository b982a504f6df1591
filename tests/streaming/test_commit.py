"""The statement of the group commit: whose rows it adds, what they say afterwards, and whom it waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import (
    DataError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming import commit
from streaming.frames import END, RESTART, RETRY, SPOKEN, TEXT, Row, Said, fold
from streaming.models import Chunk, Entry, Outcome, Status, Stream, new_id
from tests.columns import SCALED, url_of
from tests.conftest import DEADLINE_S, add, finish, new_stream

pytestmark = pytest.mark.django_db(transaction=True)

ODD = [
    "",
    "\\",
    "'",
    '"',
    "'; --",
    "E'\\n'",
    "%s %",
    "$1",
    "{a,NULL}",
    "\\u0000",
    "\x01\x7f\r\n\t",
    "\u2028\uffff",
    "👩\u200d👧 ü",
]

COMMIT = """
import sys, uuid, django
django.setup()
from streaming.models import Entry, Outcome, Row, Stream
rows = Row(1, "text", "said", None), Row(2, "end", "", None)
Stream.objects.append([Entry(*map(uuid.UUID, sys.argv[1:]), rows, outcome=Outcome("done"))])
"""


def claimed(stream: Stream | None = None) -> Stream:
    found = Stream.objects.claim((stream or new_stream()).pk, "w", 600)
    assert found is not None
    return found


def words(stream: Stream, *texts: str, seq: int = 1) -> Entry:
    """The entry that adds these texts, a row each, the first of them as row `seq`."""
    assert stream.lease is not None
    return Entry(stream.pk, stream.lease, tuple(Row(n, TEXT, text, None) for n, text in enumerate(texts, seq)))


def texts(stream: Stream) -> list[str]:
    return [row.text for row in Chunk.objects.rows(stream.pk)]


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    """A thread with a connection of its own, as another process has."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
        pool.submit(connections.close_all).result()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline


def somebody_waits() -> bool:
    """Whether another connection waits for a lock that this one holds; on SQLite that is nowhere to be seen."""
    if not SCALED:
        return True
    with connection.cursor() as cursor:
        cursor.execute("select from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid))")
        return cursor.fetchone() is not None


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(said=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_every_text_is_given_back_as_it_was_said(said: list[str]) -> None:
    stream = claimed()
    assert Stream.objects.append([words(stream, *said, *ODD)]) == set()
    assert texts(stream) == [*said, *ODD]


@pytest.mark.parametrize("text", ["cut\0here", "\0"])
def test_a_text_that_a_database_cannot_hold_is_refused_and_never_cut(text: str) -> None:
    stream = claimed()
    with pytest.raises(DataError):
        Stream.objects.append([words(stream, text)])
    assert texts(stream) == []


def test_what_a_row_that_is_not_words_tells_is_kept_as_it_is() -> None:
    data = {"attempt": 2, "code": "cut", "in_s": 0.5, "detail": "\\u0000 '\" ü", "more": [None, {"a": 2**70}]}
    stream = claimed()
    assert stream.lease is not None
    Stream.objects.append([Entry(stream.pk, stream.lease, (Row(1, RETRY, "", data), Row(2, TEXT, "a", None)))])
    assert [row.data for row in Chunk.objects.rows(stream.pk)] == [data, None]


SAID = st.tuples(st.sampled_from(["text", "reasoning", RETRY, RESTART]), st.sampled_from([*ODD, "b", "a"]))


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(answers=st.lists(st.lists(SAID, max_size=30), min_size=1, max_size=3))
def test_the_database_adds_up_what_a_reader_would(answers: list[list[tuple[str, str]]]) -> None:
    """All of them at once, their rows stored in an order that is not that of their positions."""
    logs = {}
    for said in answers:
        rows = [
            Row(seq, kind, text, None) if kind in SPOKEN else Row(seq, kind, "", {"attempt": 2})
            for seq, (kind, text) in enumerate(said, 1)
        ]
        stream = claimed()
        Chunk.objects.bulk_create(
            Chunk(stream=stream, seq=r.seq, kind=r.kind, text=r.text, data=r.data) for r in reversed(rows)
        )
        logs[stream] = rows
    outcome = Outcome(Status.ERROR, "length", {"total": 2**40, "of": [None, "ü\\"]}, {"code": "c", "detail": "'d"})
    ends = {stream: Row(len(rows) + 1, "end", "", outcome.data()) for stream, rows in logs.items()}
    entries = [Entry(stream.pk, stream.lease, (end,), outcome=outcome) for stream, end in ends.items() if stream.lease]
    assert Stream.objects.append(entries) == set()
    for stream, rows in logs.items():
        stream.refresh_from_db()
        assert stream.said() == fold([*rows, ends[stream]])
        assert (stream.status, stream.finish_reason) == (outcome.status, outcome.finish_reason)
        assert (stream.usage, stream.error, stream.lease) == (outcome.usage, outcome.error, None)
        assert stream.finished_at is not None
        assert abs((timezone.now() - stream.finished_at).total_seconds()) < DEADLINE_S


@pytest.mark.parametrize("count", [1, 300])
def test_words_are_one_query_however_many_streams_say_them(count: int, django_assert_num_queries: Any) -> None:
    streams = [claimed() for _ in range(count)]
    add(streams[0], 1, "PostgreSQL plans it once.")
    with django_assert_num_queries(1):
        lost = Stream.objects.append([words(stream, "a", "b", seq=2) for stream in streams])
    assert lost == set() and all(texts(stream)[-2:] == ["a", "b"] for stream in streams)


def test_of_one_batch_only_the_holders_of_their_leases_add() -> None:
    mine, lost, gone = claimed(), claimed(), claimed()
    entries = [words(stream, "x", "y") for stream in (lost, mine, gone)]
    Stream.objects.filter(pk=lost.pk).update(lease=mine.lease)
    gone.delete()
    assert Stream.objects.append(entries) == {lost.pk, entries[2].stream}
    assert (texts(mine), texts(lost)) == (["x", "y"], [])


def test_the_notes_of_who_lost_its_lease_are_not_taken() -> None:
    mine, lost = claimed(), claimed()
    outcome = Outcome(Status.DONE)
    rows = Row(1, RETRY, "", {"attempt": 2}), Row(2, TEXT, "x", None), Row(3, "end", "", outcome.data())
    entries = [Entry(stream.pk, stream.lease, rows, True, outcome) for stream in (mine, lost) if stream.lease]
    Stream.objects.filter(pk=lost.pk).update(lease=uuid.uuid4())
    assert Stream.objects.append(entries) == {lost.pk}
    mine.refresh_from_db()
    lost.refresh_from_db()
    assert mine.first_text_at is not None and lost.first_text_at is None
    assert (mine.attempt, lost.attempt) == (2, 1)
    assert (mine.status, lost.status) == (Status.DONE, Status.STREAMING)


def test_what_a_refused_end_said_is_not_there_either() -> None:
    """The statement that ends a stream is one of the transaction that adds its rows."""
    stream = claimed()
    assert stream.lease is not None
    entry = Entry(stream.pk, stream.lease, words(stream, "x").rows, outcome=Outcome("unknown"))
    with pytest.raises(IntegrityError):
        Stream.objects.append([entry])
    assert texts(stream) == []


def test_rows_that_are_there_are_passed_over_only_when_they_may_be_ones_own() -> None:
    there, lost, new = claimed(), claimed(), claimed()
    entries = [words(stream, "x", "y") for stream in (there, lost, new)]
    Stream.objects.append(entries[:2])
    Stream.objects.filter(pk=lost.pk).update(lease=uuid.uuid4())
    with pytest.raises(IntegrityError):
        Stream.objects.append(entries)
    assert texts(new) == []
    assert Stream.objects.append(entries, again=True) == {lost.pk}
    assert texts(there) == texts(new) == ["x", "y"]


@pytest.mark.parametrize("other", [("mine", "stopped"), ("other", "done"), ("mine", None)])
def test_an_end_is_ones_own_only_if_the_log_ends_with_it(other: tuple[str, str | None]) -> None:
    """Nobody hears of words that a successor did not write."""

    def said(stream: Stream, text: str, status: str | None) -> Entry:
        assert stream.lease is not None
        outcome = Outcome(status) if status else None
        end = (Row(2, END, "", outcome.data()),) if outcome else ()
        return Entry(stream.pk, stream.lease, (Row(1, TEXT, text, None), *end), outcome=outcome)

    stream = claimed()
    late = said(stream, "mine", "done")
    Stream.objects.filter(pk=stream.pk).update(lease=uuid.uuid4())
    stream.refresh_from_db()
    Stream.objects.append([said(stream, *other)])
    assert Stream.objects.append([late], again=True) == {stream.pk}
    own = claimed()
    late = said(own, "mine", "done")
    Stream.objects.append([late])
    assert Stream.objects.append([late], again=True) == set()
    assert Stream.objects.append([late]) == {own.pk}


@pytest.mark.parametrize("again", [False, True])
def test_a_lease_that_is_taken_over_while_a_commit_waits_is_lost(beside: ThreadPoolExecutor, again: bool) -> None:
    kept, taken, holds = claimed(), claimed(), threading.Event()

    def take_over() -> None:
        with transaction.atomic():
            Stream.objects.filter(pk=taken.pk).update(lease=uuid.uuid4())
            holds.set()
            wait_until(somebody_waits)

    successor = beside.submit(take_over)
    assert holds.wait(DEADLINE_S)
    assert Stream.objects.append([words(kept, "mine"), words(taken, "late")], again=again) == {taken.pk}
    successor.result(DEADLINE_S)
    assert (texts(kept), texts(taken)) == (["mine"], [])


@pytest.mark.scaled
def test_who_waits_for_one_stream_holds_none_that_comes_after_it(beside: ThreadPoolExecutor) -> None:
    low_id = new_id()
    high = claimed()
    low = claimed(Stream.objects.create(id=low_id, topic="topic", request={}))
    holds = threading.Event()

    def lock_both() -> None:
        with transaction.atomic():
            Stream.objects.select_for_update().get(pk=low.pk)
            holds.set()
            wait_until(somebody_waits)
            Stream.objects.select_for_update(nowait=True).get(pk=high.pk)

    other = beside.submit(lock_both)
    assert holds.wait(DEADLINE_S)
    assert Stream.objects.append([words(high, "a"), words(low, "a")]) == set()
    other.result(DEADLINE_S)


@pytest.mark.scaled
def test_a_process_that_is_paused_in_its_commit_keeps_nobody_from_its_stream() -> None:
    stream = claimed()
    environment = os.environ | {"DATABASE_URL": url_of(connection.settings_dict["NAME"])}
    with transaction.atomic():
        Stream.objects.select_for_update().get(pk=stream.pk)
        paused = subprocess.Popen([sys.executable, "-c", COMMIT, str(stream.pk), str(stream.lease)], env=environment)
        wait_until(somebody_waits)
        paused.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: texts(stream) == ["said", ""])
        ended = Stream.objects.select_for_update(nowait=True)
        with transaction.atomic():
            assert ended.get(pk=stream.pk).said() == Said(2, "said", "")
    finally:
        paused.kill()
        paused.wait()


@pytest.mark.scaled
def test_a_new_connection_is_told_the_statement() -> None:
    stream = claimed()
    add(stream, 1, "a")
    connection.connection.close()
    connection.close()
    add(stream, 2, "b")
    assert texts(stream) == ["a", "b"]


@pytest.mark.scaled
@pytest.mark.parametrize("exchange", ["DEALLOCATE ALL", "DEALLOCATE end_stream"])
def test_a_connection_that_is_not_what_it_was_is_not_used_again(exchange: str) -> None:
    stream = claimed()
    add(stream, 1, "a")
    with connection.cursor() as cursor:
        cursor.execute(exchange)
    with pytest.raises(OperationalError):
        finish(stream, 2)
    connection.close()
    finish(stream, 2)
    assert texts(stream) == ["a", ""]


@pytest.mark.scaled
def test_a_connection_that_was_told_only_one_of_the_statements_is_told_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = claimed()
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # Others in it were told both. PostgreSQL's alone has one.
    add_rows, end_stream = commit.PREPARED.items()
    monkeypatch.setattr(commit, "PREPARED", dict([add_rows, ("end_stream", ("no SQL", ()))]))
    with pytest.raises(ProgrammingError):
        add(stream, 1, "a")
    monkeypatch.setattr(commit, "PREPARED", dict([add_rows, end_stream]))
    add(stream, 1, "a")
    finish(stream, 2)
    assert texts(stream) == ["a", ""]
