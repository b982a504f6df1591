"""The goals of the project's speed, and whether the results reach them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.tables import BARE, STOCK, shown, table

Results = dict[str, list[dict[str, Any]]]
EMBEDDED = "chatsite embedded"
SCALED = "chatsite scaled out"


def goals(results: Results) -> str:
    """A table; a goal whose figures were not measured is left out."""
    rows = []
    for name, judge in GOALS.items():
        try:
            reached, told = judge(results)
        except (KeyError, IndexError, ValueError, TypeError):
            continue
        rows.append([name, told, "yes" if reached else "**no**"])
    return table(["goal", "measured", "reached"], rows)


def _pick(results: Results, measurement: str, **wanted: Any) -> list[dict[str, Any]]:
    found = [record for record in results[measurement] if wanted.items() <= record.items()]
    if not found:
        raise KeyError(measurement)
    return found


def _latency(subject: str, p50_ms: float, p99_ms: float) -> Callable[[Results], tuple[bool, str]]:
    def judge(results: Results) -> tuple[bool, str]:
        found = [r for r in _pick(results, "latency", subject=subject, kind="ws") if r["streams"] <= 100]
        p50, p99 = max(r["p50_ms"] for r in found), max(r["p99_ms"] for r in found)
        return p50 <= p50_ms and p99 <= p99_ms, f"{shown(p50)} / {shown(p99)} ms"

    return judge


def _held(subject: str) -> Callable[[Results], tuple[bool, str]]:
    def judge(results: Results) -> tuple[bool, str]:
        # Where 500 were not tried because fewer were too many, the last that was.
        tried = [record for record in _pick(results, "capacity", subject=subject) if record["streams"] <= 500]
        record = tried[-1]
        if record["streams"] < 500:
            return False, f"{record['streams']} were too many"
        ages = f"{shown(record['p50_ms'])} / {shown(record['p99_ms'])} ms, {sum(record['cpu'].values()):.2f} cores"
        return record["held"], ages

    return judge


def _times_stock(results: Results) -> tuple[bool, str]:
    most = {
        subject: max((r["streams"] for r in _pick(results, "capacity", subject=subject) if r["held"]), default=0)
        for subject in (EMBEDDED, STOCK)
    }
    # Even the smallest load was too much: what it got through is all that can be said of it.
    base = most[STOCK] or _pick(results, "capacity", subject=STOCK)[0]["frames_per_s"] / 100
    return most[EMBEDDED] >= 8 * base, f"{most[EMBEDDED]} to {shown(base)} streams, {most[EMBEDDED] / base:.1f}×"


def _frame(peer: str, most: float) -> Callable[[Results], tuple[bool, str]]:
    def judge(results: Results) -> tuple[bool, str]:
        ours = _pick(results, "fan-out", subject=EMBEDDED, readers=100)[0]["cpu_us_per_frame"]
        theirs = _pick(results, "fan-out", subject=peer, readers=100)[0]["cpu_us_per_frame"]
        return ours <= most * theirs, f"{shown(ours)} to {shown(theirs)} µs, {ours / theirs:.2f}×"

    return judge


def _idle(results: Results) -> tuple[bool, str]:
    kib = next(r["idle_kib"] for r in _pick(results, "memory", subject=EMBEDDED) if "idle_kib" in r)
    return kib <= 32, f"{shown(kib)} KiB"


def _page(results: Results) -> tuple[bool, str]:
    record = _pick(results, "catch-up", kind="page", subject=EMBEDDED, messages=200)[0]
    reached = record["queries"] <= 8 and record["cpu_ms"] <= 60
    return reached, f"{record['queries']} queries, {shown(record['cpu_ms'])} ms"


def _reading(results: Results) -> tuple[bool, str]:
    record = _pick(results, "stages", subject=EMBEDDED)[0]
    spent = record["read"] + record["parse"]
    return spent <= 40, f"{shown(spent)} µs"


GOALS: dict[str, Callable[[Results], tuple[bool, str]]] = {
    "added latency p50 ≤ 1, p99 ≤ 10 ms, 1–100 streams, embedded": _latency(EMBEDDED, 1, 10),
    "added latency p50 ≤ 3, p99 ≤ 15 ms, 1–100 streams, scaled out": _latency(SCALED, 3, 15),
    "500 streams × 50 deltas/s × 2 readers held, embedded": _held(EMBEDDED),
    "500 streams × 50 deltas/s × 2 readers held, scaled out": _held(SCALED),
    "≥ 8 times the streams of the stock recipe": _times_stock,
    "CPU per delivered frame, 100 readers, ≤ 2 × bare websockets": _frame(BARE, 2),
    "CPU per delivered frame, 100 readers, ≤ Node ws": _frame("Node ws relay", 1),
    "CPU per delivered frame, 100 readers, ≤ 1/6 of the stock recipe": _frame(STOCK, 1 / 6),
    "memory per idle websocket ≤ 32 KiB": _idle,
    "page of 200 messages: ≤ 8 queries, ≤ 60 ms of the server's time": _page,
    "reading the model's server ≤ 40 µs of CPU per delta": _reading,
}
