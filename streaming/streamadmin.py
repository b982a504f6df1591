"""The admin's window on streams: which there are and how they do, and one stream's whole story.

Lists stay fast with millions of rows: no column adds up chunks, big texts are not loaded, counting ends somewhere.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import BooleanField, Case, F, QuerySet, Value, When
from django.db.models.functions import Length
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import mark_safe

from streaming import engine, masking, recording
from streaming.admin import NOTHING, SHOWN_CHARS, ReadOnlyAdmin, is_list, may_see_text, note_look, personal, show
from streaming.models import LIVE, Chunk, Stream, last_seq
from streaming.rendering import render
from streaming.reporting import readers
from streaming.timeline import timeline
from streaming.unfinished import render_live

logger = logging.getLogger(__name__)
SHOWN_CHUNKS = 20
LOOKS_AT = "looks_at"  # In a session: the stream whose words it was shown last.
AGES = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (float("inf"), 86_400, "d"))
TIMES = ("created_at", "claimed_at", "first_text_at", "stop_requested_at", "lease_until", "finished_at")


def seconds(start: datetime | None, end: datetime | None) -> str:
    return f"{(end - start).total_seconds():.2f} s" if start and end else NOTHING


def age(moment: datetime) -> str:
    passed_s = max((timezone.now() - moment).total_seconds(), 0)
    return next(f"{passed_s / unit_s:.0f} {unit}" for limit_s, unit_s, unit in AGES if passed_s < limit_s)


class ModelFilter(admin.SimpleListFilter):
    """The models that the site offers; another one by its name in the address."""

    title = "model"
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in dict.fromkeys([*settings.LLM_MODELS, *filter(None, [self.value()])])]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Stream]) -> QuerySet[Stream]:
        return queryset.filter(model=self.value()) if self.value() else queryset


class AgeFilter(admin.SimpleListFilter):
    title = "time"
    parameter_name = "within"
    spans = {"10m": ("the last 10 minutes", 600), "1h": ("the last hour", 3600), "1d": ("the last day", 86_400)}
    spans |= {"7d": ("the last 7 days", 7 * 86_400), "30d": ("the last 30 days", 30 * 86_400)}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, label) for name, (label, _) in self.spans.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Stream]) -> QuerySet[Stream]:
        if self.value() not in self.spans:
            return queryset
        return queryset.filter(created_at__gte=timezone.now() - timedelta(seconds=self.spans[str(self.value())][1]))


class Streams(ChangeList):
    """One page of the list, told once how many read what."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        count = readers()
        for stream in self.result_list:
            stream.readers_now = count[stream.topic]


