"""Lists in pages: newest conversations first, messages in their order, both stable while rows are added."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db.models import DateTimeField
from rest_framework import exceptions
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

BAD_CURSOR = {"cursor": ["This is not a cursor of this list."]}


class Pages(CursorPagination):
    """Cursor pages over a list ordered by a time; `limit` rows at most."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 100
    # Every position is a time: a reply shares its prompt's, and the id decides between them.
    ordering: tuple[str, ...] = ("created_at", "id")

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Rest framework passes a forged position on to the database, and calls a malformed cursor a missing page."""
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None and cursor.position is not None:
                DateTimeField().to_python(cursor.position)
        except (exceptions.NotFound, ValidationError) as error:
            raise exceptions.ValidationError(BAD_CURSOR) from error
        return cursor

    def get_page_size(self, request: Request) -> int:
        limit = request.query_params.get("limit", str(self.page_size))
        if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and int(limit) > 0):
            raise exceptions.ValidationError({"limit": ["A whole number from 1 is required."]})
        return min(int(limit), self.max_page_size)


class NewestFirst(Pages):
    ordering = ("-updated_at", "-id")
