"""Latency, capacity and fan-out: the same loads, growing, on every subject."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.load import Load, Subject, disturbance, held, measure, running
from bench.peers import subjects as peers
from bench.processes import Source, TooMany
from bench.store import home
from bench.subjects import Direct, Embedded, Scaled

Maker = Callable[[Path], Subject]
OURS: dict[str, Maker] = {"embedded": Embedded, "scaled": Scaled}
PEERS: dict[str, Maker] = {
    "websockets": peers.websockets_relay,
    "node": peers.node_relay,
    "bun": peers.bun_relay,
    "resumable": peers.resumable_stream,
    "stock": peers.stock,
    "stock-scaled": peers.stock_scaled,
}
SUBJECTS: dict[str, Maker] = {"direct": Direct, **OURS, **PEERS}
STREAMS = (1, 10, 50, 100, 200)
READERS = (1, 10, 100, 500)
# Whose CPU for a frame the goals compare, and with how many readers (the fewer before them to warm up).
COMPARED = ("embedded", "websockets", "node", "stock")
COMPARED_AT = (10, 100)
ROUNDS = 5
MANY = (10, 25, 50, 100, 200, 300, 400, 500, 600, 800, 1000)
GOAL = 500  # So many are tried of ours in any case.
TRIES = 3
MANY_LINES = 500  # From here on the clients are two processes.


def latency(only: Iterable[str], seconds: float) -> Iterator[dict[str, Any]]:
    """Ages at growing numbers of streams; ours over websockets and server-sent events."""
    for name in only:
        for kind in ["ws", "http"] if name in OURS else [kind_of(name)]:
            yield from _climb(name, [Load(streams, seconds=seconds, kind=kind) for streams in STREAMS])


def fan_out(only: Iterable[str], seconds: float) -> Iterator[dict[str, Any]]:
    """One stream, growing numbers of readers. What the goals compare is measured again, all in turns: the pace of a
    machine changes within minutes."""
    names = [name for name in only if name != "direct"]
    compared = [name for name in names if name in COMPARED]
    climbs = [(name, READERS) for name in names] + [(name, COMPARED_AT) for name in compared] * (ROUNDS - 1)
    for name, readers in climbs:
        yield from _climb(name, [Load(1, count, seconds=seconds, kind=kind_of(name)) for count in readers])


def capacity(only: Iterable[str], seconds: float) -> Iterator[dict[str, Any]]:
    """Growing numbers of streams until one is too many; the last that was held before is the capacity."""
    for name in only:
        if name != "direct":
            loads = [Load(streams, seconds=seconds, kind=kind_of(name)) for streams in MANY]
            yield from _climb(name, loads, until_too_many_of=GOAL if name in OURS else 0)


def kind_of(name: str) -> str:
    return "http" if name in ("direct", "resumable") else "ws"


def _undisturbed(subject: Subject, source: Source, load: Load) -> dict[str, Any]:
    """The load, measured again where others used the machine or its disk; of all tries the least disturbed."""
    tries: list[dict[str, Any]] = []
    while len(tries) < TRIES and all(disturbance(measured) > 1 for measured in tries):
        tries.append(measure(subject, source, load))
        source.wait_until_silent()
    return min(tries, key=disturbance) | {"tries": len(tries)}


def _climb(name: str, loads: list[Load], until_too_many_of: float = math.inf) -> Iterator[dict[str, Any]]:
    """One load after the other, until so many streams or more are too many; a subject that was too slow for one is
    started anew for the next."""
    remaining = list(loads)
    while remaining:
        with home() as place, Source(place) as source, running(SUBJECTS[name](place), source) as subject:
            kept_up = True
            while remaining and kept_up:
                load = remaining.pop(0)
                wide = load.streams * load.readers >= MANY_LINES
                try:
                    measured = _undisturbed(subject, source, replace(load, processes=2 if wide else 1))
                except TooMany:
                    kept_up = False
                    continue
                kept_up = held(measured)
                yield {**measured, "persists": subject.persists, "held": kept_up}
            if not kept_up and load.streams >= until_too_many_of:
                return
