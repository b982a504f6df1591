"""Queries that are asked all the time, whose SQL is made once: that takes the ORM twenty times as long as it takes the
database to answer that there is nothing new."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models import QuerySet


class Repeated:
    """A query as it was when this was made: with the same values each time."""

    def __init__(self, query: QuerySet[Any, Any]) -> None:
        self._sql, self._values = query.query.sql_with_params()

    def rows(self) -> list[tuple[Any, ...]]:
        """As the driver of the database gives them: an id is a UUID from PostgreSQL, and text from SQLite."""
        with connection.cursor() as cursor:
            cursor.execute(self._sql, self._values)
            return list(cursor.fetchall())
