"""The statements of the group commit. One adds rows to the log, and only to streams whose leases are still held:

one text and one document of JSON, however large the batch, where there were a query for the leases, parameters for
each row, and a transaction around them. `StreamQuerySet.append` of one row to each stream, before and after, on two
cores; µs of CPU in this process (for SQLite that is the time it takes), in PostgreSQL's, and ms that it takes there:

    rows    SQLite           PostgreSQL: here    there             ms
    1        117 →   64       283 → 101           251 →   112      0.5 → 0.2
    10       250 →  165       507 → 148           445 →   250      0.9 → 0.4
    100     1870 → 1190      2400 → 340          1710 → 1400       4.1 → 1.7

What is left of SQLite's is its own: a page of the index for each stream. Another ends a stream, and has the database
add up what was said: on its own 0.9 → 0.23 ms on SQLite, 2.3 → 0.83 on PostgreSQL. In a log that grew among others
each row is on another page, 2 ms for 500: a commit that the event loop makes tells the database what they are.
Everything that is not part of a commit stays with the ORM.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import orjson
from django.db import DEFAULT_DB_ALIAS, DataError, OperationalError, ProgrammingError, connections, transaction
from django.db.backends.utils import CursorWrapper
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from streaming.frames import RETRY

if TYPE_CHECKING:
    from streaming.frames import Row
    from streaming.models import Entry

Statement = tuple[str, list[Any]]

# Who waited for a lock is given the row as it is by then, so a lease that was lost meanwhile joins nothing. Locks are
# taken in the order of ids: two processes that lock the same rows do not wait for each other.
HELD_POSTGRESQL = """
WITH held AS MATERIALIZED (SELECT id, lease FROM streaming_stream WHERE id = ANY(%s) ORDER BY id FOR UPDATE)"""
# A row can be updated once in a statement, so who begins and ends at once is not among those that only begin.
NOTED_POSTGRESQL = """, begun AS (
    UPDATE streaming_stream SET first_text_at = statement_timestamp()
    FROM held WHERE streaming_stream.id = held.id AND held.lease = ANY(%s)
), ended AS (
    UPDATE streaming_stream SET status = said.value->>2, finish_reason = said.value->>3,
        usage = (said.value->>4)::jsonb, error = (said.value->>5)::jsonb, seq = (said.value->>6)::int,
        text = said.value->>7, reasoning = said.value->>8,
        first_text_at = CASE WHEN (said.value->>9)::bool THEN statement_timestamp() ELSE first_text_at END,
        finished_at = statement_timestamp(), lease = NULL, lease_until = NULL
    FROM jsonb_array_elements(%s) AS said
    JOIN held ON held.id = (said.value->>0)::uuid AND held.lease = (said.value->>1)::uuid
    WHERE streaming_stream.id = held.id
)"""
INSERTED_POSTGRESQL = """
INSERT INTO streaming_chunk (stream_id, seq, kind, text, data, created_at)
SELECT held.id, (said.value->>2)::int, said.value->>3, said.value->>4, (said.value->>5)::jsonb, %s
FROM jsonb_array_elements(%s) AS said
JOIN held ON held.id = (said.value->>0)::uuid AND held.lease = (said.value->>1)::uuid
"""
ADD_POSTGRESQL = HELD_POSTGRESQL + INSERTED_POSTGRESQL
# A statement that writes has the one lock of all writers from its start. CROSS JOIN tells the order of the loops.
ADD_SQLITE = """
INSERT INTO streaming_chunk (stream_id, seq, kind, text, data, created_at)
SELECT held.id, json_extract(said.value, '$[2]'), json_extract(said.value, '$[3]'),
    json_extract(said.value, '$[4]'), json_extract(said.value, '$[5]'), %s
