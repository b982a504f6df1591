"""What each process says of itself every few seconds, in one small row, so that the dashboard can show them all.

Written by a thread of its own: no commit, reader or request waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from typing import Any

from django.db.models.functions import Now
from prometheus_client import REGISTRY, Histogram

from streaming import engine, hub, metrics
from streaming.background import DatabaseThread, let_go, start_apart
from streaming.models import Process

EVERY_S = 5.0
WINDOW_REPORTS = 60
TOPICS = 300
LEAVE_S = 2.0
Counts = list[int]


def counts(histogram: Histogram) -> Counts:
    """How many observations fell into each of a histogram's buckets, the one without an upper bound last."""
    samples = next(iter(histogram.collect())).samples
    up_to = [int(sample.value) for sample in samples if sample.name.endswith("_bucket")]
    return [upper - lower for lower, upper in zip([0, *up_to], up_to, strict=False)]


class Reporter:
    """Reports on this process while it runs: `kind` is web or worker, `name` the one that its streams bear."""

    def __init__(self, name: str, kind: str) -> None:
        self._name = name
        self._kind = kind
        self._database = DatabaseThread("report")
        self._commits: deque[tuple[Counts, Counts]] = deque(maxlen=WINDOW_REPORTS)
        self._looked_at, self._cpu_s = time.monotonic(), time.process_time()
        self._lag_s = 0.0
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = start_apart("report", self.step, self._pause)

    async def _pause(self) -> None:
        due = time.monotonic() + (EVERY_S if self._commits else 0)
        await asyncio.sleep(due - time.monotonic())
        self._lag_s = time.monotonic() - due

    async def step(self) -> None:
        await self._database.run(report, self._name, self._kind, self.figures())

    def figures(self) -> dict[str, Any]:
        """How busy this process is now, and its commits of the last WINDOW_REPORTS reports."""
        readers = hub.readers()
        now, cpu_s = time.monotonic(), time.process_time()
        cpu = (cpu_s - self._cpu_s) / max(now - self._looked_at, 0.001)
        self._looked_at, self._cpu_s = now, cpu_s
        times, rows = counts(metrics.COMMIT_S), counts(metrics.COMMIT_ROWS)
        self._commits.append((times, rows))
        old_times, old_rows = self._commits[0] if len(self._commits) > 1 else ([0] * len(times), [0] * len(rows))
        return {
            "generating": engine.generating(),
            "readers": sum(readers.values()),
            "topics": dict(sorted(readers.items(), key=lambda item: -item[1])[:TOPICS]),
            "cpu": round(cpu, 3),
            "lag_ms": round(self._lag_s * 1000, 1),
            "memory_bytes": REGISTRY.get_sample_value("process_resident_memory_bytes"),
            "commit_s": [new - old for new, old in zip(times, old_times, strict=True)],
            "commit_rows": [new - old for new, old in zip(rows, old_rows, strict=True)],
        }

    async def stop(self) -> None:
        """Leave the list of processes; if the database is away, silence will do it."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(LEAVE_S):
                await self._database.run(leave, self._name)
        await self._database.close()


def report(name: str, kind: str, figures: dict[str, Any]) -> None:
    """Store what a process says of itself, and forget those that fell silent."""
    Process.objects.update_or_create(name=name, defaults={"kind": kind, "figures": figures, "seen_at": Now()})
    Process.objects.silent().delete()
    let_go()


def leave(name: str) -> None:
    Process.objects.filter(name=name).delete()


def readers() -> Counter[str]:
    """How many readers each topic has in all processes, as they said a few seconds ago."""
    count: Counter[str] = Counter()
    for figures in Process.objects.alive().values_list("figures", flat=True):
        count.update(figures["topics"])
    return count
