"""The statements of the group commit, made from the models once and run without building a query each time.

Measured on two cores, SQLite: 0.09 ms for one row and 22 µs a row in bulk, against 0.8 ms and 108 µs for the same
through querysets. Everything that is not in the path of every delta stays with the ORM.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from django.db import connection, models
from django.utils import timezone

from streaming.frames import Row

# Rows to a statement: far below the number of parameters that any database takes.
ROWS_AT_ONCE = 100


@cache
def _insert(model: type[models.Model], names: tuple[str, ...]) -> tuple[str, str, list[models.Field[Any, Any]]]:
    """The statement up to its rows, the places of one row, and its fields."""
    concrete = {field.name: field for field in model._meta.concrete_fields}
    fields = [concrete[name] for name in names]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    # Of the model's own names; values are parameters.
    return f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ", f"({places})", fields  # nosec B608


def locked_leases(model: type[models.Model], streams: Sequence[uuid.UUID]) -> dict[Any, Any]:
    """The leases of `streams` as the database tells ids (`adapter`), their rows locked until the transaction's end."""
    quote = connection.ops.quote_name
    adapt = adapter()
    lock = f" {connection.ops.for_update_sql()}" if connection.features.has_select_for_update else ""
    places = ", ".join(["%s"] * len(streams))
    # In the order of their ids, so that two processes which lock the same rows do not wait for each other.
    sql = f"SELECT id, lease FROM {quote(model._meta.db_table)} WHERE id IN ({places}) ORDER BY id{lock}"  # nosec B608
    with connection.cursor() as cursor:
        cursor.execute(sql, [adapt(stream) for stream in streams])
        return dict(cursor.fetchall())


def adapter() -> Callable[[uuid.UUID], Any]:
    """What turns an id into the form that this database stores and tells."""
    return _as_is if connection.features.has_native_uuid_field else _as_hex


def _as_is(value: uuid.UUID) -> uuid.UUID:
    return value


def _as_hex(value: uuid.UUID) -> str:
    return value.hex


def insert_rows(model: type[models.Model], rows: Iterable[tuple[uuid.UUID, Row]]) -> None:
    """Add log rows to their streams.

    Not by `executemany`, a pipeline on PostgreSQL: a process that is paused within one is not taken to be idle in its
    transaction, so nothing would end that, and its locks, until it goes on.
    """
    sql, row_places, fields = _insert(model, ("seq", "kind", "text", "data", "stream", "created_at"))
    data = fields[3]
    adapt = adapter()
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    values = [
        (row.seq, row.kind, row.text, data.get_db_prep_save(row.data, connection), adapt(stream), now)
        for stream, row in rows
    ]
    with connection.cursor() as cursor:
        for start in range(0, len(values), ROWS_AT_ONCE):
            part = values[start : start + ROWS_AT_ONCE]
            cursor.execute(sql + ", ".join([row_places] * len(part)), [value for row in part for value in row])
