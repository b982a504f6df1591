"""The benchmark's command line; bench/README.md says what to call.

python -m bench quick | full | render | one of the measurements
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import catchup, ladders, memory, quick, render, restart, stages, storage, store
from bench.load import running
from bench.processes import Source
from bench.subjects import Embedded, Scaled
from tests.servers import ROOT

HIDDEN = {
    "rate", "seconds", "warm_s", "processes", "closed", "bytes_per_delta", "source_late_ms", "max_ms", "persists",
}  # fmt: skip
Records = Iterator[dict[str, Any]]
IDLE = 1000
ACTIVE = 200
SLOW = 50


def _memory(options: argparse.Namespace) -> Records:
    for column in (Embedded, Scaled):
        with store.home() as place, Source(place) as source, running(column(place), source) as site:
            yield memory.idle(site, source, IDLE, watch_s=options.seconds)
            yield memory.active(site, source, ACTIVE)
            yield memory.slow(site, source, SLOW)


def _soak(options: argparse.Namespace) -> Records:
    for column in (Embedded, Scaled):
        with store.home() as place, Source(place) as source, running(column(place), source) as site:
            yield memory.soak(site, source, options.minutes)


def _catchup(options: argparse.Namespace) -> Records:
    for column in (Embedded, Scaled):
        with store.home() as place, Source(place) as source, running(column(place), source) as site:
            for record in catchup.attaching(site):
                yield {"kind": "attach", **record}
            for record in catchup.opening(site):
                yield {"kind": "page", **record}
            yield {"kind": "crowd", **catchup.crowd(site, source)}


def _restart(options: argparse.Namespace) -> Records:
    with store.home() as place, Source(place) as source, running(Embedded(place), source) as site:
        yield restart.embedded(site, source)
    with store.home() as place, Source(place) as source, running(Scaled(place), source) as cluster:
        yield from restart.scaled(cluster, source)


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], Records]] = {
    "latency": lambda options: ladders.latency(options.subjects, options.seconds),
    "capacity": lambda options: ladders.capacity(options.subjects, options.seconds),
    "fan-out": lambda options: ladders.fan_out(options.subjects, options.seconds),
    "stages": lambda options: stages.stages(100, options.seconds),
    "memory": _memory,
    "soak": _soak,
    "catch-up": _catchup,
    "storage": lambda options: storage.storage(options.seconds),
    "restart": _restart,
    "quick": lambda options: quick.run(options.web),
}


def say(record: dict[str, Any]) -> None:
    """One line for a record."""
    told = (f"{name}={value}" for name, value in record.items() if name not in HIDDEN and value != [])
    sys.stdout.write("  ".join(told) + "\n")
    sys.stdout.flush()


def run(measurement: str, options: argparse.Namespace) -> None:
    """Measure, telling each record as it comes; what there is is kept if a later one fails."""
    machine = store.machine()
    records: list[dict[str, Any]] = []
    say({"measuring": measurement})
    try:
        for record in MEASUREMENTS[measurement](options):
            say(record)
            records.append(record)
    finally:
        store.save(measurement, records, machine | {"pace_after_ms": store.pace_ms()})


def measured(name: str, options: argparse.Namespace) -> bool:
    """Whether a measurement came to its end; one that did not must not cost the hour that the others take."""
    try:
        run(name, options)
    except Exception:
        traceback.print_exc()
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("command", choices=["full", "render", *MEASUREMENTS])
    parser.add_argument("--subjects", type=lambda names: names.split(","), default=list(ladders.SUBJECTS))
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each load is measured")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long a soak takes")
    parser.add_argument("--web", choices=("uvicorn", "daphne"), default="uvicorn")
    parser.add_argument("--no-soak", action="store_true", help="leave the soak out of `full`")
    parser.add_argument("--to", type=Path, default=ROOT / "docs", help="the folder that the page is written to")
    options = parser.parse_args()
    names = [options.command]
    if options.command == "full":
        left_out = {"quick"} | ({"soak"} if options.no_soak else set())
        names = [name for name in MEASUREMENTS if name not in left_out]
    failed = [name for name in names if name != "render" and not measured(name, options)]
    if options.command in ("full", "render"):
        render.write(options.to)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
