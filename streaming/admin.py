"""What admin pages of rows that only the engine writes have in common, and those of the log's rows.

The streams' own are in streaming/streamadmin.py; conversations/admin.py, which knows whose they are, registers them.
"""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import BooleanField, OuterRef, QuerySet, Subquery, Value
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

from streaming import masking
from streaming.dashboard import DashboardAdmin
from streaming.frames import END, REASONING, RESTART, RETRY, SPOKEN, TEXT
from streaming.models import Chunk, Process, Stream

logger = logging.getLogger(__name__)
COUNTED_ROWS = 10_000
SHOWN_CHARS = 100_000
NOTHING = "–"


class BoundedPaginator(Paginator[Any]):
    """Counts no further than COUNTED_ROWS, so that is what "all" looks like: the rest is reached by a filter."""

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        return rows.order_by().values("pk")[:COUNTED_ROWS].count() if isinstance(rows, QuerySet) else len(rows)


class BoundedAdmin(admin.ModelAdmin[Any]):
    """Lists that stay quick, and are filtered by nothing but what they offer.

    Django lets an address filter by any column: by who is found it would tell what a hidden text says.
    """

    paginator = BoundedPaginator
    show_full_result_count = False
    linked: tuple[str, ...] = ()  # What other pages' links to the list filter by.

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        filters: Any = self.get_list_filter(request)
        offered = {each if isinstance(each, str) else each.parameter_name for each in filters}
        return lookup in {*self.linked, *offered} or lookup.rpartition("__")[0] in offered


class ReadOnlyAdmin(BoundedAdmin):
    """Rows that only the engine writes."""

    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50

    class Media:
        css = {"all": ("css/admin.css",)}

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def is_list(request: HttpRequest) -> bool:
    """Whether the rows are for a list, which shows no whole texts."""
    return bool(request.resolver_match and (request.resolver_match.url_name or "").endswith("_changelist"))


def pre(text: str) -> SafeString | str:
    """Text as it is, cut where a browser would begin to suffer."""
    if not text:
        return NOTHING
    cut = format_html("<p>… and {} more characters.</p>", len(text) - SHOWN_CHARS) if len(text) > SHOWN_CHARS else ""
    return format_html('<pre class="log">{}</pre>{}', text[:SHOWN_CHARS], cut)


def may_see_text(request: HttpRequest) -> bool:
    """Whether this person may see what people asked and were answered."""
    return request.user.has_perm("streaming.see_text")


def note_look(request: HttpRequest, stream: UUID) -> None:
    """Who saw whose words, for the log."""
    logger.info("%s looks at what stream %s says", request.user, stream)


def show(chunk: Chunk, *, personal: bool, fed: bool) -> str:
    """What a row says, short enough for a table; with its blanks and line ends to be seen."""
    if chunk.kind in SPOKEN and not personal:
        return masking.masked(chunk.text)
    content = chunk.text if chunk.kind in SPOKEN else masking.data_for(chunk.data, personal=personal, fed=fed)
    said = json.dumps(content, ensure_ascii=False)
    return said if len(said) <= 200 else f"{said[:200]}…"


class KindFilter(admin.SimpleListFilter):
    """Offered inside one stream only: no index finds a kind among the rows of all of them."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        inside = any(name.startswith("stream") for name in request.GET)
        return [(kind, kind) for kind in (TEXT, REASONING, RETRY, RESTART, END)] if inside else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Chunk]) -> QuerySet[Chunk]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(Chunk)
class ChunkAdmin(ReadOnlyAdmin):
    list_display = ("seq", "kind", "said", "characters", "created_at", "of_stream")
    list_filter = (KindFilter,)
    linked = ("stream__id__exact",)
    list_display_links = ("seq",)
    # By "stream" would be by when it began, which no index of the rows knows.
    ordering = ("stream_id", "seq")
    sortable_by = ()
    fields = ("of_stream", "seq", "kind", "created_at", "whole")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        shown = super().changelist_view(request, extra_context)
        if may_see_text(request):
            logger.info("%s looks at what rows of the log say: %s", request.user, request.GET.urlencode() or "all")
        return shown

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if may_see_text(request):
            note_look(request, kwargs["obj"].stream_id)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Chunk]:
        rows: QuerySet[Chunk] = super().get_queryset(request)
        fed = Subquery(Stream.objects.filter(pk=OuterRef("stream_id")).values("fed")[:1])  # A join would be slow.
        return rows.annotate(personal=Value(may_see_text(request), output_field=BooleanField()), fed=fed)

    @admin.display(description="content")
    def said(self, chunk: Chunk) -> str:
        return format_html("<code>{}</code>", show(chunk, personal=personal(chunk), fed=is_fed(chunk)))

    @admin.display(description="characters")
    def characters(self, chunk: Chunk) -> int:
        return len(chunk.text)

    @admin.display(description="stream")
    def of_stream(self, chunk: Chunk) -> str:
        address = reverse("admin:streaming_stream_change", args=[chunk.stream_id])
        return format_html('<a href="{}">{}</a>', address, chunk.stream_id)

    @admin.display(description="content")
    def whole(self, chunk: Chunk) -> str:
        if chunk.kind in SPOKEN:
            return pre(chunk.text if personal(chunk) else masking.masked(chunk.text))
        data = masking.data_for(chunk.data, personal=personal(chunk), fed=is_fed(chunk))
        return pre(json.dumps(data, indent=2, ensure_ascii=False))


def personal(row: Chunk | Stream) -> bool:
    """Whether the row was loaded for somebody who may read it."""
    return bool(getattr(row, "personal", False))


def is_fed(chunk: Chunk) -> bool:
    """Whether a program wrote the row, as far as is known of it: it was loaded with that."""
    return bool(getattr(chunk, "fed", True))


admin.site.register(Process, DashboardAdmin)
