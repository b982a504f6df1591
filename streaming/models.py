"""The log: streams and their chunk rows, who may write them, and the conditional updates that change hands.

Rows are only ever added, by the holder of the stream's lease; `append` proves the lease in the transaction that adds.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import uuid_utils.compat
from django.db import models, transaction
from django.db.models import Case, F, Max, OuterRef, Q, Subquery, When
from django.db.models.functions import Now
from django.utils import timezone

from streaming import commit
from streaming.frames import END, RESTART, RETRY, SPOKEN, Row, Said, fold


def new_id() -> uuid.UUID:
    """A UUIDv7: sortable by time of creation and not guessable."""
    return uuid_utils.compat.uuid7()


class Status(models.TextChoices):
    PENDING = "pending"
    STREAMING = "streaming"
    DONE = "done"
    ERROR = "error"
    TIMEOUT = "timeout"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


PAGE_ROWS = 1000
SILENT_S = 30
LIVE = (Status.PENDING, Status.STREAMING)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stream ended: the payload of its `end` row. `error` is {"code", "detail"}, fit for users, or None."""

    status: str
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, str] | None = None

    def data(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "error": self.error,
        }


class Entry(NamedTuple):
    """Rows that a lease holder wants added to one stream; `outcome` is set when the last of them is the `end`.

    `said`: what all rows of the stream add up to then, from who knows.
    """

    stream: uuid.UUID
    lease: uuid.UUID
    rows: tuple[Row, ...]
    first_words: bool = False
    outcome: Outcome | None = None
    said: Said | None = None

    @property
    def is_lone_word(self) -> bool:
        """Whether there is only one row, of words, and nothing to note of the stream itself."""
        noted = self.first_words or self.outcome is not None
        return len(self.rows) == 1 and not noted and self.rows[0].kind in SPOKEN

    @property
    def is_words(self) -> bool:
        """Whether there is nothing to note of the stream itself."""
        return not self.first_words and SPOKEN.issuperset({row.kind for row in self.rows})

    @property
    def tells_all(self) -> bool:
        """Whether the database has nothing to look up for it: no log to add up, no attempt to note."""
        return (self.outcome is None or self.said is not None) and RETRY not in {row.kind for row in self.rows}


