"""What connections and answers cost in memory: idle websockets, streams being written, readers who do not read."""

from __future__ import annotations

import json
import math
import time
from typing import Any

from bench.load import Load, Subject, Usage, cpu_s, measure, memory_bytes
from bench.processes import Readers, Source
from bench.subjects import Site

KIB = 1024
SETTLE_S = 1.0
SETTLED = 0.3  # of a core
FEW = 20


def per_one(before: int, after: int, count: int) -> float:
    return round((after - before) / count / KIB, 1)


def settle(site: Site) -> None:
    """Until the site has looked up everybody: who connects is let in before."""
    spent, deadline = -math.inf, time.monotonic() + 60
    while (now := sum(map(cpu_s, site.processes().values()))) - spent > SETTLED * SETTLE_S:
        assert time.monotonic() < deadline, "a site is never idle"
        spent = now
        time.sleep(SETTLE_S)


def idle(site: Site, source: Source, count: int, watch_s: float = 0.0) -> dict[str, Any]:
    """KiB for each idle websocket on a conversation of its own; the first few, for which code is loaded, are not
    counted. With `watch_s`, also their CPU."""
    conversations = [site.visitor.new_conversation() for _ in range(count)]
    lines = [site.idle_line(conversation) for conversation in conversations]
    with Readers(lines[:FEW]):
        settle(site)
        before = memory_bytes(site.processes())
    with Readers(lines):
        settle(site)
        after = memory_bytes(site.processes())
        usage = Usage(site.processes(), source)
        usage.begin()
        time.sleep(watch_s)
        usage.end()
    cpu = round(usage.subject / count * 1000, 4) if watch_s else None
    return {"subject": site.name, "count": count, "idle_kib": per_one(before, after, count), "cpu_per_1000": cpu}


def active(site: Site, source: Source, count: int) -> dict[str, Any]:
    """KiB for each stream that is being written while nobody reads."""
    source.control("hold")
    site.ask(1, Load(1, seconds=1).prompt)
    source.wait_for(1)
    source.control("go")
    source.wait_until_silent()
    source.control("hold")
    before = memory_bytes(site.processes())
    site.ask(count, Load(count, seconds=4).prompt)
    source.wait_for(count)
    source.control("go")
    time.sleep(3)
    after = memory_bytes(site.processes())
    source.wait_until_silent()
    return {"subject": site.name, "count": count, "active_kib": per_one(before, after, count)}


def slow(site: Site, source: Source, count: int) -> dict[str, Any]:
    """KiB for each reader that stopped reading while an answer of 4 MB went by; for the first few, which pay for the
    answer itself, it goes by as well."""
    before, after = (_stalled(site, source, readers) for readers in (FEW, FEW + count))
    return {"subject": site.name, "count": count, "slow_kib": per_one(before, after, count)}


def _stalled(site: Site, source: Source, count: int) -> int:
    source.control("hold")
    prompt = json.dumps({"deltas": 600, "rate": 200, "pad": 6644})
    ((conversation, stream),) = site.ask(1, prompt)
    line = site.line(conversation, stream, stalls=True)
    source.wait_for(1)
    with Readers([line] * count):
        source.control("go")
        source.wait_until_silent()
        settle(site)
        return memory_bytes(site.processes())


def soak(subject: Subject, source: Source, minutes: float, streams: int = 50) -> dict[str, Any]:
    """Memory after each round of answers of 20 seconds, with 2 readers each."""
    began = time.monotonic()
    mib = []
    worst = 0.0
    while time.monotonic() < began + minutes * 60:
        measured = measure(subject, source, Load(streams, seconds=20))
        worst = max(worst, measured["p99_ms"] or 0)
        mib.append(round(memory_bytes(subject.processes()) / KIB / KIB, 1))
    return {"subject": subject.name, "streams": streams, "minutes": minutes, "mib": mib, "worst_p99_ms": worst}
