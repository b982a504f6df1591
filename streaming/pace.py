"""When words are next committed: at once as long as there is time to spare, more of them together when there is not.

What commits cost is a debt: the time that this process's event loop works, and that the database takes. The next commit
waits until JOURNAL_SHARE of the time that passes has paid for it, so that the rest is left to pages, and to whoever
else uses these processors. A reader alone waits for next to nothing.

Where commits are so far apart that a stream says several things between two of them, connections to models rest as
well: what came over one meanwhile is read, parsed, stored and told as one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from django.conf import settings

# So much is always lent: a garbage collection or a page must not make the next word wait.
CREDIT_S = 0.005
# Commits as far apart as this are worth the calls that pause a connection and resume it.
TOGETHER_S = 0.01
# No connection rests longer, whatever keeps the database: it is the model's silence that is counted, not its own.
REST_MAX_S = 1.0
# What waits in a socket is read in the next turn of the event loop or the one after, its task woken in another.
LOOP_TURNS = 3


Rest = Callable[[asyncio.ReadTransport], None]


class Pace:
    """The turns of one journal. For one event loop, in whose thread it is made."""

    def __init__(self) -> None:
        # To look a setting up takes half a microsecond.
        self._share = settings.JOURNAL_SHARE
        self._most_debt_s = settings.JOURNAL_SHARE * settings.JOURNAL_WINDOW_S
        self._woken = asyncio.Event()
        self._debt_s = 0.0
        self._counted = self._turned = time.monotonic()
        self._worked_s = time.thread_time()
        self._together = False
        self._resting: list[asyncio.ReadTransport] = []
        self._alarm: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """There is something to commit."""
        self._woken.set()

    def charge(self, database_s: float) -> None:
        """The database took so long."""
        self._debt_s += database_s

    def rest(self, source: asyncio.ReadTransport) -> None:
        """All that had come over `source` was just read; under load no more is before the next turn."""
        if not self._together or source.is_closing():
            return
        source.pause_reading()
        if not self._resting:
            self._alarm = asyncio.get_running_loop().call_later(REST_MAX_S, self._read_on)
        self._resting.append(source)
        self._woken.set()  # What was read may have held no words.

    async def turn(self) -> None:
        """Wait until there is something to commit, and until it may be; then have read what came meanwhile."""
        asked = time.monotonic()
        if not self._resting:
            await self._woken.wait()
        idle_s = time.monotonic() - asked
        if (wait_s := self._wait_s()) > 0:
            await asyncio.sleep(wait_s)
        now = time.monotonic()
        self._together = now - self._turned - idle_s >= TOGETHER_S
        self._turned = now
        if self._resting:
            self._read_on()
            for _ in range(LOOP_TURNS):
                await asyncio.sleep(0)
        self._woken.clear()

    def _wait_s(self) -> float:
        now = time.monotonic()
        if self._debt_s + now - self._counted <= 0:
            return 0.0  # Nobody works for longer than time passes, and the clock that tells is the kernel's to ask.
        worked_s = time.thread_time()
        earned_s = self._share * (now - self._counted)
        debt_s = self._debt_s + worked_s - self._worked_s - earned_s
        self._debt_s = min(max(debt_s, -CREDIT_S), self._most_debt_s)
        self._counted, self._worked_s = now, worked_s
        return float(self._debt_s / self._share)

    def _read_on(self) -> None:
        resting, self._resting = self._resting, []
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for source in resting:
            if not source.is_closing():
                source.resume_reading()
