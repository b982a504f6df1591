"""Runs generations: claims streams, keeps their leases, hears stops, and hands unfinished ones back when it ends.

Whoever stores a prompt calls `start`, whoever stores a wish to stop calls `wake`; a lost call costs one sweep.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
import time
import uuid
from dataclasses import dataclass
from functools import cache, lru_cache

from channels.layers import BaseChannelLayer
from django.conf import settings
from django.db import connection, transaction

from streaming import metrics
from streaming.background import DatabaseThread, start_apart
from streaming.checkpoints import Checkpoints
from streaming.frames import SPOKEN
from streaming.generation import Generation
from streaming.journal import Journal, Log
from streaming.models import Chunk, Stream, StreamQuerySet
from streaming.providers import Provider
from streaming.repeated import Repeated

logger = logging.getLogger(__name__)
STOPS_AT_ONCE = 100
_running: Engine | None = None


def start(stream: Stream) -> None:
    """In the transaction that makes `stream`: have it generated, here or by a worker, as soon as that commits."""
    # Of the lines about a stream the one that knows the request it came with.
    logger.info("stream asked for", extra={"stream": str(stream.pk), "topic": stream.topic})
    if settings.STREAM_ENGINE == "worker":
        from streaming import tasks  # Procrastinate's app, and with it this module, is there on PostgreSQL only.

        tasks.defer([stream.pk])
    else:
        transaction.on_commit(wake)


def is_running() -> bool:
    """Whether this process generates by itself."""
    return _running is not None


def wake() -> None:
    """Tell this process's engine, if it runs one, that there is something to claim or to stop. Callable anywhere."""
    if _running is not None:
        _running.wake()


def stop(streams: StreamQuerySet) -> int:
    """Have these streams ended, by whoever works on them, as soon as this commits; how many had not been asked to."""
    asked = streams.request_stop()
    transaction.on_commit(wake)
    return asked


@dataclass(frozen=True, slots=True)
class Claim:
    """A stream just taken, and where its log stands."""

    stream: Stream
    seq: int
    spoken: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """What one look at the database found: of the leases asked about, which still hold and which are to stop; and
    whether there may be more to claim."""

    held: dict[uuid.UUID, bool]
    claims: list[Claim]
    more: bool


def survey(leases: list[uuid.UUID], *, renew: bool, room: int, worker: str) -> Survey:
    """One sweep: see what became of `leases`, renew them if it is time, and claim up to `room` streams.

    A stream that is to be stopped is claimed whether there is room or not: ending it takes no model.
    """
    asked = set(leases)
    ours = _held_by(worker).rows() if leases else []
    held = {lease: stop is not None for text, stop in ours if (lease := uuid.UUID(str(text))) in asked}
    if renew and held:
        Stream.objects.renew(held, settings.STREAM_LEASE_S)
    if not _longest_waiting().rows():
        return Survey(held, [], more=False)
    waiting = Stream.objects.claimable().exclude(lease__in=list(held)).order_by("created_at", "pk").values_list("pk")
    stops = [pk for (pk,) in waiting.filter(stop_requested_at__isnull=False)[:STOPS_AT_ONCE]]
    others = [pk for (pk,) in waiting.filter(stop_requested_at=None)[:room]] if room > 0 else []
    claims = [taken for pk in stops + others if (taken := claim(pk, worker))]
    # Only if there were any: one that somebody else has locked would be looked for again and again.
    more = bool(claims) and (len(stops) == STOPS_AT_ONCE or 0 < room == len(others))
    return Survey(held, claims, more)


@lru_cache
def _held_by(worker: str) -> Repeated:
    held = Stream.objects.live().filter(worker=worker, lease__isnull=False).order_by()
    return Repeated(held.values_list("lease", "stop_requested_at"))


@cache
def _longest_waiting() -> Repeated:
    return Repeated(Stream.objects.claimable().order_by("created_at", "pk").values_list("pk")[:1])


def claim(pk: uuid.UUID, worker: str) -> Claim | None:
    """Take a stream, or None if somebody else was first."""
    stream = Stream.objects.claim(pk, worker, settings.STREAM_LEASE_S)
    return Claim(stream, *_standing(stream)) if stream else None


def _standing(stream: Stream) -> tuple[int, bool]:
    rows = Chunk.objects.filter(stream=stream)
    last = rows.order_by("-seq").values_list("seq", flat=True).first()
    return (last, rows.filter(kind__in=SPOKEN).exists()) if last else (0, False)