class StreamQuerySet(models.QuerySet["Stream"]):
    def live(self) -> StreamQuerySet:
        return self.filter(status__in=LIVE)

    def claimable(self) -> StreamQuerySet:
        """Streams nobody works on: waiting, handed back, or left by a holder whose lease ran out."""
        abandoned = Q(lease=None) | Q(lease_until__lt=Now())
        return self.filter(Q(status=Status.PENDING) | Q(abandoned, status=Status.STREAMING))

    def claim(self, pk: uuid.UUID, worker: str, lease_s: float) -> Stream | None:
        """Take the stream under a new lease of `lease_s` seconds, or None if somebody else was first."""
        lease = uuid.uuid4()
        # A holder that was paused in its commit still locks the row: whoever waited for it would write nothing else.
        with transaction.atomic():
            free = self.claimable().filter(pk=pk).select_for_update(skip_locked=True)
            won = self.filter(pk__in=free.values("pk")).update(
                status=Status.STREAMING,
                lease=lease,
                lease_until=Now() + timedelta(seconds=lease_s),
                worker=worker,
                attempt=F("attempt") + 1,
                claimed_at=Now(),
            )
        # The holder reads its own claim back: between the two a successor may have come, and then this is None too.
        return self.filter(pk=pk, lease=lease).first() if won else None

    def renew(self, leases: Iterable[uuid.UUID], lease_s: float) -> None:
        with transaction.atomic():
            self.filter(lease__in=list(leases))._locked().update(lease_until=Now() + timedelta(seconds=lease_s))

    def hand_back(self, leases: Iterable[uuid.UUID]) -> list[uuid.UUID]:
        """Give unfinished streams up at once, and tell which; a clean hand-over does not use up an attempt."""
        with transaction.atomic():
            held = self.live().filter(lease__in=list(leases))
            given = list(held.select_for_update().order_by("pk").values_list("pk", flat=True))
            held.update(lease=None, lease_until=None, attempt=F("attempt") - 1)
        return given

    def request_stop(self) -> int:
        """Ask whoever works on these streams, now or later, to end them; finished ones are left alone.

        A program that feeds a stream hears nothing between its requests, so it loses its lease at once to an engine.
        """
        lease = Case(When(fed=True, then=None), default=F("lease"))
        with transaction.atomic():
            asked = self.live().filter(stop_requested_at=None)._locked()
            return asked.update(stop_requested_at=Now(), lease=lease)

    def _locked(self) -> StreamQuerySet:
        """The same, to be updated: locked in the order in which commits lock them, or each would wait for the other."""
        return Stream.objects.filter(pk__in=self.select_for_update(of=("self",)).order_by("pk").values("pk"))

    def append(self, entries: Sequence[Entry], *, again: bool = False) -> set[uuid.UUID]:
        """Add the entries' rows, and keep the streams' own columns in step with what they tell, all in one transaction;
        return the streams whose lease was lost, and which got nothing or were taken over right behind it.

        `again`: the outcome of an earlier try is unknown (the connection broke in its commit), so rows that are there
        already, which only this lease can have written, are passed over; and a log that ends with these very rows was
        ended by them, or by a successor with the same, although the lease is gone.
        """
        added, noted = commit.append(entries, again=again)
        if added == sum(len(entry.rows) for entry in entries):
            return set()
        leases = dict(self.filter(pk__in=[entry.stream for entry in entries]).values_list("pk", "lease"))
        lost = [entry for entry in entries if not noted.get(entry.stream, leases.get(entry.stream) == entry.lease)]
        return {entry.stream for entry in lost if not (again and Chunk.objects.ends_with(entry))}


class Stream(models.Model):
    """One generation of one answer. `request` is the exact JSON sent to the model; `topic` an opaque group name."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    topic = models.CharField(max_length=90, db_index=True)
    request = models.JSONField()
    model = models.TextField(blank=True, db_default="", help_text="The one asked, as in the request.")
    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING)
    attempt = models.PositiveSmallIntegerField(default=0, help_text="The attempt that speaks or spoke last, from 1.")
    fed = models.BooleanField(default=False, help_text="Written by a program over the API: no model is ever asked.")
    worker = models.CharField(max_length=100, blank=True, help_text="The process that claimed it last.")
    lease = models.UUIDField(null=True, editable=False, db_index=True, help_text="The one claim that may write.")
    lease_until = models.DateTimeField(null=True)
    stop_requested_at = models.DateTimeField(null=True)
    seq = models.PositiveIntegerField(default=0, help_text="The last row, once finished.")
    text = models.TextField(blank=True, help_text="The whole answer, once finished.")
    reasoning = models.TextField(blank=True)
    finish_reason = models.CharField(max_length=40, blank=True)
    usage = models.JSONField(null=True)
    error = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    claimed_at = models.DateTimeField(null=True)
    first_text_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    compacted_at = models.DateTimeField(null=True, editable=False, help_text="Since then its log is in few rows.")
    indexed_at = models.DateTimeField(
        null=True, editable=False, help_text="Since then searches have an index of its words."
    )

    objects = StreamQuerySet.as_manager()

    class Meta:
        ordering = ("created_at", "id")
        indexes = (
            models.Index(fields=["created_at"], condition=Q(status__in=LIVE), name="stream_live"),
            models.Index(fields=["-created_at"], name="stream_newest"),
            models.Index(fields=["model", "-created_at"], name="stream_model"),
            models.Index(fields=["status", "-created_at"], name="stream_status"),
            models.Index(fields=["finished_at"], condition=Q(compacted_at=None), name="stream_uncompacted"),
        )
        permissions = (("see_text", "Can see what people asked and were answered"),)
        constraints = (
            models.CheckConstraint(condition=Q(status__in=Status.values), name="stream_status_known"),
            models.CheckConstraint(
                condition=Q(status__in=LIVE, finished_at=None) | ~Q(status__in=LIVE) & Q(finished_at__isnull=False),
                name="stream_finished_or_live",
            ),
            models.CheckConstraint(condition=~Q(fed=True, status=Status.PENDING), name="stream_fed_is_begun"),
        )

    def __str__(self) -> str:
        return f"{self.id} ({self.status})"

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    def said(self) -> Said:
        """What a reader may have seen by now: the stored text once finished, until then the rows added up."""
        if self.is_live:
            return fold(Chunk.objects.rows(self.pk))
        return Said(self.seq, self.text, self.reasoning)


class ChunkQuerySet(models.QuerySet["Chunk"]):
    def rows(self, stream: uuid.UUID, after: int = 0) -> list[Row]:
        """The rows of a stream's log behind position `after`, in order."""
        found = self.filter(stream=stream, seq__gt=after).order_by("seq")
        return [Row(*values).behind(after) for values in found.values_list("seq", "kind", "text", "data")]

    def page(self, stream: uuid.UUID | str, after: int, limit_bytes: int) -> tuple[list[Row], bool]:
        """Rows behind `after`, about `limit_bytes` of them but at least one, and whether there may be more."""
        rows: list[Row] = []
        size = 0
        found = self.filter(stream_id=stream, seq__gt=after).order_by("seq")[:PAGE_ROWS]
        for values in found.values_list("seq", "kind", "text", "data").iterator(100):
            rows.append(Row(*values).behind(after))
            size += len(rows[-1].text) + 100
            if size >= limit_bytes:
                return rows, True
        return rows, len(rows) == PAGE_ROWS

    def ends_with(self, entry: Entry) -> bool:
        """Whether the log is over and its last rows are these."""
        return entry.outcome is not None and self.rows(entry.stream, entry.rows[0].seq - 1) == list(entry.rows)

    def last_seqs(self, streams: Iterable[uuid.UUID]) -> dict[uuid.UUID, int]:
        found = self.filter(stream__in=list(streams)).order_by().values_list("stream")
        return dict(found.annotate(Max("seq")))


