"""One subscription per process and watched topic; what it hears is kept once and shared by all readers here.

The hub trusts messages for speed only. Their positions show what was missed, and a tick looks for what no message
told: both are read from the database once per process, not once per reader.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Callable, Hashable, Iterable
from contextvars import Context
from datetime import timedelta
from functools import lru_cache
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from channels.layers import BaseChannelLayer, get_channel_layer
from django.conf import settings
from django.db.models.functions import Now

from streaming import metrics
from streaming.background import DatabaseThread, start_apart
from streaming.frames import Piece
from streaming.layers import receive_all
from streaming.messages import Told, understood
from streaming.models import Chunk, Stream, last_seq
from streaming.repeated import Repeated
from streaming.tail import Tail

if TYPE_CHECKING:
    from streaming.reader import Reader

logger = logging.getLogger(__name__)
T = TypeVar("T")
LAYER_S = 2.0
LATE_S = 10.0  # how long after its beginning a stream may appear: its transaction has to commit
MESSAGES_AT_ONCE = 50


class Feed:
    """What one process knows of one topic, and who here reads it."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.joined = False
        self.tails: dict[str, Tail] = {}
        self.readers: set[Reader] = set()

    def tail(self, stream: str) -> Tail:
        """The tail of a stream a reader asks for."""
        if stream not in self.tails:
            self.tails[stream] = Tail(stream)
        return self.tails[stream]

    def recall(self, stream: str) -> None:
        """Have the readers follow a stream that began while they were here and that no message told them of."""
        for reader in [reader for reader in self.readers if reader.missed(stream)]:
            reader.follow(self.tail(stream))

    def announce(self, stream: str, after: int) -> Tail:
        """The tail of a stream somebody writes now; every reader of the topic follows it from its first row."""
        tail = self.tails.get(stream) or Tail(stream, after)
        self.tails[stream] = tail
        # A tail that one reader asked for is known here and yet news to the others.
        if not tail.announced:
            tail.announced = True
            for reader in self.readers:
                reader.follow(tail)
        return tail

    def wake(self, tail: Tail | None = None) -> None:
        """Wake all readers, or those that do not stand at `tail`."""
        for reader in self.readers if tail is None else tail.others(self.readers):
            reader.wake()


