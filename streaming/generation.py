"""One claimed stream from its first request to its `end` row: attempts, retries, silence, stop.

Talks to a provider on one side and to a log on the other; knows neither who reads nor who started it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import aclosing

from django.conf import settings

from streaming import metrics
from streaming.completions import Finish, ProviderError
from streaming.frames import RESTART, RETRY
from streaming.journal import LeaseLost, Log
from streaming.models import Outcome, Status, Stream
from streaming.providers import Provider
from streaming.tracing import span

logger = logging.getLogger(__name__)


class Generation:
    """The one run of a claim. `run` returns when the stream has its final state or is somebody else's."""

    def __init__(self, stream: Stream, log: Log, provider: Provider) -> None:
        self.stream = stream
        self.log = log
        self._provider = provider
        self._scope = asyncio.timeout(None)
        self._stopping = stream.stop_requested_at is not None
        self._entered = False

    def stop(self) -> None:
        """End as soon as the request to the model is closed, with the text so far."""
        if not self._stopping:
            self._stopping = True
            if self._entered:
                self._scope.reschedule(asyncio.get_running_loop().time())

    def lose(self) -> None:
        """The lease is gone: end quietly, adding nothing. But an end under way lets go of it, or its commit tells."""
        if not self.log.ending:
            self.log.lose()
            self.stop()

    async def run(self) -> None:
        about: dict[str, str | int] = {"stream": str(self.stream.pk), "attempt": self.stream.attempt}
        with span("generation", about | {"model": str(self.stream.request.get("model"))}) as tell:
            try:
                outcome = await self._outcome()
                await self.log.end(outcome)
            except LeaseLost:
                metrics.LEASES_LOST.inc()
                logger.info("stream was taken over or deleted", extra=about)
                tell({"status": "lost"})
            else:
                tell(metrics.ended(self.stream, outcome, self.log.seq))

    async def _outcome(self) -> Outcome:
        if self._stopping:
            return Outcome(Status.STOPPED)
        if self.stream.fed:
            return Outcome(
                Status.INTERRUPTED,
                error={"code": "abandoned", "detail": "The program that wrote this answer fell silent."},
            )
        try:
            async with self._scope:
                self._entered = True
                try:
                    return await self._attempts()
                finally:
                    self._entered = False
        except LeaseLost:
            raise
        except Exception:
            if self._stopping:
                return Outcome(Status.STOPPED)
            logger.exception("generation of stream %s failed", self.stream.pk)
            return Outcome(Status.ERROR, error={"code": "internal", "detail": "Something went wrong on this server."})

    async def _attempts(self) -> Outcome:
        """Attempt until one succeeds, may not be repeated, or was the last; a crash counts as a failed attempt."""
        limit = settings.STREAM_ATTEMPTS
        for attempt in range(self.stream.attempt, limit + 1):
            try:
                return await self._attempt(attempt)
            except ProviderError as failure:
                if self._stopping:  # The stop broke the connection, and that is all this failure tells.
                    return Outcome(Status.STOPPED)
                if attempt == limit or not failure.retriable:
                    status = Status.TIMEOUT if failure.code == "silence" else Status.ERROR
                    return Outcome(status, error={"code": failure.code, "detail": failure.detail})
                await self._back_off(attempt, failure)
        return Outcome(
            Status.INTERRUPTED,
            error={"code": "interrupted", "detail": "The server was interrupted too often while it answered."},
        )

    async def _back_off(self, attempt: int, failure: ProviderError) -> None:
        wait_s = backoff_s(attempt, failure.retry_after_s)
        metrics.RETRIES.labels(failure.code).inc()
        self.log.note(
            RETRY, attempt=attempt + 1, of=settings.STREAM_ATTEMPTS, wait_s=round(wait_s, 3), reason=failure.detail
        )
        await asyncio.sleep(wait_s)

    async def _attempt(self, attempt: int) -> Outcome:
        """Ask the model once. What an earlier attempt said is discarded by the first words of this one, not before."""
        stale = self.log.spoken
        clock, limit_s = asyncio.get_running_loop().time, settings.STREAM_SILENCE_S
        try:
            async with asyncio.timeout(limit_s) as silence:
                async with aclosing(self._provider.stream(self.stream.request, self.log.rest)) as parts:
                    async for part in parts:
                        if stale:
                            self.log.note(RESTART, attempt=attempt)
                            stale = False
                        if isinstance(part, Finish):
                            return Outcome(Status.DONE, part.finish_reason, part.usage)
                        self.log.say(part.kind, part.text)
                        if self.log.full:
                            silence.reschedule(None)  # The database's slowness is not the model's silence.
                            await self.log.committed()
                        # Set anew for each word, a timer costs as much as reading it; so it is set a little late.
                        if (silence.when() or 0) < clock() + limit_s:
                            silence.reschedule(clock() + limit_s * 1.05)
        except TimeoutError:
            if not silence.expired():
                raise
            detail = f"The model was silent for {settings.STREAM_SILENCE_S:g} seconds."
            raise ProviderError("silence", detail, retriable=True) from None
        raise ProviderError("cut", "The model's answer broke off.", retriable=True)


def backoff_s(attempt: int, retry_after_s: float | None) -> float:
    """Seconds before the attempt after `attempt`: doubling with jitter, or what the server asked for within reason."""
    longest = settings.STREAM_BACKOFF_MAX_S
    if retry_after_s is not None:
        return float(min(max(retry_after_s, 0), longest))
    wait_s = min(settings.STREAM_BACKOFF_S * 2 ** (attempt - 1), longest)
    return float(wait_s * random.uniform(0.5, 1))