def process_name() -> str:
    """A name for this process, or one engine of it, that no other has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"


def generating() -> int:
    """How many streams this process writes now."""
    return _running.running if _running is not None else 0


metrics.GENERATING.set_function(generating)


class Engine:
    """The generations of one process, at most STREAM_CONCURRENCY at once; what does not fit waits as `pending`."""

    def __init__(self, provider: Provider, layer: BaseChannelLayer) -> None:
        self.worker = process_name()
        self._provider = provider
        self._writer = DatabaseThread("journal")
        self.journal = Journal(self._writer, layer)
        self._runs: dict[uuid.UUID, tuple[Generation, asyncio.Task[None]]] = {}
        self._woken = asyncio.Event()
        self._renewed_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._sweeping: asyncio.Task[None] | None = None
        self._checkpoints = Checkpoints(self.journal) if connection.vendor == "sqlite" else None
        self._stepping = asyncio.Lock()

    @property
    def running(self) -> int:
        """How many generations this engine runs now."""
        return len(self._runs)

    @property
    def stopping(self) -> bool:
        """Whether `stop` has been called: nothing is begun any more."""
        return self._sweeping is not None and self._sweeping.cancelling() > 0

    @property
    def room(self) -> int:
        """How many streams the next sweep may claim."""
        return settings.STREAM_CONCURRENCY - len(self._runs)

    def start(self) -> None:
        """Begin to sweep; the first sweep takes up what an earlier process left."""
        global _running
        _running = self
        self.journal.start()
        if self._checkpoints is not None:
            self._checkpoints.start()
        self._woken.set()
        self._sweeping = start_apart("engine", self.step, self._pause)

    def wake(self) -> None:
        # An own context: a task started from a request must not inherit that request's executor, which ends with it.
        self._loop.call_soon_threadsafe(self._woken.set, context=contextvars.Context())

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(settings.STREAM_SWEEP_S):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def step(self) -> None:
        """One sweep: drop what was lost, stop what is to be stopped, renew, claim and begin."""
        async with self._stepping:
            self._woken.clear()
            asked = list(self._runs)
            now = time.monotonic()
            renew = now - self._renewed_at >= settings.STREAM_LEASE_S / 3
            found = await self._writer.run(survey, asked, renew=renew, room=self.room, worker=self.worker)
            if renew:
                self._renewed_at = now
            for taken in found.claims:
                self._begin(taken)
            for lease in asked:
                if (run := self._runs.get(lease)) is None:
                    continue
                if lease not in found.held:
                    run[0].lose()
                elif found.held[lease]:
                    run[0].stop()
            if found.more:  # There may be room by now that was not when it was asked for.
                self._woken.set()

    def _begin(self, claim: Claim) -> asyncio.Task[None]:
        stream = claim.stream
        if claim.seq > 0 or stream.attempt > 1:
            metrics.TAKEOVERS.inc()
        about = {"stream": str(stream.pk), "attempt": stream.attempt, "after": claim.seq, "worker": self.worker}
        logger.info("stream begun", extra=about)
        log = Log(self.journal, stream, claim.seq, claim.spoken)
        self.journal.mark(log)
        generation = Generation(stream, log, self._provider)
        task = asyncio.create_task(generation.run(), name=f"stream {stream.pk}")
        self._runs[log.lease] = (generation, task)
        task.add_done_callback(lambda _: self._ended(log.lease))
        return task

    def _ended(self, lease: uuid.UUID) -> None:
        if len(self._runs) >= settings.STREAM_CONCURRENCY:
            self._woken.set()  # What waits for room. A sweep for each end would cost more than the end itself.
        self._runs.pop(lease, None)

    async def stop(self) -> None:
        """End cleanly: no new claims, text so far committed, unfinished streams handed back for whoever comes next.

        What the database does not take within a lease's time is given up: the leases have run out by then.
        """
        global _running
        if _running is self:
            _running = None
        try:
            async with asyncio.timeout(settings.STREAM_LEASE_S):
                await self._hand_back()
        except Exception:
            logger.exception("streams could not be handed back; their leases will run out")
        finally:
            if self._checkpoints is not None:
                await self._checkpoints.stop()
            await self._writer.close()
            await self._provider.close()

    async def _hand_back(self) -> None:
        if self._sweeping is not None:
            async with self._stepping:  # Between two sweeps: a claim is either in `_runs` or was never made.
                self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        runs = dict(self._runs)
        ending = [task for generation, task in runs.values() if generation.log.ending]
        others = [task for generation, task in runs.values() if not generation.log.ending]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.journal.stop()
        await asyncio.gather(*ending, return_exceptions=True)  # They have only to say how it was.
        await self._writer.run(self.give_up, list(runs))
        logger.info("engine stopped, %d streams handed back", len(runs))

    @staticmethod
    def give_up(leases: list[uuid.UUID]) -> None:
        """Let go of unfinished streams: another process's sweep, or this site's next process, begins them again."""
        Stream.objects.hand_back(leases)