class Hub:
    """The readers' side of one process (one per event loop)."""

    def __init__(self, layer: BaseChannelLayer, threads: int = 2) -> None:
        self._layer = layer
        # Within one process no message has to be waited for.
        self._listen = getattr(layer, "listen", None)
        self._feeds: dict[str, Feed] = {}
        self._channel = ""
        self._away_until = 0.0
        self._looked = time.monotonic()  # for new streams
        self._membership = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._threads = [DatabaseThread(f"hub-{n}") for n in range(threads)]
        self._next_thread = cycle(self._threads)
        self._healing: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[Hashable, asyncio.Task[Any]] = {}

    @property
    def watched(self) -> int:
        """How many topics are watched."""
        return len(self._feeds)

    @property
    def watched_streams(self) -> int:
        """How many streams the hub keeps the newest rows of."""
        return sum(len(feed.tails) for feed in self._feeds.values())

    @property
    def unseen_s(self) -> float:
        """Streams that began longer ago than so many seconds have been looked for."""
        return time.monotonic() - self._looked + LATE_S

    def readers(self) -> dict[str, int]:
        """How many readers each watched topic has here."""
        return {feed.topic: len(feed.readers) for feed in list(self._feeds.values()) if feed.readers}

    def database(self) -> DatabaseThread:
        """A thread for reads."""
        return next(self._next_thread)

    async def read_once(self, key: Hashable, function: Callable[[], T]) -> T:
        """What `function` reads, once for all who ask for `key` at the same time: a new turn is news to a crowd."""
        if key not in self._asked:
            task = asyncio.create_task(self.database().read(function), name=f"read {key}", context=Context())
            self._asked[key] = task
            task.add_done_callback(lambda _: self._asked.pop(key))
            task.add_done_callback(lambda _: task.cancelled() or task.exception())  # Who asked may have left.
        found: T = await asyncio.shield(self._asked[key])
        return found

    async def join(self, reader: Reader, topic: str) -> Feed:
        """Subscribe to `topic`. When this returns, no message of it can pass `reader` by unnoticed."""
        if not self._tasks:
            self._tasks.append(start_apart("hub tick", self.tick, _after_a_tick))
        async with self._membership:  # Two that join at the same moment must both wait for the one subscription.
            feed = self._feeds.setdefault(topic, Feed(topic))
            await self._subscribe(feed)
            feed.readers.add(reader)  # Not before: one that is cancelled while it waits never leaves.
        return feed

    def leave(self, reader: Reader, topic: str) -> None:
        """The subscription itself is given up by a later tick, if nobody came back."""
        if topic in self._feeds:
            self._feeds[topic].readers.discard(reader)

    async def _subscribe(self, feed: Feed) -> None:
        """Have the layer tell of the topic; while it is away nobody waits for it, and the tick tries again."""
        if feed.joined or self._layer_is_away:
            return
        try:
            async with asyncio.timeout(LAYER_S):
                if not self._channel:
                    await self._open_channel()
                await self._layer.group_add(feed.topic, self._channel)
            feed.joined = True
        except Exception:
            self._away_until = time.monotonic() + LAYER_S
            logger.warning("no live messages for %s yet; reading the database meanwhile", feed.topic, exc_info=True)

    @property
    def _layer_is_away(self) -> bool:
        return time.monotonic() < self._away_until

    async def _open_channel(self) -> None:
        self._channel = await self._layer.new_channel("hub")  # type: ignore[call-arg]  # Its types lack the prefix.
        if self._listen is not None:
            self._listen(self._channel, self._take)
        else:
            self._tasks.append(start_apart("hub", self._receive, _no_pause))

    async def _receive(self) -> None:
        """Hear all that has come."""
        heard = understood(await receive_all(self._layer, self._channel))
        for number, told in enumerate(heard, 1):
            self._hear(told)
            if number % MESSAGES_AT_ONCE == 0:
                await asyncio.sleep(0)  # A crowd of them must not hold the loop.

    def _take(self, message: dict[str, Any]) -> None:
        """Hear what is told within this process."""
        for told in understood([message]):
            self._hear(told)

    def _hear(self, told: Told) -> None:
        feed = self._feeds.get(told.topic)
        if feed is None:
            return
        tail = feed.announce(told.stream, told.after)
        tail.heard = True
        if told.rows and not tail.add(Piece(tail.stream, told.after, tuple(told.rows))):
            self._heal_soon(feed, tail)
        if told.progress:
            tail.report(told.progress)
        feed.wake(tail)

    def _heal_soon(self, feed: Feed, tail: Tail) -> None:
        if tail.stream not in self._healing:
            # In a context of its own: it may be a request that tells of its rows.
            task = asyncio.create_task(self._heal(feed, tail), name=f"heal {tail.stream}", context=Context())
            self._healing[tail.stream] = task
            task.add_done_callback(lambda _: self._healing.pop(tail.stream, None))
            metrics.HEALED_GAPS.inc()

    async def _heal(self, feed: Feed, tail: Tail) -> None:
        """Read what follows the tail in the database; whatever message showed the gap is in there too."""
        more = True
        while more:
            after = tail.last or 0  # A message may move the tail on while the database is read.
            page = Chunk.objects.page
            try:
                rows, more = await self.database().read(page, tail.stream, after, settings.READER_PAGE_BYTES)
            except Exception:
                logger.warning("could not read on in stream %s; a tick will", tail.stream, exc_info=True)
                return
            if rows:
                tail.add(Piece(tail.stream, after, tuple(rows)))
            feed.wake(tail)

    async def tick(self) -> None:
        """Look for what no message told: turns begun, rows added, streams deleted; and leave topics nobody reads."""
        async with self._membership:
            for feed in [feed for feed in self._feeds.values() if not feed.readers]:
                await self._unsubscribe(feed)
                if not feed.joined:
                    del self._feeds[feed.topic]
            for feed in self._feeds.values():
                await self._subscribe(feed)
        feeds = dict(self._feeds)
        now = time.monotonic()
        begun = await self.database().read(begun_streams, list(feeds), self.unseen_s)
        self._looked = now
        for topic, stream in begun:
            feeds[topic].recall(stream)
        await self._look_after([(feed, tail) for feed in feeds.values() for tail in list(feed.tails.values())])

    async def _unsubscribe(self, feed: Feed) -> None:
        if not feed.joined or self._layer_is_away:
            return
        try:
            async with asyncio.timeout(LAYER_S):
                await self._layer.group_discard(feed.topic, self._channel)
            feed.joined = False
        except Exception:
            self._away_until = time.monotonic() + LAYER_S
            logger.warning("could not leave %s", feed.topic, exc_info=True)

    async def _look_after(self, pairs: list[tuple[Feed, Tail]]) -> None:
        silent = [(feed, tail) for feed, tail in pairs if not tail.heard and not tail.ended and tail.last is not None]
        for feed, tail in pairs:
            if tail.ended and not tail.heard:
                feed.tails.pop(tail.stream, None)  # Readers still behind hold the tail itself.
            tail.heard = False
        if not silent:
            return
        stored = await self.database().read(last_rows, [tail.stream for _, tail in silent])
        for feed, tail in silent:
            if tail.stream not in stored:
                tail.gone = tail.ended = True
                feed.wake()
            elif tail.last is not None and stored[tail.stream] > tail.last:
                self._heal_soon(feed, tail)

    async def stop(self) -> None:
        tasks = [*self._tasks, *self._healing.values(), *self._asked.values()]
        if self._listen is not None:
            self._listen(self._channel, None)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for thread in self._threads:
            await thread.close()


