"""The one way into the log: a group commit of every stream's pending words, and only then their broadcast.

The commit clocks itself: whatever is said while one commit runs is merged into the next, one row per stream and kind.
When so much is said that this alone would fill the process, it waits before the next one (streaming/pace.py).
The only module that broadcasts. A broadcast that fails or is lost is no loss: hubs heal from the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import async_to_sync
from channels.layers import BaseChannelLayer, get_channel_layer
from django.conf import settings
from django.db import connection
from django.utils import timezone

from streaming import metrics
from streaming.background import CONNECTION_LOST, DatabaseThread, start_apart
from streaming.frames import END, RESTART, ROW_CHARS, SPOKEN, Row, Said, Sum
from streaming.inloop import InLoop
from streaming.layers import group_send_all
from streaming.messages import rows_message
from streaming.models import Entry, Outcome, Stream
from streaming.nonblocking import Nonblocking
from streaming.pace import Pace

logger = logging.getLogger(__name__)
BROADCAST_S = 1.0
AWAY_S = 1.0
SUM_CHARS = 64_000
TOLD_AT_ONCE = 50
COMMIT_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class LeaseLost(Exception):
    """Somebody else writes this stream now, or it was deleted. Nothing more can be added to it from here."""


class Log:
    """The writing end of one claimed stream: takes words at once, hands them to the journal, knows when it lost."""

    def __init__(self, journal: Journal, stream: Stream, seq: int = 0, spoken: bool = False) -> None:
        assert stream.lease is not None
        self.stream = stream.pk
        self._name = str(stream.pk)
        self.topic = stream.topic
        self.lease = stream.lease
        self.seq = seq
        self.spoken = spoken
        self.first_words_due = stream.first_text_at is None
        self._asked_at = stream.created_at
        self.rest = journal.pace.rest
        self._journal = journal
        self._pending: list[tuple[str, list[str], dict[str, Any] | None]] = []
        self._pending_size = 0
        self._taken = False  # and not yet settled
        # Asked for with each word, and looking a setting up takes half a microsecond.
        self._most_pending = settings.STREAM_PENDING_BYTES
        self._outcome: Outcome | None = None
        self._lost = False
        self._settled: asyncio.Future[None] | None = None
        self._progress = Progress()
        self._sum = Sum() if not seq else None

    def say(self, kind: str, text: str) -> None:
        """Add words. They reach readers once committed."""
        self._check()
        if self._pending and self._pending[-1][0] == kind:
            self._pending[-1][1].append(text)
        else:
            self._pending.append((kind, [text], None))
        self.spoken = True
        self._pending_size += len(text)
        self._progress.count(text)
        self._journal.mark(self)

    def note(self, kind: str, **data: Any) -> None:
        """Add a row that is not words: `retry` or `restart`."""
        self._check()
        if kind == RESTART:
            self._progress = Progress()
        self._pending.append((kind, [], data))
        self._journal.mark(self)

    @property
    def full(self) -> bool:
        """Whether so much waits for its commit that the writer should wait too (`committed`)."""
        return self._pending_size > self._most_pending

    @property
    def ending(self) -> bool:
        """Whether the last row was added."""
        return self._outcome is not None

    async def committed(self) -> None:
        """Wait until all that was said before this call is in the database."""
        self._check()
        if not self._pending and not self._taken:
            return
        if self._settled is None:
            self._settled = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._settled)

    async def end(self, outcome: Outcome) -> None:
        """Add the `end` row, the stream's last, and wait for its commit."""
        self._check()
        self._outcome = outcome
        self._pending.append((END, [], outcome.data()))
        self._journal.mark(self)
        await self.committed()

    def lose(self) -> None:
        """Give the stream up: pending words are dropped, writers are told by LeaseLost."""
        self._lost = True
        self._pending.clear()
        self._settle()

    def _check(self) -> None:
        if self._lost:
            raise LeaseLost(self.stream)

    def take(self) -> Entry | None:
        """All that is pending, as numbered rows to be committed together; None if there is nothing."""
        if not self._pending:
            return None
        rows = []
        for kind, words, data in self._pending:
            text = "".join(words)
            for at in range(0, max(len(text), 1), ROW_CHARS):
                self.seq += 1
                rows.append(Row(self.seq, kind, text[at : at + ROW_CHARS], data))
        said = self._add_up(rows)
        self._pending.clear()
        self._pending_size = 0
        self._taken = True
        first_words = self.first_words_due and any(row.kind in SPOKEN for row in rows)
        self.first_words_due = self.first_words_due and not first_words
        return Entry(self.stream, self.lease, tuple(rows), first_words, self._outcome, said)

    def _add_up(self, rows: list[Row]) -> Said | None:
        """What the whole log says with `rows`, if it ends with them and that is known: not of one that a predecessor
        began, nor of a long one, which would fill the memory."""
        if self._sum is None:
            return None
        self._sum.add(rows)
        if self._sum.chars > SUM_CHARS:
            self._sum = None
            return None
        return self._sum.said if self._outcome is not None else None

    def settle(self, entry: Entry) -> dict[str, Any]:
        """`entry` is committed: wake who waits for it, and return the message that tells the hubs."""
        self._taken = False
        if not self._pending:
            self._settle()
        if entry.first_words:
            metrics.FIRST_TEXT_S.observe(max((timezone.now() - self._asked_at).total_seconds(), 0))
        return self.message(entry.rows)

    def _settle(self) -> None:
        if self._settled is not None and not self._settled.done():
            if self._lost:
                self._settled.set_exception(LeaseLost(self.stream))
                self._settled.exception()  # Nobody may be waiting any more; then it is not an error unheard.
            else:
                self._settled.set_result(None)
        self._settled = None

    def message(self, rows: tuple[Row, ...] = ()) -> dict[str, Any]:
        after = rows[0].seq - 1 if rows else self.seq
        return rows_message(self.topic, self._name, after, rows, self._progress.due())


