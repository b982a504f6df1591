"""The load's two kinds of process as the harness sees them: the source, and the readers with what they measured."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from bench.reader import CLASS, Line
from tests.ports import free_port
from tests.servers import ROOT, Server

WAIT_S = 120.0


class TooMany(Exception):
    """A subject did not even ask the source for all streams."""


class Source:
    """bench/source.py in a process of its own."""

    def __init__(self, home: Path) -> None:
        port = free_port()
        command = [sys.executable, "-m", "bench.source", "--port", str(port)]
        self.url = f"http://127.0.0.1:{port}/v1"
        self.port = port
        self._server = Server("source", command, home, ready=self._answers, cwd=ROOT, port=port)

    def __enter__(self) -> Self:
        self._server.start()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._server.stop()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/state").status_code == 200
        except httpx.TransportError:
            return False

    def control(self, what: str) -> dict[str, Any]:
        """`go`, `hold` or `state`; tells the figures."""
        told: dict[str, Any] = self.http.get(f"/{what}").json()
        return told

    def wait_for(self, streams: int) -> None:
        """Until so many streams wait for the start."""
        deadline = time.monotonic() + WAIT_S
        while (waiting := self.control("state")["waiting"]) < streams:
            if time.monotonic() > deadline:
                raise TooMany(f"{waiting} of {streams} streams were asked for")
            time.sleep(0.02)

    def wait_until_speaking(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while not self.control("state")["spoken"]:
            assert time.monotonic() < deadline, "no stream speaks"
            time.sleep(0.05)

    def wait_until_silent(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while self.control("state")["speaking"]:
            assert time.monotonic() < deadline, "streams still speak"
            time.sleep(0.05)


class Readers:
    """bench/reader.py in so many processes; a context that opens the lines, some `at_once`, and closes them.

    `opened_s`: how long it took until all were open and had heard what they were to hear.
    """

    def __init__(
        self, lines: Sequence[Line], count: int = 1, skip: int = 0, processes: int = 1, at_once: int = 50
    ) -> None:
        self._shares = [lines[number::processes] for number in range(processes)]
        self._work = {"count": count, "skip": skip, "at_once": at_once}
        self.opened_s = 0.0
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "bench.reader"]
        for _ in self._shares:
            self._processes.append(
                subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
        for process, lines in zip(self._processes, self._shares, strict=True):
            _tell(process, lines=[asdict(line) for line in lines], **self._work)
        self.opened_s = max(_told(process)["opened_s"] for process in self._processes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.communicate(timeout=30)

    def read(self, until: float) -> None:
        """Have them measure, until `until` on the monotonic clock at the latest."""
        for process in self._processes:
            _tell(process, until=until)

    def figures(self) -> Figures:
        """What they measured, once they have."""
        return Figures([_told(process) for process in self._processes])


def _tell(process: subprocess.Popen[str], **what: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()


def _told(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "a process of readers failed; its complaint is above"
    told: dict[str, Any] = json.loads(line)
    return told


@dataclass
class Figures:
    """The figures of several reader processes, added up."""

    parts: list[dict[str, Any]]

    def total(self, name: str) -> int:
        return sum(part[name] for part in self.parts)

    def between(self, name: str, since: float, until: float) -> int:
        """How many `deltas`, `frames` or `bytes` came within that time."""
        moments = range(round(since * 10), round(until * 10))
        return sum(part[name].get(str(moment), 0) for part in self.parts for moment in moments)

    def ages_ms(self, name: str, *quantiles: float) -> list[float | None]:
        """Quantiles of ages: `ages`, or those of the `early` and `late` quarter of each stream."""
        counts: Counter[int] = Counter()
        for part in self.parts:
            counts.update({int(number): count for number, count in part[name].items()})
        return [_quantile(counts, quantile) for quantile in quantiles]

    @property
    def deltas(self) -> int:
        """How many came at all."""
        return sum(sum(part["deltas"].values()) for part in self.parts)

    @property
    def cpu(self) -> float:
        return float(sum(part["cpu_share"] for part in self.parts))

    @property
    def busiest(self) -> float:
        return float(max(part["cpu_share"] for part in self.parts))


def _quantile(counts: Counter[int], quantile: float) -> float | None:
    wanted = quantile * counts.total()
    for number in sorted(counts):
        wanted -= counts[number]
        if wanted <= 0:
            return round(math.exp(number * CLASS) / 1000, 3)
    return None
