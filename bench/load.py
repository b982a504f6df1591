"""One load on one subject: so many streams, so many readers of each, and what it cost the subject to keep up.

A subject is whatever stands between the model's server and the readers: Chatsite in one of its columns, or a peer
(bench/subjects.py, bench/peers/subjects.py). All get the same load from the same processes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil

from bench.disk import Disk
from bench.processes import Figures, Readers, Source
from bench.reader import Line

GRACE_S = 5.0
BUSY = 0.7
# So much of the CPUs for others leaves the figures as they are, and so much of the time in which the disk stands still:
# with twice that every hundredth delta would wait for it.
OTHERS_CPU = 0.2
DISK_STILL = 0.005


@dataclass(frozen=True)
class Load:
    """`streams` at `rate` deltas a second with `readers` each, measured for `seconds` after `warm_s`, in the first
    second of which the streams begin."""

    streams: int
    readers: int = 2
    rate: float = 50.0
    seconds: float = 5.0
    warm_s: float = 2.0
    kind: str = "ws"
    processes: int = 1

    @property
    def skip(self) -> int:
        return round(self.rate * self.warm_s)

    @property
    def count(self) -> int:
        return self.skip + round(self.rate * self.seconds)

    @property
    def prompt(self) -> str:
        return json.dumps({"deltas": self.count, "rate": self.rate})


class Subject(Protocol):
    """What is measured. `persists` says what is safe, and when, of the text a reader has seen."""

    name: str
    persists: str
    home: Path

    def start(self, source: Source) -> None: ...

    def stop(self) -> None: ...

    def processes(self) -> dict[str, psutil.Process]:
        """Its processes; their children are counted with them."""

    def lines(self, load: Load) -> list[Line]:
        """The connections of the readers, to streams that are (or will be by the first reader) asked for."""


class Usage:
    """What processes, and everybody else on this machine, take of its CPUs between `begin` and `end`."""

    def __init__(self, processes: dict[str, psutil.Process], source: Source) -> None:
        self._processes = processes
        self._source = source

    def begin(self) -> None:
        self.began = time.monotonic()
        self._before = self._now()
        psutil.cpu_percent()

    def end(self) -> None:
        self.ended = time.monotonic()
        self.cpus = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
        after = self._now()
        self.wall_s = self.ended - self.began
        self.share = {name: round((after[name] - self._before[name]) / self.wall_s, 4) for name in after}
        self.source = self.share.pop("source")
        self.subject = sum(self.share.values())

    def _now(self) -> dict[str, float]:
        of_subject = {name: cpu_s(process) for name, process in self._processes.items()}
        return of_subject | {"source": float(self._source.control("state")["cpu_s"])}


def cpu_s(process: psutil.Process) -> float:
    """A live child counts itself; one that was waited for is in its parent's figures."""
    return sum(sum(each.cpu_times()[:4]) for each in [process, *process.children(recursive=True)])


def memory_bytes(processes: dict[str, psutil.Process]) -> int:
    """What would be free if these processes ended."""
    every = [each for process in processes.values() for each in [process, *process.children(recursive=True)]]
    return sum(int(each.memory_full_info().uss) for each in every)


def measure(subject: Subject, source: Source, load: Load) -> dict[str, Any]:
    """Put `load` on a running subject."""
    source.control("hold")
    lines = subject.lines(load)
    with Readers(lines, load.count, load.skip, load.processes) as readers:
        source.wait_for(load.streams)
        return _measure(subject, source, load, readers, len(lines))


def _measure(subject: Subject, source: Source, load: Load, readers: Readers, lines: int) -> dict[str, Any]:
    usage, disk = Usage(subject.processes(), source), Disk(subject.home)
    source.control("go")
    end = time.monotonic() + load.warm_s + load.seconds
    readers.read(end + GRACE_S)
    time.sleep(load.warm_s)
    with disk:
        usage.begin()
        time.sleep(max(0.0, end - time.monotonic()))
        usage.end()
    figures = readers.figures()
    others = round(max(usage.cpus - usage.subject - usage.source - figures.cpu, 0), 3)
    still = round(disk.still, 4)
    return {
        "subject": subject.name,
        **asdict(load),
        **_ages(figures),
        "missing": lines * load.count - figures.deltas,
        "broken": figures.total("broken"),
        "closed": figures.total("closed"),
        **_cost(figures, usage, lines / load.streams),
        "source_late_ms": source.control("state")["late_ms"],
        "readers_cpu": round(figures.busiest, 3),
        "source_cpu": round(usage.source, 3),
        "others_cpu": others,
        "disk_still": still,
        "remarks": [
            *(["a process of the load was over 70 % busy"] if max(figures.busiest, usage.source) > BUSY else []),
            *(["other programs used the machine"] if others > OTHERS_CPU else []),
            *(["the disk stood still"] if still > DISK_STILL else []),
        ],
    }


def disturbance(measured: dict[str, Any]) -> float:
    """How much others disturbed what was measured; up to 1 it can be taken for undisturbed."""
    return float(max(measured["others_cpu"] / OTHERS_CPU, measured["disk_still"] / DISK_STILL))


def _ages(figures: Figures) -> dict[str, Any]:
    p50, p95, p99, worst = figures.ages_ms("ages", 0.5, 0.95, 0.99, 1.0)
    (early,), (late,) = figures.ages_ms("early", 0.5), figures.ages_ms("late", 0.5)
    growth = None if early is None or late is None else round(late - early, 3)
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": worst, "growth_ms": growth}


def _cost(figures: Figures, usage: Usage, readers: float) -> dict[str, Any]:
    """What the deliveries between `usage`'s two moments cost the subject."""
    deltas, frames, size = (figures.between(each, usage.began, usage.ended) for each in ("deltas", "frames", "bytes"))
    cpu_s = usage.subject * usage.wall_s
    return {
        "deltas_per_s": round(deltas / usage.wall_s),
        "frames_per_s": round(frames / usage.wall_s),
        "bytes_per_delta": round(size / max(deltas, 1)),
        "cpu": usage.share,
        "cpu_us_per_delta": round(cpu_s * 1e6 * readers / max(deltas, 1), 2),
        "cpu_us_per_frame": round(cpu_s * 1e6 / max(frames, 1), 2),
        "frames_per_cpu_s": round(frames / cpu_s) if cpu_s else None,
    }


def held(measured: dict[str, Any]) -> bool:
    """Whether the subject kept up: 99 of 100 deltas within 250 ms, nothing missing, no growing lag."""
    p99, growth, p50 = measured["p99_ms"], measured["growth_ms"], measured["p50_ms"]
    whole = measured["missing"] == measured["broken"] == 0
    return bool(whole and p99 is not None and p99 < 250 and growth < max(p50, 10))


S = TypeVar("S", bound=Subject)


@contextmanager
def running(subject: S, source: Source) -> Iterator[S]:
    """A started subject, stopped in the end."""
    try:
        subject.start(source)
        yield subject
    finally:
        subject.stop()
