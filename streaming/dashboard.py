"""The admin's dashboard: what is going on now and went on lately, in pictures, on all processes of the site.

As quick with ten million rows as with ten: it looks at unfinished streams, at SAMPLE of the newest, at the rows that
processes write of themselves, and asks the database for its own estimates of the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone

from streaming import metrics
from streaming.models import Chunk, Process, Status, Stream
from streaming.pictures import Picture, bound, percentile, picture, time_text

SAMPLE = 5000
COLUMNS = 48
HOURS = {"1": "the last hour", "24": "the last day", "168": "the last week"}
KINDS = ("done", "stopped", "failed", "live")
OUTCOMES = {
    Status.DONE: "done",
    Status.STOPPED: "stopped",
    Status.PENDING: "live",
    Status.STREAMING: "live",
}


class Past(NamedTuple):
    """What the dashboard looks at of one stream."""

    created_at: datetime
    first_text_at: datetime | None
    finished_at: datetime | None
    status: str
    error: dict[str, str] | None

    @property
    def kind(self) -> str:
        return OUTCOMES.get(Status(self.status), "failed")


def newest(since: datetime) -> list[Past]:
    """The newest streams begun after `since`, at most SAMPLE, the newest first."""
    found = Stream.objects.filter(created_at__gte=since).order_by("-created_at")
    return [Past(*values) for values in found.values_list(*Past._fields)[:SAMPLE]]


def over_time(streams: Sequence[Past], since: datetime, now: datetime) -> Picture:
    step_s = (now - since).total_seconds() / COLUMNS
    counts = [Counter[str]() for _ in range(COLUMNS)]
    for stream in streams:
        at = int((stream.created_at - since).total_seconds() / step_s)
        counts[min(max(at, 0), COLUMNS - 1)][stream.kind] += 1
    starts = [since + timedelta(seconds=step_s * at) for at in range(COLUMNS)]
    shape = "%H:%M" if now - since < timedelta(days=2) else "%a %d"
    labels = [
        f"{start:%d %b %H:%M}: " + (", ".join(f"{count[kind]} {kind}" for kind in KINDS if count[kind]) or "none")
        for start, count in zip(starts, counts, strict=True)
    ]
    ticks = [f"{moment:{shape}}" for moment in (*starts[:: COLUMNS // 4], now)]
    totals = Counter(stream.kind for stream in streams)
    facts = [(kind, str(totals[kind])) for kind in KINDS]
    return picture("Answers by outcome", f"{len(streams)} in all", counts, labels, KINDS, ticks=ticks, facts=facts)


def spread(title: str, bounds: Sequence[float], counts: Sequence[int], say: Callable[[float], str]) -> Picture:
    """How often something lay between which of `bounds`; `counts` has one more, for what lay beyond."""
    names = [f"up to {say(upper)}" for upper in bounds] + [f"over {say(bounds[-1])}"]
    labels = [f"{name}: {count}" for name, count in zip(names, counts, strict=True)]
    facts = []
    for part in (0.5, 0.9, 0.99):
        upper = bound(bounds, counts, part)
        facts.append((f"{part:.0%}", f"≤ {say(upper)}" if upper is not None else "–"))
    ticks = [say(bounds[0]), say(bounds[len(bounds) // 2]), f"> {say(bounds[-1])}"]
    columns = [{"count": count} for count in counts]
    return picture(title, f"{sum(counts)} in all", columns, labels, ["count"], ticks=ticks, facts=facts)


def durations(title: str, values_s: Iterable[float]) -> Picture:
    """The same of times that are known one by one, so that their percentiles are exact."""
    values = sorted(values_s)
    bounds = metrics.PATIENT_S
    counts = [0] * (len(bounds) + 1)
    for value in values:
        counts[next((at for at, upper in enumerate(bounds) if value <= upper), len(bounds))] += 1
    shown = spread(title, bounds, counts, time_text)
    shown.facts[:] = [(f"{part:.0%}", time_text(percentile(values, part))) for part in (0.5, 0.9, 0.99)]
    return shown


def errors(streams: Iterable[Past]) -> list[tuple[str, int, float]]:
    """(kind, how many, its share of the most frequent one) of what went wrong."""
    failed = [stream for stream in streams if stream.kind == "failed"]
    found = Counter(str((stream.error or {}).get("code") or stream.status) for stream in failed)
    most = found.most_common(8)
    return [(kind, count, round(100 * count / most[0][1], 1)) for kind, count in most]


def added_up(processes: Iterable[Process], figure: str, size: int) -> list[int]:
    """A histogram's counts in all processes but those of another version, whose buckets may be others."""
    rows = [process.figures.get(figure, []) for process in processes]
    return [sum(column) for column in zip([0] * size, *(row for row in rows if len(row) == size), strict=True)]


