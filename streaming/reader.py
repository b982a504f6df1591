"""One reader: a position in each stream it follows, and nothing queued. It pulls what comes next when it can take it.

So a slow reader costs its positions and no more: while it lags within what the hub keeps it reads there, further back
it reads the database, page by page, and either way it gets every row once and in order. One that has taken all there is
stands at the tails of its streams, and what is added to them is written to its client at once.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from streaming import metrics
from streaming.document import Document
from streaming.frames import Piece, Reading
from streaming.hub import LATE_S, Feed, Hub, get_hub
from streaming.models import LIVE, Chunk, Stream, last_seq
from streaming.tail import Push, Tail


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream begins to be followed that the reader did not name."""

    stream: str


@dataclass(frozen=True, slots=True)
class Gone:
    """A stream that was followed has been deleted."""

    stream: str


Item = Opened | Piece | Reading | Gone


@dataclass(slots=True)
class Cursor:
    """How far one stream was read. `unread`: the database may hold rows behind `seq` that no message will tell of."""

    tail: Tail
    seq: int
    announced: bool
    unread: bool = True
    progress: Reading | None = None
    version: int = 0  # of the tail's document, for pages


@dataclass(frozen=True, slots=True)
class Standing:
    """A stream as it stands when a reader attaches."""

    stream: str
    last: int
    live: bool
    news: bool


def standings(topic: str, named: list[uuid.UUID], since: uuid.UUID | None, age_s: float) -> list[Standing]:
    """The streams of `topic` that a reader who names some needs: these, live ones, those begun after `since`.

    Those not older than `age_s` are told as well; the reader knows them, unless they are among the others.
    """
    news = Q(pk__in=named) | Q(status__in=LIVE)
    if since:
        # Compared within the database: on SQLite a time is text, and Python writes a full second differently.
        news |= Q(created_at__gt=Stream.objects.filter(topic=topic, pk=since).values("created_at"))
    recent = Q(created_at__gte=Now() - timedelta(seconds=age_s))
    found = Stream.objects.filter(news | recent, topic=topic).order_by("created_at", "id")
    fields = found.annotate(last=last_seq(), news=news)
    return [
        Standing(str(pk), last or 0, status in LIVE, bool(news))
        for pk, status, last, news in fields.values_list("pk", "status", "last", "news")
    ]


