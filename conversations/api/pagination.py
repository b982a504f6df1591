"""Lists in pages whose cursor is the time and id of the last row given, so that no change of the list hides a row.

Rest framework's own cursors count rows that share a time, and go wrong when one of those is touched or deleted.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Model, Q
from rest_framework import exceptions
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

PAGE_ROWS = 50
MAX_PAGE_ROWS = 100
TICK = timedelta(microseconds=1)


def encode_cursor(time: datetime, pk: UUID) -> str:
    return base64.urlsafe_b64encode(f"{time.isoformat()} {pk}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """The position in a cursor; 400 for one that this site did not make."""
    try:
        raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True)
        time, pk = raw.decode("ascii").split(" ")
        at = datetime.fromisoformat(time)
        if at.tzinfo is None or not 2000 <= at.year < 9000:
            raise ValueError
        return at, UUID(pk)
    except ValueError:
        raise exceptions.ValidationError({"cursor": ["This is not a cursor of this list."]}) from None


def limit_of(request: Request) -> int:
    limit = request.query_params.get("limit", str(PAGE_ROWS))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and int(limit) > 0):
        raise exceptions.ValidationError({"limit": ["A whole number from 1 is required."]})
    return min(int(limit), MAX_PAGE_ROWS)


class Pages(BasePagination):
    """Pages in the order of a time and, where it is the same, the id."""

    by = "created_at"
    newest_first = False

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        limit = limit_of(request)
        if cursor := request.query_params.get("cursor"):
            queryset = queryset.filter(self.behind(*decode_cursor(cursor)))
        sign = "-" if self.newest_first else ""
        rows = list(queryset.order_by(f"{sign}{self.by}", f"{sign}id")[: limit + 1])
        self.next = self.link(request, rows[limit - 1]) if len(rows) > limit else None
        return rows[:limit]

    def behind(self, time: datetime, pk: UUID) -> Q:
        # SQLite compares times as text, and writes its own Now() with three digits where Python writes six: equal times
        # are not equal there, but lie between their neighbours.
        before, after = time - TICK, time + TICK
        same = Q(**{f"{self.by}__gt": before, f"{self.by}__lt": after})
        if self.newest_first:
            return Q(**{f"{self.by}__lte": before}) | same & Q(id__lt=pk)
        return Q(**{f"{self.by}__gte": after}) | same & Q(id__gt=pk)

    def link(self, request: Request, last: Model) -> str:
        cursor = encode_cursor(getattr(last, self.by), last.pk)
        return replace_query_param(request.build_absolute_uri(), "cursor", cursor)

    def get_paginated_response(self, data: Sequence[Any]) -> Response:
        return Response({"next": self.next, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        following = {"type": ["string", "null"], "format": "uri", "description": "The address of the next page."}
        properties = {"next": following, "results": schema}
        return {"type": "object", "required": ["next", "results"], "properties": properties}

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        limit = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_ROWS, "default": PAGE_ROWS}
        return [
            {"name": "cursor", "in": "query", "required": False, "schema": {"type": "string"}},
            {"name": "limit", "in": "query", "required": False, "schema": limit},
        ]


class NewestFirst(Pages):
    by = "updated_at"
    newest_first = True