FROM json_each(%s) AS said CROSS JOIN streaming_stream AS held
WHERE held.id = json_extract(said.value, '$[0]') AND held.lease = json_extract(said.value, '$[1]')
"""
ADD_IN_LOOP = ADD_SQLITE.replace("%s", "?")
# Of a word that comes alone, when all caches are cold and the document costs a fifth of its commit.
ADD_WORD_IN_LOOP = """
INSERT INTO streaming_chunk (stream_id, seq, kind, text, created_at)
SELECT id, ?, ?, ?, ? FROM streaming_stream WHERE id = ? AND lease = ?
"""
PASSING_OVER = "ON CONFLICT (stream_id, seq) DO NOTHING"
# What the rows of a stream add up to: streaming.frames.fold, by the database. SQLite keeps to the order of a subquery.
END_POSTGRESQL = """
UPDATE streaming_stream SET status = %s, finish_reason = %s, usage = %s, error = %s, seq = %s,
    (text, reasoning) = (
        SELECT coalesce(string_agg(text, '' ORDER BY seq) FILTER (WHERE kind = 'text'), ''),
            coalesce(string_agg(text, '' ORDER BY seq) FILTER (WHERE kind = 'reasoning'), '')
        FROM streaming_chunk WHERE stream_id = streaming_stream.id AND seq > coalesce(
            (SELECT max(seq) FROM streaming_chunk WHERE stream_id = streaming_stream.id AND kind = 'restart'), 0)),
    finished_at = statement_timestamp(), lease = NULL, lease_until = NULL
WHERE id = %s AND lease = %s
"""
END_SQLITE = """
UPDATE streaming_stream SET status = %s, finish_reason = %s, usage = %s, error = %s, seq = %s,
    (text, reasoning) = (
        SELECT coalesce(group_concat(text, '') FILTER (WHERE kind = 'text'), ''),
            coalesce(group_concat(text, '') FILTER (WHERE kind = 'reasoning'), '')
        FROM (SELECT kind, text FROM streaming_chunk WHERE stream_id = streaming_stream.id AND seq > coalesce(
            (SELECT max(seq) FROM streaming_chunk WHERE stream_id = streaming_stream.id AND kind = 'restart'), 0)
            ORDER BY seq)),
    finished_at = strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'), lease = NULL, lease_until = NULL
WHERE id = %s AND lease = %s
"""
NOW = {"postgresql": "statement_timestamp()", "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"}
BEGUN = "UPDATE streaming_stream SET first_text_at = {now} WHERE lease = %s"
BEGUN_IN_LOOP = """
UPDATE streaming_stream SET first_text_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
WHERE lease IN (SELECT value FROM json_each(?))
"""
END_IN_LOOP = """
UPDATE streaming_stream SET status = json_extract(said.value, '$[2]'), finish_reason = json_extract(said.value, '$[3]'),
    usage = json_extract(said.value, '$[4]'), error = json_extract(said.value, '$[5]'),
    seq = json_extract(said.value, '$[6]'),
    text = json_extract(said.value, '$[7]'), reasoning = json_extract(said.value, '$[8]'),
    finished_at = strftime('%Y-%m-%d %H:%M:%f', 'now'), lease = NULL, lease_until = NULL
