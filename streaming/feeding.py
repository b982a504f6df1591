"""Lets a program outside write a stream: the lease, log, fence and broadcast of an engine, one request at a time.

Whoever holds the lease may add rows behind the position it names. Every addition renews the lease; once it ran out, or
a stop was asked for, an engine takes the stream over, asks no model, and ends it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from streaming import journal, metrics
from streaming.frames import END, SPOKEN, Row
from streaming.messages import rows_message
from streaming.models import Chunk, Entry, Outcome, Status, Stream


class Conflict(Exception):
    """The rows cannot be added: `lease_lost` or `seq_conflict`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Addition:
    """What a writer wants added behind position `after`: words as (kind, text), and the outcome if they are the last.

    The rows follow from it alone, so that the same addition made again is known by its rows.
    """

    after: int
    said: tuple[tuple[str, str], ...] = ()
    outcome: Outcome | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        rows = [Row(seq, kind, text, None) for seq, (kind, text) in enumerate(self.said, self.after + 1)]
        if self.outcome is not None:
            rows.append(Row(self.after + len(rows) + 1, END, "", self.outcome.data()))
        return tuple(rows)


def start(stream: Stream) -> None:
    """In the transaction that makes `stream`: lease it to the program that asked for it, and announce it."""
    stream.fed = True
    stream.status = Status.STREAMING
    stream.lease = uuid.uuid4()
    stream.attempt = 1
    stream.save(update_fields=["fed", "status", "lease", "attempt"])
    mine = Stream.objects.filter(pk=stream.pk)
    mine.update(lease_until=Now() + timedelta(seconds=settings.FEED_LEASE_S), claimed_at=Now())
    transaction.on_commit(partial(journal.publish, rows_message(stream.topic, str(stream.pk), 0)))


def add(pk: uuid.UUID, lease: uuid.UUID, addition: Addition) -> int:
    """Add to a stream under its lease and tell its readers; returns the last seq added. Harmless if repeated."""
    rows = addition.rows
    # One transaction: nothing may come between what is known of the log and the rows that follow from it.
    with transaction.atomic():
        stream = Stream.objects.select_for_update().get(pk=pk)
        there = Chunk.objects.filter(seq__lte=addition.after + len(rows)).rows(pk, addition.after)
        if rows and there == list(rows):
            return rows[-1].seq
        if stream.lease != lease:
            raise Conflict("lease_lost", f"This stream is not, or no longer, yours to write; it is {stream.status}.")
        last = Chunk.objects.last_seqs([pk]).get(pk, 0)
        if last != addition.after:
            raise Conflict("seq_conflict", f"The last seq of this stream is {last}, not {addition.after}.")
        first_words = stream.first_text_at is None and _has_words(rows)
        Stream.objects.append([Entry(pk, lease, rows, first_words, addition.outcome)])
        Stream.objects.renew([lease], settings.FEED_LEASE_S)
        message = rows_message(stream.topic, str(pk), addition.after, rows)
        transaction.on_commit(partial(journal.publish, message))
        if addition.outcome is not None:
            transaction.on_commit(partial(metrics.ended, stream, addition.outcome, rows[-1].seq))
    return rows[-1].seq if rows else addition.after


def gave_up(detail: str, usage: dict[str, int] | None) -> Outcome:
    """The writer found no end; `detail` is its reason, for people."""
    return Outcome(Status.ERROR, usage=usage, error={"code": "gave_up", "detail": detail})


def _has_words(rows: Iterable[Row]) -> bool:
    return any(row.kind in SPOKEN for row in rows)
