"""Old logs in few rows: what was said stays, and every position keeps its meaning, so no reader notices.

Neighbouring rows of one kind become one, with the `seq` of the last, and it is remembered how long each was
(`Row.chars`). What a restart took back goes, and so do notices of retries. No `seq` changes, and none is used again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from streaming.frames import RESTART, RETRY, Row, joined
from streaming.models import Chunk, Stream

# Rows to a transaction: what it holds up waits for milliseconds.
SLICE_ROWS = 2000


def merged(rows: Iterable[Row]) -> list[Row]:
    """The rows of a log in as few as there can be, for readers at any position."""
    kept: list[Row] = []
    for row in rows:
        if row.kind == RESTART:
            kept.clear()
        if row.kind != RETRY:
            kept.append(row)
    return joined(kept)


@dataclass(slots=True)
class Compaction:
    """One stream's log on its way into few rows, a slice in each transaction. One that is left off is begun anew."""

    stream: uuid.UUID
    after: int = 0
    done: bool = False

    def step(self, limit: int = SLICE_ROWS) -> None:
        """Merge the next rows, up to `limit` of them."""
        with transaction.atomic():
            # Two that compact the same log would each write what the other one took away.
            mine = Stream.objects.filter(pk=self.stream, compacted_at=None, finished_at__isnull=False)
            if not list(mine.select_for_update(skip_locked=True).values_list("pk")):
                self.done = True
                return
            found = Chunk.objects.filter(stream=self.stream, seq__gt=self.after).order_by("seq")[:limit]
            rows = [Row(*values) for values in found.values_list("seq", "kind", "text", "data")]
            kept = merged(rows)
            if rows:
                self._write(rows, kept)
            self.done = len(rows) < limit
            if self.done:
                mine.update(compacted_at=Now())
            else:
                self.after = kept[-1].seq - 1 if kept else rows[-1].seq

    def _write(self, rows: list[Row], kept: list[Row]) -> None:
        log = Chunk.objects.filter(stream=self.stream)
        seqs = {row.seq for row in kept}
        old = {row.seq: row for row in rows}
        for row in kept:
            if row is not old[row.seq]:
                log.filter(seq=row.seq).update(text=row.text, data=row.data)
        # Behind a restart nobody needs what was said before it, in this slice or an earlier one.
        since = 0 if kept and kept[0].kind == RESTART else self.after
        log.filter(seq__gt=since, seq__lte=rows[-1].seq).exclude(seq__in=seqs).delete()


def compact(stream: uuid.UUID, limit: int = SLICE_ROWS) -> None:
    """One log, however long it is."""
    compaction = Compaction(stream)
    while not compaction.done:
        compaction.step(limit)


def due() -> QuerySet[Stream]:
    """Streams that ended so long ago that nobody looks at their single rows any more."""
    if settings.LOG_DAYS <= 0:
        return Stream.objects.none()
    before = Now() - timedelta(days=settings.LOG_DAYS)
    return Stream.objects.filter(compacted_at=None, finished_at__lt=before).order_by("finished_at")
