"""`make bench-quick`: the few figures that tell within a minute whether a change made the hot path faster or slower."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench import memory, restart
from bench.load import Load, measure, running
from bench.processes import Source
from bench.store import home
from bench.subjects import Direct, Embedded

SECONDS = 3.0
LADDER = (1, 10, 50)
FAN_OUT = (1, 100)
IDLE = 150


def run(web: str) -> Iterator[dict[str, Any]]:
    """One record after the other, as they are measured."""
    with home() as place, Source(place) as source:
        yield {"measurement": "latency", **measure(Direct.of(source), source, Load(50, 1, seconds=2, kind="http"))}
        with running(Embedded.with_web(place, web), source) as site:
            # On a fresh process, which has no memory to reuse.
            yield {"measurement": "memory", **memory.idle(site, source, IDLE)}
            for streams in LADDER:
                yield {"measurement": "latency", **measure(site, source, Load(streams, seconds=SECONDS))}
            for readers in FAN_OUT:
                yield {"measurement": "fan-out", **measure(site, source, Load(1, readers, seconds=SECONDS))}
            yield {"measurement": "restart", **restart.embedded(site, source)}