FROM json_each(?) AS said
WHERE streaming_stream.id = json_extract(said.value, '$[0]') AND lease = json_extract(said.value, '$[1]')
"""
ATTEMPT = "UPDATE streaming_stream SET attempt = %s WHERE lease = %s"
# To plan these takes PostgreSQL as long as to carry them out, so each of its connections is told them once.
PREPARED = {
    "add_rows": (ADD_POSTGRESQL, ("uuid[]", "timestamptz", "jsonb")),
    "end_stream": (END_POSTGRESQL, ("text", "text", "jsonb", "jsonb", "int", "uuid", "uuid")),
}

# The same for a connection that is libpq's own, where a commit is one statement.
NATIVELY = {
    b"add_rows": PREPARED["add_rows"],
    b"add_noted_rows": (
        HELD_POSTGRESQL + NOTED_POSTGRESQL + INSERTED_POSTGRESQL,
        ("uuid[]", "uuid[]", "jsonb", "timestamptz", "jsonb"),
    ),
}

# A connection was not told them after all, or twice: what pools servers may have exchanged the one behind it.
NOT_AS_TOLD = {"26000", "42P05"}

_told: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def append(entries: Sequence[Entry], *, again: bool = False) -> tuple[int, dict[uuid.UUID, bool]]:
    """Add the entries' rows under their leases, and note what they tell of their streams, in one transaction: who sees
    an `end` row sees the final status and text, and no successor comes between a lease and its rows.

    Tells how many rows were added, fewer than there are if a lease is not, or no longer, that; and for each stream of
    which there was something to note, whether it was.

    `again`: rows that are there already are passed over, and not counted.
    """
    database = connections[DEFAULT_DB_ALIAS]  # Each look at what `connection` is takes as long as a row.
    with database.cursor() as cursor:
        if database.vendor == "postgresql":
            add, end = (ADD_POSTGRESQL if again else _call("add_rows")), _call("end_stream")
        else:
            add, end = ADD_SQLITE, END_SQLITE
        added = (add + PASSING_OVER * again, _values(database.vendor, entries))
        notes = [(entry.stream, each) for entry in entries for each in _notes(entry, end, NOW[database.vendor])]
        run = _as_one if database.vendor == "postgresql" else _in_turn
        count, *noted = run(cursor, [added, *(statement for _, statement in notes)])
    return count, {stream: bool(done) for (stream, _), done in zip(notes, noted, strict=True)}


def append_word_natively(connection: sqlite3.Connection, entry: Entry) -> int:
    """Add an entry's one row, which is words, on a connection that is SQLite's own; how many rows were added."""
    (row,) = entry.rows
    values = row.seq, row.kind, _text(row), _now_in_sqlite(), entry.stream.hex, entry.lease.hex
    return connection.execute(ADD_WORD_IN_LOOP, values).rowcount


def append_natively(connection: sqlite3.Connection, entries: Sequence[Entry]) -> int:
    """`append` on a connection that is SQLite's own, for entries that tell what their streams said and of no retry; how
    many rows were added. Where there is something to note and a lease is lost, nothing is done.

    However many they are, these are few statements: the interpreter may be another thread's after each, for 5 ms.
    """
    added = ADD_IN_LOOP, _values("sqlite", entries)
    begun = [entry.lease.hex for entry in entries if entry.first_words]
    ended = _ended(entries)
    if not begun and not ended:
        return connection.execute(*added).rowcount
    try:
        connection.execute("BEGIN IMMEDIATE")
        count = connection.execute(*added).rowcount
        if count < sum(len(entry.rows) for entry in entries):
            return 0
        for sql, noted in ((BEGUN_IN_LOOP, begun), (END_IN_LOOP, ended)):
            if noted:
                connection.execute(sql, [orjson.dumps(noted).decode()])
        connection.execute("COMMIT")
        return count
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def asked(entries: Sequence[Entry]) -> tuple[bytes, list[bytes]]:
    """Which of NATIVELY adds the rows of these entries, each of which tells all, and its values."""
    ids, rows = _array({entry.stream for entry in entries}), [_now().encode(), _document(entries)]
    begun = {entry.lease for entry in entries if entry.first_words and not entry.outcome}
    ended = _ended(entries)
    if not begun and not ended:
        return b"add_rows", [ids.encode(), *rows]
    return b"add_noted_rows", [ids.encode(), _array(begun).encode(), orjson.dumps(ended), *rows]


def _ended(entries: Sequence[Entry]) -> list[list[Any]]:
    """What is to be noted of the streams that end, of each its id and lease before it and whether it begins behind."""
    return [
        [
            entry.stream.hex,
            entry.lease.hex,
            outcome.status,
            outcome.finish_reason or "",
            *(None if data is None else json.dumps(data) for data in (outcome.usage, outcome.error)),
            entry.rows[-1].seq,
            said.text,
            said.reasoning,
            entry.first_words,
        ]
        for entry in entries
        if (outcome := entry.outcome) and (said := entry.said)
    ]


def tell(connection: PGconn) -> None:
    """Prepare NATIVELY on a connection that is libpq's own."""
    for name, (sql, types) in NATIVELY.items():
        places = tuple(f"${number}::{kind}" for number, kind in enumerate(types, 1))
        prepared = connection.prepare(name, (sql % places).encode())
        if prepared.status != ExecStatus.COMMAND_OK:
            raise OperationalError(prepared.get_error_message())