class Reader:
    """Follows a topic, or with `only` one stream of it. Use as a context manager, `attach`, then iterate `items`.

    `rendered`: for pages, which get text as the HTML it makes. `push` writes to the client at once when all else was
    taken, and that is no item then; not once the client acknowledges.
    """

    def __init__(
        self,
        topic: str,
        only: str | None = None,
        hub: Hub | None = None,
        *,
        rendered: bool = False,
        push: Push | None = None,
    ) -> None:
        self.topic = topic
        # What a page is sent is made by the stream's document, which has a pace of its own.
        self._push = None if rendered else push
        self._only = only
        self._rendered = rendered
        self._hub = hub or get_hub()
        self._feed: Feed | None = None
        self._cursors: dict[str, Cursor] = {}
        self._attached = False
        self._finished: set[str] = set()
        self._known: set[str] = set()  # before it attached, and not asked for again
        self._missing: list[str] = []
        self._woken = False
        self._waiting: asyncio.Future[None] | None = None
        self._in_flight: deque[tuple[str, int, int]] | None = None  # from the first acknowledgement on
        self._unacked = 0

    async def join(self) -> None:
        """Have the hub listen to the topic for this reader too."""
        self._feed = await self._hub.join(self, self.topic)

    def leave(self) -> None:
        """Hear no more. When this returns, nothing more is pushed."""
        self._step_back()  # Before the hub forgets it: a tail counts those who stand at it among those.
        self._push = None
        self._hub.leave(self, self.topic)

    async def __aenter__(self) -> Self:
        await self.join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    async def attach(self, after: dict[str, int], since: str | None = None) -> None:
        """Follow from these positions: `after` names streams, unfinished others and those since `since` come whole.

        Positions behind the end of a log are taken as its end; a finished stream is completed by its `end` in any case,
        a named one that is not there (any more) is said to be gone.
        """
        assert self._feed is not None
        named = [uuid.UUID(stream) for stream in after]
        newest = uuid.UUID(since) if since else None
        # A tick that looks further back than this would tell of turns that this reader knows.
        age_s = self._hub.unseen_s + LATE_S
        found = await self._hub.database().read(standings, self.topic, named, newest, age_s)
        self._missing.extend(after.keys() - {standing.stream for standing in found})
        self._known.update(standing.stream for standing in found if not standing.news)
        for standing in [standing for standing in found if standing.news]:
            seq = min(after.get(standing.stream, 0), standing.last)
            if not standing.live:
                seq = max(min(seq, standing.last - 1), 0)
            if self._only in (None, standing.stream):
                tail = self._feed.tail(standing.stream)
                self._cursors[standing.stream] = Cursor(tail, seq, announced=standing.stream in after)
        self._attached = True
        self.wake()

    def missed(self, stream: str) -> bool:
        """Whether `stream` began after this reader attached, and it never heard of it."""
        return self._attached and self._lacks(stream)

    def _lacks(self, stream: str) -> bool:
        known = stream in self._cursors or stream in self._finished or stream in self._known
        return not known and self._only in (None, stream)

    def follow(self, tail: Tail) -> bool:
        """Follow a stream from its first row; False if it is followed or finished here already."""
        new = self._lacks(tail.stream)
        if new:
            self._cursors[tail.stream] = Cursor(tail, 0, announced=False)
            self.wake()
        return new

    def follow_new(self, stream: str) -> bool:
        """Follow a stream just made here, before any message or tick tells of it; False if one did already."""
        assert self._feed is not None
        self._known.discard(stream)
        return self.follow(self._feed.tail(stream))

    def wake(self) -> None:
        self._woken = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def ack(self, stream: str, seq: int) -> None:
        """The client has taken in everything of `stream` up to `seq`. From the first ack on, what was sent and not
        acknowledged is bounded by READER_UNACKED_BYTES."""
        self._step_back()  # From here on it is counted what is sent.
        kept: deque[tuple[str, int, int]] = deque()
        for sent in self._in_flight or ():
            if sent[0] == stream and sent[1] <= seq:
                self._unacked -= sent[2]
            else:
                kept.append(sent)
        self._in_flight = kept
        self.wake()

    def _stand_by(self) -> None:
        """Have the tails write what comes, where this reader has taken all there is."""
        if self._push is not None and self._in_flight is None:
            for cursor in self._cursors.values():
                if cursor.seq == cursor.tail.last:
                    cursor.tail.stand(self, self._push)

    def _step_back(self) -> None:
        """Go on from where the tails are by now."""
        if self._push is not None:
            for cursor in self._cursors.values():
                if cursor.tail.leave(self, self._push) and cursor.tail.last is not None:
                    cursor.seq, cursor.progress = cursor.tail.last, cursor.tail.progress

    def stay(self, stream: str, seq: int) -> None:
        """A tail this reader stands at moves on without it."""
        cursor = self._cursors[stream]
        cursor.seq, cursor.progress = seq, cursor.tail.progress

    def cannot_push(self) -> None:
        """Its client is written to by its task only from now on."""
        self._step_back()
        self._push = None

    async def items(self) -> AsyncIterator[Item]:
        """What comes next, for ever."""
        while True:
            yield await self.next()

    async def next(self) -> Item:
        """What comes next, the streams taking turns. May be cancelled and called again: nothing is lost by it."""
        while True:
            self._woken = False
            if self._missing:
                return Gone(self._missing.pop())
            if not self._is_full:
                for stream, cursor in list(self._cursors.items()):
                    item = await self._next(cursor)
                    if item is not None:
                        if stream in self._cursors:
                            self._cursors[stream] = self._cursors.pop(stream)
                        return item
            if not self._woken:
                self._waiting = asyncio.get_running_loop().create_future()
                self._stand_by()
                try:
                    await self._waiting
                finally:
                    self._waiting = None
                    self._step_back()

    @property
    def _is_full(self) -> bool:
        """Whether too much is under way to a client that acknowledges."""
        return self._in_flight is not None and self._unacked > settings.READER_UNACKED_BYTES

    async def _next(self, cursor: Cursor) -> Item | None:
        tail = cursor.tail
        if not cursor.announced:
            cursor.announced = True
            return Opened(tail.stream)
        if tail.gone:
            self.finish(tail.stream)
            return Gone(tail.stream)
        if self._rendered and not await self._document(cursor):
            piece = None
        elif cursor.unread or tail.behind(cursor.seq):
            piece = await self._read(cursor)
        else:
            piece = tail.piece_after(cursor.seq)
        if piece is not None:
            return self._advance(cursor, piece)
        if tail.progress is not cursor.progress:
            cursor.progress = tail.progress
            return tail.progress
        return None

    async def _read(self, cursor: Cursor) -> Piece | None:
        tail = cursor.tail
        was_behind = tail.behind(cursor.seq)  # Before the look: what is committed meanwhile may move the tail on.
        page = Chunk.objects.page
        metrics.CATCH_UP_READS.inc()
        rows, more = await self._hub.database().read(page, tail.stream, cursor.seq, settings.READER_PAGE_BYTES)
        cursor.unread = more
        if not rows:
            tail.learn(cursor.seq)
            tail.gone = tail.gone or was_behind  # Rows that were there are there no more.
            return None
        if not more:
            tail.learn(rows[-1].seq)
        return Piece(tail.stream, cursor.seq, tuple(rows))

    async def _document(self, cursor: Cursor) -> bool:
        """See to it that the tail's document is there and up to date; False if nothing is new or it is too early."""
        tail = cursor.tail
        # One at a time: of a crowd that comes back the first reads the log, and all others take what it made.
        async with tail.filling:
            document = tail.document = tail.document or Document()
            known = -1
            # Never behind its readers: rows that they bring would be added where others are missing.
            while known < document.seq and (document.seq < cursor.seq or tail.behind(document.seq)):
                known = document.seq
                read = self._hub.database().read
                document.take(await read(Chunk.objects.rows, uuid.UUID(tail.stream), document.seq))
        if document.pause_s > 0 and not tail.ended:
            if document.seq <= cursor.seq:
                self._wake_after(document)
            return document.seq > cursor.seq
        while (piece := tail.piece_after(document.seq)) is not None:
            document.take(piece.rows)
        return True

    def _wake_after(self, document: Document) -> None:
        """Once for all readers."""
        if not document.alarmed and self._feed is not None:
            document.alarmed = True
            asyncio.get_running_loop().call_later(document.pause_s, self._feed.wake)

    def _advance(self, cursor: Cursor, piece: Piece) -> Piece:
        if self._rendered and cursor.tail.document is not None:
            piece = cursor.tail.document.shown(piece, cursor.version)
            cursor.version = piece.version
        cursor.seq = piece.seq
        if self._in_flight is not None:
            self._in_flight.append((piece.stream, piece.seq, piece.size))
            self._unacked += piece.size
        if piece.ends:
            # An end read from the database may be news to the tail: its other readers still wait for a tick to find it.
            cursor.tail.learn(piece.seq)
            cursor.tail.ended = cursor.tail.last == piece.seq
            self.finish(piece.stream)
        return piece

    def finish(self, stream: str) -> None:
        """All of `stream` has been handed over."""
        del self._cursors[stream]
        self._finished.add(stream)