class Progress:
    """How fast an attempt speaks; a reading at most every STREAM_PROGRESS_S."""

    def __init__(self) -> None:
        self._every_s = settings.STREAM_PROGRESS_S
        self._began = self._read = time.monotonic()
        self._chunks = self._chars = 0

    def count(self, text: str) -> None:
        self._chunks += 1
        self._chars += len(text)

    def due(self) -> dict[str, int] | None:
        now = time.monotonic()
        if now - self._read < self._every_s or not self._chunks:
            return None
        self._read = now
        elapsed_s = now - self._began
        return {
            "chunks": self._chunks,
            "chars": self._chars,
            "elapsed_ms": round(elapsed_s * 1000),
            "chars_per_s": round(self._chars / elapsed_s),
        }


_away_until: WeakKeyDictionary[BaseChannelLayer, float] = WeakKeyDictionary()


async def broadcast(layer: BaseChannelLayer, messages: list[dict[str, Any]]) -> None:
    """Tell the hubs what is committed, unless the layer was found to be away a moment ago: who tries again at each
    commit slows every commit down, and fills the log."""
    if time.monotonic() < _away_until.get(layer, 0.0):
        metrics.BROADCAST_FAILURES.inc()
        return
    try:
        async with asyncio.timeout(BROADCAST_S):
            await group_send_all(layer, [(message["topic"], message) for message in messages])
    except Exception:
        _away_until[layer] = time.monotonic() + AWAY_S
        metrics.BROADCAST_FAILURES.inc()
        logger.warning("no broadcasts for %g s; hubs will read the database", AWAY_S, exc_info=True)


def publish(message: dict[str, Any]) -> None:
    """The same for a request that added to a log by itself, after its commit."""
    layer = get_channel_layer()
    assert layer is not None
    async_to_sync(broadcast)(layer, [message])