def _values(vendor: str, entries: Sequence[Entry]) -> list[str]:
    """The values of the statement that adds rows."""
    document = _document(entries).decode()
    if vendor == "postgresql":
        return [_array({entry.stream for entry in entries}), _now(), document]
    return [_now_in_sqlite(), document]


def _array(ids: Iterable[uuid.UUID]) -> str:
    return "{" + ",".join(each.hex for each in ids) + "}"


def _now() -> str:
    return datetime.now(UTC).isoformat(" ", "microseconds")


def _now_in_sqlite() -> str:
    return _now().removesuffix("+00:00")


def _text(row: Row) -> str:
    if "\0" in row.text:
        raise DataError("a text has a NUL character")  # PostgreSQL says so too; SQLite would cut the text off there.
    return row.text


def _document(entries: Sequence[Entry]) -> bytes:
    """The rows, each behind the id and the lease of its stream."""
    said = [
        (
            entry.stream.hex,
            entry.lease.hex,
            row.seq,
            row.kind,
            _text(row),
            None if row.data is None else json.dumps(row.data),
        )
        for entry in entries
        for row in entry.rows
    ]
    return orjson.dumps(said)


def _notes(entry: Entry, end: str, now: str) -> Iterator[Statement]:
    """What keeps the stream's own columns in step with its rows, where those tell more than words."""
    stream, lease = entry.stream.hex, entry.lease.hex
    if entry.first_words:
        yield BEGUN.format(now=now), [lease]
    for row in entry.rows:
        if row.kind == RETRY and row.data:
            yield ATTEMPT, [row.data["attempt"], lease]
    if entry.outcome is not None:
        said = entry.outcome
        usage, error = (None if data is None else json.dumps(data) for data in (said.usage, said.error))
        yield end, [said.status, said.finish_reason or "", usage, error, entry.rows[-1].seq, stream, lease]


def _in_turn(cursor: CursorWrapper, statements: Sequence[Statement]) -> list[int]:
    """How many rows each statement was about."""
    with transaction.atomic() if len(statements) > 1 else nullcontext():
        return [cursor.execute(*statement).rowcount for statement in statements]


def _as_one(cursor: CursorWrapper, statements: Sequence[Statement]) -> list[int]:
    """The same as one message ("simple query"), which PostgreSQL begins when it has all of it and ends by itself: a
    process that is paused meanwhile keeps nobody from its streams. (Not so in a pipeline, within which a paused process
    is not taken to be idle in its transaction, and nothing would end that.)"""
    try:
        _prepare(cursor)
        cursor.execute(";".join(sql for sql, _ in statements), [value for _, values in statements for value in values])
    except ProgrammingError as error:
        if getattr(error.__cause__, "sqlstate", None) not in NOT_AS_TOLD:
            raise
        cursor.db.connection.close()
        raise OperationalError("a connection that was not what it had been is closed") from error
    counts = [cursor.rowcount]
    while cursor.nextset():
        counts.append(cursor.rowcount)
    return counts


def _prepare(cursor: CursorWrapper) -> None:
    told = _told.setdefault(cursor.db.connection, set())
    for name, (sql, types) in PREPARED.items():
        if name not in told:
            places = tuple(f"${number}" for number in range(1, len(types) + 1))
            cursor.execute(f"PREPARE {name} ({', '.join(types)}) AS {sql % places}")
            told.add(name)


def _call(name: str) -> str:
    """A statement that was prepared, with places for its values."""
    return f"EXECUTE {name} ({', '.join('%s' for _ in PREPARED[name][1])})"
