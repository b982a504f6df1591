"""Where the CPU time of a delta goes.

What each thread takes is the kernel's own count. Threads that speak to the database have one purpose and one name; the
main thread's time is shared out by a sampling profiler (py-spy), which watches from outside. Samples within the event
loop may be waits, so the loop, with what it reads and writes by itself, gets what the other stages leave.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from bench.load import Load, measure, running
from bench.processes import Source
from bench.store import home
from bench.subjects import Embedded, Scaled, Site

RATE = 200
# Of the main thread: the innermost frame that one of these names says whose time it is.
STAGES = {
    "loop": r"asyncio/runners|asyncio/base_events|selectors",
    "read": r"aiohttp/|httpx|httpcore|anyio/|openai/|streaming/openai_provider",
    "parse": r"streaming/completions|json/",
    "generate": r"streaming/generation|streaming/engine|streaming/feeding",
    "publish": r"streaming/layers|streaming/redis_layer|channels_redis|redis/|msgpack",
    "journal": r"streaming/journal",
    "hub": r"streaming/(?:hub|messages)",
    "reader": r"streaming/(?:reader|tail|frames)",
    "send": r"conversations/|uvicorn/|websockets/|channels/|asgiref/|chatsite/",
}
THREADS = {"journal": "commit", "checkpoints": "commit", "hub": "database reads"}
PATTERNS = [(stage, re.compile(rf"\((?:[^()]*/)?(?:{pattern})")) for stage, pattern in STAGES.items()]


def stages(streams: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Microseconds of CPU for a delta by stage, in each process of ours that has to do with it."""
    for column in (Embedded, Scaled):
        with home() as place, Source(place) as source, running(column(place), source) as site:
            load = Load(streams, seconds=seconds)
            unwatched = measure(site, source, load)
            source.wait_until_silent()
            per_cpu_us = unwatched["cpu_us_per_delta"] / sum(unwatched["cpu"].values())
            for name, shares in _watched(site, source, load).items():
                cpu_us = unwatched["cpu"][name] * per_cpu_us
                by_stage = {stage: round(share * cpu_us, 1) for stage, share in shares.items()}
                yield {"subject": site.name, "process": name, "streams": streams, "us": round(cpu_us, 1), **by_stage}


def _watched(site: Site, source: Source, load: Load) -> dict[str, dict[str, float]]:
    """The share of each stage in the CPU time of each process, while the load is on."""
    watches = [
        Watch(process, name, site.home / f"{name}.stacks")
        for name, process in site.processes().items()
        if name.startswith(("web", "worker"))
    ]

    def watch() -> None:
        source.wait_until_speaking()
        time.sleep(load.warm_s)
        for each in watches:
            each.begin(round(load.seconds))
        for each in watches:
            each.end()

    source.control("hold")
    watching = threading.Thread(target=watch)
    watching.start()
    measure(site, source, load)
    watching.join()
    return {each.name: each.shares() for each in watches}


class Watch:
    """One process, watched for some seconds."""

    def __init__(self, process: psutil.Process, name: str, trace: Path) -> None:
        self.name = name
        self._process = process
        self._trace = trace

    def begin(self, seconds: int) -> None:
        found = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
        assert found, "py-spy is in the dev extra"
        options = ["--idle", "--threads", "--format", "raw", "--rate", str(RATE), "--duration", str(seconds)]
        command = [found, "record", *options, "--output", str(self._trace), "--pid", str(self._process.pid)]
        self._before = self._by_thread()
        self._recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self) -> None:
        assert self._recorder.wait(60) == 0, "py-spy may not watch the process"
        after = self._by_thread()
        self._took = {thread: after[thread] - self._before.get(thread, 0.0) for thread in after}

    def _by_thread(self) -> dict[int, float]:
        return {thread.id: thread.user_time + thread.system_time for thread in self._process.threads()}

    def shares(self) -> dict[str, float]:
        names, samples = read_stacks(self._trace.read_text())
        main = self._process.pid
        shares: dict[str, float] = defaultdict(float)
        # The main thread first.
        for thread, took in sorted(self._took.items(), key=lambda one: one[0] != main):
            if thread == main:
                busy_s = {stage: count / RATE for stage, count in samples.items() if stage != "loop"}
                # Where others use the machine too, a sample may be a wait for a CPU.
                fits = min(1.0, took / sum(busy_s.values()))
                shares |= {stage: busy * fits for stage, busy in busy_s.items()}
                shares["loop"] = max(took - sum(shares.values()), 0.0)
            else:
                name = re.split(r"[-_]", names.get(thread, ""))[0]
                shares[THREADS.get(name, "other")] += took
        return {
            stage: share / sum(self._took.values()) for stage, share in sorted(shares.items(), key=lambda one: -one[1])
        }


def read_stacks(stacks: str) -> tuple[dict[int, str], Counter[str]]:
    """The names of the threads in py-spy's output, and the samples of the main thread by stage."""
    names: dict[int, str] = {}
    samples: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        head, *frames = stack.split(";")
        if found := re.match(r"thread \((\d+)\): (.*)", head):
            names[int(found[1])] = found[2]
            if found[2] == "MainThread":
                samples[_stage(frames)] += int(count)
    return names, samples


def _stage(frames: list[str]) -> str:
    for frame in reversed(frames):
        for stage, pattern in PATTERNS:
            if pattern.search(frame):
                return stage
    return "other"