async def _no_pause() -> None:
    """Receiving waits by itself."""


async def _after_a_tick() -> None:
    await asyncio.sleep(settings.HUB_TICK_S)


def begun_streams(topics: list[str], age_s: float) -> list[tuple[str, str]]:
    """(topic, stream) of every stream of `topics` that is unfinished or not older than `age_s`."""
    if not topics:
        return []
    found = [row for question in _begun(tuple(topics), math.ceil(age_s)) for row in question.rows()]
    return [(topic, str(uuid.UUID(str(pk)))) for topic, pk in found]


@lru_cache(maxsize=2)  # From one tick to the next the topics are often the same.
def _begun(topics: tuple[str, ...], age_s: int) -> list[Repeated]:
    # Two questions, as each has an index of its own. A short answer may be over before anybody looks.
    recent = Stream.objects.filter(created_at__gte=Now() - timedelta(seconds=age_s))
    questions = [found.filter(topic__in=topics).order_by("created_at") for found in (Stream.objects.live(), recent)]
    return [Repeated(found.values_list("topic", "pk")) for found in questions]


def last_rows(streams: Iterable[str]) -> dict[str, int]:
    """The last seq of each of `streams` that still exists; 0 for one without rows."""
    found = Stream.objects.filter(pk__in=[uuid.UUID(stream) for stream in streams]).order_by()
    return {str(pk): last or 0 for pk, last in found.annotate(last=last_seq()).values_list("pk", "last")}


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def get_hub() -> Hub:
    """The running loop's hub."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        layer = get_channel_layer()
        assert layer is not None
        _hubs[loop] = Hub(layer)
    return _hubs[loop]


def readers() -> dict[str, int]:
    """How many readers each topic has in this process."""
    # More than one hub is there in tests only.
    return {topic: count for hub in list(_hubs.values()) for topic, count in hub.readers().items()}


metrics.READERS.set_function(lambda: sum(readers().values()))


async def stop_hub() -> None:
    """End the running loop's hub, if it has one."""
    hub = _hubs.pop(asyncio.get_running_loop(), None)
    if hub is not None:
        await hub.stop()