class Chunk(models.Model):
    """One row of a stream's log (frames.Row); `seq` counts from 1 without gaps."""

    stream = models.ForeignKey(Stream, on_delete=models.CASCADE, db_index=False)
    seq = models.PositiveIntegerField()
    kind = models.CharField(max_length=9)
    text = models.TextField(blank=True)
    data = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = ChunkQuerySet.as_manager()

    class Meta:
        ordering = ("stream", "seq")
        constraints = (
            models.UniqueConstraint(fields=["stream", "seq"], name="chunk_once"),
            models.CheckConstraint(condition=Q(seq__gte=1), name="chunk_seq_from_1"),
            models.CheckConstraint(
                condition=Q(kind__in=[*sorted(SPOKEN), RETRY, RESTART, END]), name="chunk_kind_known"
            ),
        )

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"


class ProcessQuerySet(models.QuerySet["Process"]):
    def alive(self) -> ProcessQuerySet:
        return self.filter(seen_at__gte=Now() - timedelta(seconds=SILENT_S))

    def silent(self) -> ProcessQuerySet:
        return self.filter(seen_at__lt=Now() - timedelta(seconds=SILENT_S))


class Process(models.Model):
    """A running process of the site, as it tells of itself every few seconds (streaming/reporting.py)."""

    name = models.CharField(primary_key=True, max_length=100)
    kind = models.CharField(max_length=10)
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField()
    figures = models.JSONField()

    objects = ProcessQuerySet.as_manager()

    class Meta:
        ordering = ("kind", "name")
        verbose_name_plural = "dashboard"

    def __str__(self) -> str:
        return self.name


def last_seq() -> Subquery:
    """The last row of each stream of a query, None without rows, by one look into the index.

    Grouping by all columns of a stream, its text among them, takes a second on SQLite.
    """
    return Subquery(Chunk.objects.filter(stream=OuterRef("pk")).order_by("-seq").values("seq")[:1])