def stored() -> tuple[int, int, int]:
    """About how many streams and rows of their logs there are, and the bytes that they, or all, take on the disk."""
    tables = [Stream._meta.db_table, Chunk._meta.db_table]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT reltuples::bigint, pg_total_relation_size(oid) FROM pg_class WHERE oid = ANY(%s::regclass[])"
                " ORDER BY array_position(%s, relname::text)",
                [tables, tables],
            )
            (streams, streams_bytes), (chunks, chunks_bytes) = cursor.fetchall()
            # Before its first look at a table PostgreSQL says -1.
            return max(streams, 0), max(chunks, 0), streams_bytes + chunks_bytes
        rows = []
        for table in tables:
            # The names of our own tables.
            first, last = f"(SELECT min(rowid) FROM {table})", f"(SELECT max(rowid) FROM {table})"  # nosec B608
            cursor.execute(f"SELECT coalesce({last} - {first} + 1, 0)")
            rows.append(cursor.fetchone()[0])
        cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        return rows[0], rows[1], cursor.fetchone()[0]


def load(process: Process) -> dict[str, Any]:
    """A process as its row of the table; shares are percentages."""
    figures = process.figures
    memory_bytes = figures.get("memory_bytes")
    return {
        "process": process,
        **{name: figures.get(name, 0) for name in ("generating", "readers", "lag_ms")},
        "cpu": min(round(100 * figures.get("cpu", 0)), 100),
        "filled": min(round(100 * figures.get("generating", 0) / settings.STREAM_CONCURRENCY), 100),
        "memory": int(memory_bytes) if memory_bytes else None,
    }


def findings(hours: str) -> dict[str, Any]:
    """All that the page shows."""
    now = timezone.now()
    since = now - timedelta(hours=int(hours))
    streams = newest(since)
    if len(streams) == SAMPLE:
        since = streams[-1].created_at
    processes = list(Process.objects.alive())
    chunk_rows, size = len(metrics.COUNTS) + 1, len(metrics.QUICK_S) + 1
    begun = [(stream.first_text_at - stream.created_at).total_seconds() for stream in streams if stream.first_text_at]
    took = [(stream.finished_at - stream.created_at).total_seconds() for stream in streams if stream.finished_at]
    return {
        "now": metrics.live_counts(),
        "queue": metrics.queue_depth(),
        "readers": sum(process.figures.get("readers", 0) for process in processes),
        "stored": dict(zip(("streams", "chunks", "bytes"), stored(), strict=True)),
        "sampled": SAMPLE if len(streams) == SAMPLE else None,
        "pictures": [
            over_time(streams, since, now),
            durations("First token", begun),
            durations("Whole answer", took),
            spread("Commit time", metrics.QUICK_S, added_up(processes, "commit_s", size), time_text),
            spread("Rows of a commit", metrics.COUNTS, added_up(processes, "commit_rows", chunk_rows), "{:g}".format),
        ],
        "errors": errors(streams),
        "processes": [load(process) for process in processes],
    }


class DashboardAdmin(admin.ModelAdmin[Process]):
    """One page, which stands in the place of a list of processes, for all who may see streams."""

    def has_view_permission(self, request: HttpRequest, obj: Process | None = None) -> bool:
        return request.user.has_perm("streaming.view_stream")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Process | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Process | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        return [path("", self.admin_site.admin_view(self.changelist_view), name="streaming_process_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        hours = request.GET.get("hours", "1")
        hours = hours if hours in HOURS else "1"
        context = {
            **self.admin_site.each_context(request),
            **findings(hours),
            "title": "Dashboard",
            "opts": self.opts,
            "hours": hours,
            "windows": HOURS,
        }
        return TemplateResponse(request, "admin/streaming/dashboard.html", context)