class StreamAdmin(ReadOnlyAdmin):
    """Needs a subclass that says whose the streams are: nothing here knows."""

    list_display: Any = ("short_id", "state", "model", "age", "first_text", "duration", "speed", "rows")
    list_display += ("readers", "attempt", "worker")
    list_filter: ClassVar[Any] = ("status", ModelFilter, AgeFilter)
    linked = ("topic",)
    ordering = ("-created_at",)
    sortable_by = ("age",)
    search_fields = ("text",)
    search_help_text = "The id of a stream, its whole topic, or words of a finished answer."
    actions = ("stop",)
    facts: ClassVar[Any] = (("state", "readers", "attempt", "worker"), ("finish_reason", "failure", "traceback"))
    more: ClassVar[Any] = (
        ("Times", {"classes": ("collapse",), "fields": (("queue_time", "first_text", "duration", "speed"), TIMES)}),
        ("Counts and names", {"classes": ("collapse",), "fields": (("seq", "size"), "usage_counts", "id", "topic")}),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Streams

    def get_queryset(self, request: HttpRequest) -> QuerySet[Stream]:
        streams: QuerySet[Stream] = super().get_queryset(request).annotate(chars=Length("text"))
        streams = streams.annotate(personal=Value(may_see_text(request), output_field=BooleanField()))
        if not is_list(request):
            return streams
        # The last row of those that are being written is one look into the index each; the others know theirs.
        streams = streams.annotate(last=Case(When(status__in=LIVE, then=last_seq()), default=F("seq")))
        return streams.defer("request", "text", "reasoning", "usage", "error")

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
        if term and not may_see_text(request):  # What is found would tell what was said.
            return queryset.none(), False
        found: tuple[QuerySet[Stream], bool] = super().get_search_results(request, queryset, search_term)
        return found

    # ------------------------------------------------------------------------------------------ what can be done

    def has_stop_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("streaming.change_stream")

    @admin.action(description="Stop the selected streams", permissions=["stop"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Stream]) -> None:
        chosen = Stream.objects.filter(pk__in=queryset.order_by().values("pk"))
        stopped = engine.stop(chosen)
        said = f"Asked to stop: {stopped}. Ended or asked before: {chosen.count() - stopped}."
        self.message_user(request, said, messages.SUCCESS if stopped else messages.WARNING)

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("<uuid:pk>/live/", self.admin_site.admin_view(self.live), name="streaming_stream_live"),
            path("<uuid:pk>/export/", self.admin_site.admin_view(self.export), name="streaming_stream_export"),
        ]
        return [*own, *super().get_urls()]

    def found(self, request: HttpRequest, pk: UUID) -> Stream:
        """The stream for somebody who may look at it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        stream: Stream | None = self.get_object(request, str(pk))
        if stream is None:
            raise Http404
        return stream

    def live(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """The part of a stream's page that changes, for a page that asks again and again."""
        stream = self.found(request, pk)
        context = self.story(request, stream)
        if context["personal"] and request.session.get(LOOKS_AT) != str(stream.pk):
            self.note(request, stream)
        headers = {} if stream.is_live else {"HX-Refresh": "true"}  # The whole page has changed: load it once more.
        return TemplateResponse(request, "admin/streaming/stream/_live.html", context, headers=headers)

    def export(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """The stream as a file for `manage.py replay`."""
        stream = self.found(request, pk)
        if not may_see_text(request):
            raise PermissionDenied
        logger.info("%s exports stream %s", request.user, stream.pk)
        headers = {"Content-Disposition": f'attachment; filename="{stream.pk}.jsonl"', "Cache-Control": "no-store"}
        return HttpResponse(b"".join(recording.lines(stream)), content_type="application/jsonl", headers=headers)

    # ------------------------------------------------------------------------------------------ one stream's page

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        context |= self.story(request, kwargs["obj"])
        if context["personal"]:
            self.note(request, kwargs["obj"])
        return super().render_change_form(request, context, *args, **kwargs)

    def note(self, request: HttpRequest, stream: Stream) -> None:
        """Kept in the session as well, so that a page that follows them is one look."""
        note_look(request, stream.pk)
        request.session[LOOKS_AT] = str(stream.pk)

    def story(self, request: HttpRequest, stream: Stream) -> dict[str, Any]:
        """What stands on a stream's page beside its columns: the words only for who may see and wants to."""
        shown = may_see_text(request) and request.GET.get("text") == "shown"
        said = stream.said()
        newest = list(Chunk.objects.filter(stream=stream.pk).order_by("-seq")[:SHOWN_CHUNKS])
        asked = masking.request_for(stream.request, personal=shown)
        return {
            "stream": stream,
            "timeline": timeline(stream, personal=shown),
            "personal": shown,
            "may_see_text": may_see_text(request),
            "following": stream.is_live and request.GET.get("follow") == "1",
            "said": said,
            "shown": said.text[:SHOWN_CHARS] if shown else "",
            "html": answer_html(said.text, stream.is_live) if shown else "",
            "request_json": json.dumps(asked, indent=2, ensure_ascii=False)[:SHOWN_CHARS],
            "newest": [(chunk, show(chunk, personal=shown, fed=stream.fed)) for chunk in reversed(newest)],
            "all_rows": f"{reverse('admin:streaming_chunk_changelist')}?stream__id__exact={stream.pk}",
        }

    # ------------------------------------------------------------------------------------------ columns

    @admin.display(description="stream")
    def short_id(self, stream: Stream) -> str:
        """The end of the id, which is its random part."""
        return format_html('<span title="{}">{}</span>', stream.pk, str(stream.pk)[-12:])

    @admin.display(description="state", ordering="status")
    def state(self, stream: Stream) -> str:
        said = stream.status
        if stream.is_live and stream.stop_requested_at:
            said = "stopping"
        elif stream.is_live and stream.lease_until and stream.lease_until < timezone.now():
            said = "left by its worker"
        return format_html('<span class="state" data-status="{}">{}</span>', stream.status, said)

    @admin.display(description="age", ordering="created_at")
    def age(self, stream: Stream) -> str:
        made = stream.created_at.astimezone(UTC)
        return format_html('<time datetime="{0}" title="{0}">{1}</time>', f"{made:%Y-%m-%d %H:%M:%SZ}", age(made))

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

    @admin.display(description="chars/s")
    def speed(self, stream: Stream) -> str:
        if not (stream.first_text_at and stream.finished_at):
            return NOTHING
        took_s = (stream.finished_at - stream.first_text_at).total_seconds()
        return f"{self.chars(stream) / took_s:.0f}" if took_s > 0 else NOTHING

    @staticmethod
    def chars(stream: Stream) -> int:
        return int(getattr(stream, "chars", 0))

    @admin.display(description="rows")
    def rows(self, stream: Stream) -> int:
        """What it costs: the rows that its log has, or had before it was compacted."""
        return int(getattr(stream, "last", None) or 0)

    @admin.display(description="readers")
    def readers(self, stream: Stream) -> int:
        return stream.readers_now if hasattr(stream, "readers_now") else readers()[stream.topic]

    @admin.display(description="error")
    def failure(self, stream: Stream) -> str:
        error = masking.data_for(stream.error, personal=personal(stream), fed=stream.fed)
        return f"{error.get('code')}: {error.get('detail')}" if error else NOTHING

    @admin.display(description="traceback id")
    def traceback(self, stream: Stream) -> str:
        """What to look for in the log: an unforeseen failure ends its stream and is logged with the stream's id."""
        unforeseen = stream.error and stream.error.get("code") == "internal"
        return f"generation of stream {stream.pk} failed" if unforeseen else NOTHING

    @admin.display(description="usage")
    def usage_counts(self, stream: Stream) -> str:
        return json.dumps(stream.usage) if stream.usage else NOTHING


def answer_html(text: str, live: bool) -> str:
    """The answer as its readers see it, from the one renderer whose HTML may go onto a page."""
    html = (render_live if live else render)(text[:SHOWN_CHARS])
    return mark_safe(html)  # nosec B308  # As the sanitising renderer made it.
