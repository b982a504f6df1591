"""Streams and their chunks for the people who run the site: to be looked at and stopped, never to be written.

Lists stay fast with millions of rows: no column needs the chunks, big texts are not loaded, counting ends somewhere.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from streaming import engine
from streaming.frames import END, REASONING, RESTART, RETRY, TEXT
from streaming.models import Chunk, Stream

COUNTED_ROWS = 10_000
SHOWN_CHUNKS = 20
SHOWN_CHARS = 100_000
NOTHING = "–"
TIMES = ("created_at", "claimed_at", "first_text_at", "stop_requested_at", "lease_until", "finished_at")


class BoundedPaginator(Paginator[Any]):
    """Counts no further than COUNTED_ROWS, so that is what "all" looks like: the rest is reached by a filter."""

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        return rows.order_by()[:COUNTED_ROWS].count() if isinstance(rows, QuerySet) else len(rows)


class ReadOnlyAdmin(admin.ModelAdmin[Any]):
    """Rows that only the engine writes."""

    paginator = BoundedPaginator
    show_full_result_count = False
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


def seconds(start: datetime | None, end: datetime | None) -> str:
    return f"{(end - start).total_seconds():.2f} s" if start and end else NOTHING


def pre(text: str) -> SafeString | str:
    """Text as it is, cut where a browser would begin to suffer."""
    if not text:
        return NOTHING
    cut = format_html("<p>… and {} more characters.</p>", len(text) - SHOWN_CHARS) if len(text) > SHOWN_CHARS else ""
    return format_html('<pre class="log">{}</pre>{}', text[:SHOWN_CHARS], cut)


@admin.register(Stream)
class StreamAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "status",
        "attempt",
        "created",
        "queue_time",
        "first_text",
        "duration",
        "size",
        "speed",
    )
    list_filter = ("status", "created_at")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    sortable_by = ("created",)
    search_fields = ("topic", "text")
    search_help_text = "The id of a stream, its whole topic, or words of a finished answer."
    actions = ("stop",)
    fieldsets = (
        (None, {"fields": ("id", "topic", "status", "finish_reason", "failure", "attempt", "worker", "stopping")}),
        ("Times", {"fields": ("queue_time", "first_text", "duration", "speed", *TIMES)}),
        ("Answer", {"fields": ("answer", "thinking", "usage_counts")}),
        ("Request", {"fields": ("exact_request",)}),
        ("Log", {"fields": ("seq", "log")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Stream]:
        streams: QuerySet[Stream] = super().get_queryset(request).annotate(chars=Length("text"))
        return streams.defer("request", "text", "reasoning", "usage", "error") if is_list(request) else streams

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Stream], search_term: str
    ) -> tuple[QuerySet[Stream], bool]:
        """An id or a whole topic is found by its index; only words have to be looked for in every answer."""
        term = search_term.strip()
        try:
            return queryset.filter(pk=UUID(term)), False
        except ValueError:
            pass
        if term and queryset.filter(topic=term).exists():
            return queryset.filter(topic=term), False
        found: tuple[QuerySet[Stream], bool] = super().get_search_results(request, queryset, search_term)
        return found

    def has_stop_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("streaming.change_stream")

    @admin.action(description="Stop the selected streams", permissions=["stop"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Stream]) -> None:
        chosen = Stream.objects.filter(pk__in=queryset.order_by().values("pk"))
        stopped = engine.stop(chosen)
        said = f"Asked to stop: {stopped}. Ended or asked before: {chosen.count() - stopped}."
        self.message_user(request, said, messages.SUCCESS if stopped else messages.WARNING)

    @admin.display(description="created (UTC)", ordering="created_at")
    def created(self, stream: Stream) -> str:
        return f"{stream.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"

    @admin.display(description="queued")
    def queue_time(self, stream: Stream) -> str:
        # A claim after the first text took the stream over from a dead worker; the first one's time is not kept.
        taken_over = stream.first_text_at and stream.claimed_at and stream.claimed_at > stream.first_text_at
        return NOTHING if taken_over else seconds(stream.created_at, stream.claimed_at)

    @admin.display(description="first text")
    def first_text(self, stream: Stream) -> str:
        return seconds(stream.created_at, stream.first_text_at)

    @admin.display(description="took")
    def duration(self, stream: Stream) -> str:
        return seconds(stream.created_at, stream.finished_at)

    @admin.display(description="characters")
    def size(self, stream: Stream) -> str:
        return NOTHING if stream.is_live else f"{self.chars(stream):,}"

    @admin.display(description="characters/s")
    def speed(self, stream: Stream) -> str:
        if not (stream.first_text_at and stream.finished_at):
            return NOTHING
        took_s = (stream.finished_at - stream.first_text_at).total_seconds()
        return f"{self.chars(stream) / took_s:.0f}" if took_s > 0 else NOTHING

    @staticmethod
    def chars(stream: Stream) -> int:
        return int(getattr(stream, "chars", 0))

    @admin.display(description="stop asked", boolean=True)
    def stopping(self, stream: Stream) -> bool:
        return stream.stop_requested_at is not None

    @admin.display(description="error")
    def failure(self, stream: Stream) -> str:
        return f"{stream.error.get('code')}: {stream.error.get('detail')}" if stream.error else NOTHING

    @admin.display(description="text")
    def answer(self, stream: Stream) -> str:
        return pre(stream.said().text)

    @admin.display(description="reasoning")
    def thinking(self, stream: Stream) -> str:
        return pre(stream.said().reasoning)

    @admin.display(description="usage")
    def usage_counts(self, stream: Stream) -> str:
        return pre(json.dumps(stream.usage, indent=2)) if stream.usage else NOTHING

    @admin.display(description="sent to the model")
    def exact_request(self, stream: Stream) -> str:
        return pre(json.dumps(stream.request, indent=2, ensure_ascii=False))

    @admin.display(description="newest rows")
    def log(self, stream: Stream) -> str:
        """The end of the log; all of it is a list of its own."""
        newest = list(Chunk.objects.filter(stream=stream.pk).order_by("-seq")[:SHOWN_CHUNKS])
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            ((chunk.seq, chunk.kind, content(chunk)) for chunk in reversed(newest)),
        )
        everything = f"{reverse('admin:streaming_chunk_changelist')}?stream__id__exact={stream.pk}"
        return format_html('<table>{}</table><p><a href="{}">All rows of this stream</a></p>', rows, everything)


def content(chunk: Chunk) -> str:
    """What a row says, short enough for a table; with its blanks and line ends to be seen."""
    said = json.dumps(chunk.text if chunk.data is None else chunk.data, ensure_ascii=False)
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
    list_display_links = ("seq",)
    sortable_by = ()
    fields = ("of_stream", "seq", "kind", "created_at", "whole")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Chunk]:
        return super().get_queryset(request).order_by("stream", "seq")

    @admin.display(description="content")
    def said(self, chunk: Chunk) -> str:
        return format_html("<code>{}</code>", content(chunk))

    @admin.display(description="characters")
    def characters(self, chunk: Chunk) -> int:
        return len(chunk.text)

    @admin.display(description="stream")
    def of_stream(self, chunk: Chunk) -> str:
        address = reverse("admin:streaming_stream_change", args=[chunk.stream_id])
        return format_html('<a href="{}">{}</a>', address, chunk.stream_id)

    @admin.display(description="content")
    def whole(self, chunk: Chunk) -> str:
        return pre(chunk.text if chunk.data is None else json.dumps(chunk.data, indent=2, ensure_ascii=False))
