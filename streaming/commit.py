"""The statements of the group commit. One adds rows to the log, and only to streams whose leases are still held:

one text and one document of JSON, however large the batch, where there were a query for the leases, parameters for
each row, and a transaction around them. `StreamQuerySet.append` of one row to each stream, before and after, on two
cores; µs of CPU in this process (for SQLite that is the time it takes), in PostgreSQL's, and ms that it takes there:

    rows    SQLite           PostgreSQL: here    there             ms
    1        117 →   64       283 → 101           251 →   112      0.5 → 0.2
    10       250 →  165       507 → 148           445 →   250      0.9 → 0.4
    100     1870 → 1190      2400 → 340          1710 → 1400       4.1 → 1.7

What is left of SQLite's is its own: a page of the index for each stream. The other ends streams, and has the database
add up what they say: an end on its own took 0.9 ms (SQLite) and 2.3 (PostgreSQL, half of it here), and takes 0.23 and
1.2 (a quarter of it here). Everything that is not in the path of every delta or of every answer's end stays with the
ORM.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from django.db import DEFAULT_DB_ALIAS, DataError, connections
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from streaming.frames import Row

# Who waited for a lock is given the row as it is by then, so a lease that was lost meanwhile joins nothing. Locks are
# taken in the order of ids: two processes that lock the same rows do not wait for each other.
POSTGRESQL = """
WITH held AS MATERIALIZED (SELECT id, lease FROM streaming_stream WHERE id = ANY(%s) ORDER BY id FOR UPDATE)
INSERT INTO streaming_chunk (stream_id, seq, kind, text, data, created_at)
SELECT held.id, (said.value->>2)::int, said.value->>3, said.value->>4, (said.value->>5)::jsonb, %s
FROM jsonb_array_elements(%s) AS said
JOIN held ON held.id = (said.value->>0)::uuid AND held.lease = (said.value->>1)::uuid
"""
# A statement that writes has the one lock of all writers from its start. CROSS JOIN tells the order of the loops.
SQLITE = """
INSERT INTO streaming_chunk (stream_id, seq, kind, text, data, created_at)
SELECT held.id, json_extract(said.value, '$[2]'), json_extract(said.value, '$[3]'),
    json_extract(said.value, '$[4]'), json_extract(said.value, '$[5]'), %s
FROM json_each(%s) AS said CROSS JOIN streaming_stream AS held
WHERE held.id = json_extract(said.value, '$[0]') AND held.lease = json_extract(said.value, '$[1]')
"""
PASSING_OVER = "ON CONFLICT (stream_id, seq) DO NOTHING"

# What the rows of a stream add up to: streaming.frames.fold, by the database. SQLite keeps to the order of a subquery.
END_POSTGRESQL = """
UPDATE streaming_stream SET status = ended.value->>0, finish_reason = ended.value->>1,
    usage = (ended.value->>2)::jsonb, error = (ended.value->>3)::jsonb, seq = (ended.value->>4)::int,
    (text, reasoning) = (
        SELECT coalesce(string_agg(text, '' ORDER BY seq) FILTER (WHERE kind = 'text'), ''),
            coalesce(string_agg(text, '' ORDER BY seq) FILTER (WHERE kind = 'reasoning'), '')
        FROM streaming_chunk WHERE stream_id = streaming_stream.id AND seq > coalesce(
            (SELECT max(seq) FROM streaming_chunk WHERE stream_id = streaming_stream.id AND kind = 'restart'), 0)),
    finished_at = statement_timestamp(), lease = NULL, lease_until = NULL
FROM jsonb_array_elements(%s) AS ended WHERE id = (ended.value->>5)::uuid
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
WHERE id = %s
"""

# The names of the statements that each connection was told.
_prepared: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def add_rows(rows: Iterable[tuple[uuid.UUID, uuid.UUID, Row]], *, again: bool = False) -> int:
    """Add rows under (stream, lease), and tell how many that were: fewer if a lease is not, or no longer, that.

    Outside of a transaction it is one of its own. PostgreSQL is sent it as one message ("simple query"), begins when
    it has all of it and ends by itself: a process that is paused meanwhile keeps nobody from its streams. (Not so in a
    pipeline, within which a paused process is not taken to be idle in its transaction, and nothing would end that.)

    `again`: rows that are there already are passed over, and not counted.
    """
    said = [
        (stream.hex, lease.hex, row.seq, row.kind, row.text, None if row.data is None else json.dumps(row.data))
        for stream, lease, row in rows
    ]
    if any("\0" in row[4] for row in said):
        raise DataError("a text has a NUL character")  # PostgreSQL says so too; SQLite would cut the text off there.
    database = connections[DEFAULT_DB_ALIAS]  # Each look at what `connection` is takes as long as a row.
    sql, values = SQLITE, [database.ops.adapt_datetimefield_value(timezone.now()), orjson.dumps(said).decode()]
    with database.cursor() as cursor:
        if database.vendor == "postgresql":
            sql = POSTGRESQL if again else _prepare(cursor, "add_rows", POSTGRESQL, "uuid[]", "timestamptz", "jsonb")
            values = ["{" + ",".join({row[0] for row in said}) + "}", *values]
        if again:
            sql += PASSING_OVER
        cursor.execute(sql, values)
        return int(cursor.rowcount)


def end_streams(ended: Iterable[tuple[uuid.UUID, int, dict[str, Any]]]) -> None:
    """Give each (stream, last seq, what its `end` row says) its final state; in the transaction that added the row."""
    states = [
        (
            end["status"],
            end["finish_reason"] or "",
            None if end["usage"] is None else json.dumps(end["usage"]),
            None if end["error"] is None else json.dumps(end["error"]),
            seq,
            stream.hex,
        )
        for stream, seq, end in ended
    ]
    if not states:
        return
    database = connections[DEFAULT_DB_ALIAS]
    with database.cursor() as cursor:
        if database.vendor == "postgresql":
            cursor.execute(_prepare(cursor, "end_streams", END_POSTGRESQL, "jsonb"), [json.dumps(states)])
        else:
            cursor.executemany(END_SQLITE, states)


def _prepare(cursor: CursorWrapper, name: str, sql: str, *types: str) -> str:
    """The statement by its name in this connection: to plan it takes PostgreSQL as long as to carry it out."""
    prepared = _prepared.setdefault(cursor.db.connection, set())
    if name not in prepared:
        places = tuple(f"${number}" for number in range(1, len(types) + 1))
        cursor.execute(f"PREPARE {name} ({', '.join(types)}) AS {sql % places}")
        prepared.add(name)
    return f"EXECUTE {name} ({', '.join(['%s'] * len(types))})"