class Journal:
    """Commits what the logs of this process hold, all in one transaction; then broadcasts."""

    def __init__(self, writer: DatabaseThread, layer: BaseChannelLayer) -> None:
        self._writer = writer
        self._near = Nonblocking() if connection.vendor == "postgresql" else InLoop()
        self._layer = layer
        # Within one process no message has to be waited for.
        self._send_nowait = getattr(layer, "group_send_all_nowait", None)
        self._streams = Stream.objects.all()  # Made anew for each commit it would take a tenth of one.
        self._dirty: dict[Log, None] = {}
        self._dirty_since = 0.0
        self.pace = Pace()
        self._publishing: asyncio.Task[None] | None = None
        self.between_commits = asyncio.Lock()  # Held by each step, and by who would keep a commit waiting.
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = start_apart("journal", self.step, self.pace.turn)

    def mark(self, log: Log) -> None:
        """`log` has something to commit, or is new and to be announced."""
        if not self._dirty:
            self._dirty_since = time.monotonic()
        self._dirty[log] = None
        self.pace.wake()

    async def step(self) -> None:
        """Commit all that is pending now, then tell the hubs: this process's here and now, others while the next commit
        is under way."""
        async with self.between_commits:
            logs, since = list(self._dirty), self._dirty_since
            self._dirty.clear()
            taken = [(log, entry) for log in logs if (entry := log.take())]
            try:
                lost = await self._commit([entry for _, entry in taken]) if taken else set()
            except BaseException:
                # Their rows are out of their logs and in no database: what came after them would leave a gap.
                for log, _ in taken:
                    log.lose()
                raise
            if taken:
                metrics.ADDED_S.observe(time.monotonic() - since)
            messages = [log.message() for log in logs if log.seq == 0]
            for log, entry in taken:
                if entry.stream in lost:
                    log.lose()
                else:
                    messages.append(log.settle(entry))
            await self._publish(messages)

    async def _commit(self, entries: list[Entry]) -> set[Any]:
        """Commit `entries`, from the loop if it can be done there; returns the streams that were lost."""
        began, rows = time.monotonic(), sum(len(entry.rows) for entry in entries)
        try:
            added = await self._near.add(entries)
        except CONNECTION_LOST as error:
            logger.info("a commit of %d streams goes by the thread as well: %r", len(entries), error)
            return await self._commit_by_thread(entries, again=True)
        if added < rows:
            return await self._commit_by_thread(entries, again=added > 0)
        took_s = time.monotonic() - began
        if self._near.elsewhere:
            self.pace.charge(took_s)
        metrics.committed(took_s, rows)
        return set()

    async def _commit_by_thread(self, entries: list[Entry], *, again: bool = False) -> set[Any]:
        """The same however long the database takes to come back. `again`: some of it may have been done."""
        tries = 0
        while True:
            began = time.monotonic()
            try:
                lost = await self._writer.run(self._streams.append, entries, again=again)
                took_s = time.monotonic() - began
                self.pace.charge(took_s)
                metrics.committed(took_s, sum(len(entry.rows) for entry in entries))
                return lost
            except CONNECTION_LOST:
                metrics.COMMIT_FAILURES.inc()
                wait_s = COMMIT_RETRY_S[min(tries, len(COMMIT_RETRY_S) - 1)]
                logger.exception("commit of %d streams failed; again in %.2f s", len(entries), wait_s)
                await asyncio.sleep(wait_s)
                tries, again = tries + 1, True
            except Exception:
                metrics.COMMIT_FAILURES.inc()
                logger.exception("commit of %d streams was refused", len(entries))
                return await self._commit_apart(entries, again=again)

    async def _commit_apart(self, entries: list[Entry], *, again: bool) -> set[Any]:
        """One entry that the database refuses must not take the others of its batch with it."""
        if len(entries) == 1:
            return {entries[0].stream}
        return {stream for entry in entries for stream in await self._commit_by_thread([entry], again=again)}

    async def _publish(self, messages: list[dict[str, Any]]) -> None:
        if self._send_nowait is not None:
            for at in range(0, len(messages), TOLD_AT_ONCE):
                if at:
                    await asyncio.sleep(0)  # A crowd of them must not hold the loop: the hub writes to clients at once.
                self._send_nowait([(message["topic"], message) for message in messages[at : at + TOLD_AT_ONCE]])
            return
        if self._publishing is not None:
            await self._publishing
        self._publishing = asyncio.create_task(broadcast(self._layer, messages), name="broadcast") if messages else None

    async def stop(self) -> None:
        """Commit what is still pending, then end."""
        if self._loop is not None:
            async with self.between_commits:  # Between two steps: words taken from a log are committed or never were.
                self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        while self._dirty:
            await self.step()
        if self._publishing is not None:
            await self._publishing
        await self._near.close()
