"""The goals of the project's speed, and whether the results reach them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.ladders import GOAL
from bench.tables import BARE, STOCK, most_held, shown, table, typical

Results = dict[str, list[dict[str, Any]]]
EMBEDDED = "chatsite embedded"
SCALED = "chatsite scaled out"


def goals(results: Results) -> str:
    """A table; a goal that was not measured is left out, one for which nothing came is missed."""
    rows = []
    for name, judge in GOALS.items():
        try:
            reached, told = judge(results)
        except (KeyError, IndexError, ValueError, StopIteration):
            continue
        except TypeError:  # A figure is None.
            reached, told = False, "nothing came"
        rows.append([name, told, "yes" if reached else "**no**"])
    return table(["goal", "measured", "reached"], rows)


def _pick(results: Results, measurement: str, **wanted: Any) -> list[dict[str, Any]]:
    found = [record for record in results[measurement] if wanted.items() <= record.items()]
    if not found:
        raise KeyError(measurement)
    return found


def _latency(subject: str, p50_ms: float, p99_ms: float) -> Callable[[Results], tuple[bool, str]]:
    def judge(results: Results) -> tuple[bool, str]:
        found = [r for r in _pick(results, "latency", subject=subject) if r["streams"] <= 100]
        p50, p99 = max(r["p50_ms"] for r in found), max(r["p99_ms"] for r in found)
        return p50 <= p50_ms and p99 <= p99_ms, f"{shown(p50)} / {shown(p99)} ms"

    return judge


def _held(subject: str) -> Callable[[Results], tuple[bool, str]]:
    def judge(results: Results) -> tuple[bool, str]:
        record = _pick(results, "capacity", subject=subject, streams=GOAL)[0]
        return record["held"], _told(record)

    return judge


def _within(subject: str, p50_ms: float, p99_ms: float) -> Callable[[Results], tuple[bool, str]]:
    """For 500 streams: 1.3 and 4 times JOURNAL_WINDOW_S."""

    def judge(results: Results) -> tuple[bool, str]:
        record = _pick(results, "capacity", subject=subject, streams=GOAL)[0]
        whole = record["missing"] == record["broken"] == 0
        return whole and record["p50_ms"] <= p50_ms and record["p99_ms"] <= p99_ms, _told(record)

    return judge


def _told(record: dict[str, Any]) -> str:
    return f"{shown(record['p50_ms'])} / {shown(record['p99_ms'])} ms, {sum(record['cpu'].values()):.2f} cores"


def _times_stock(results: Results) -> tuple[bool, str]:
    most, stock = (
        most_held({r["streams"]: r for r in _pick(results, "capacity", subject=subject)})
        for subject in (EMBEDDED, STOCK)
    )
    # Even the smallest load was too much: what it got through is all that can be said of it.
    base = stock or _pick(results, "capacity", subject=STOCK)[0]["frames_per_s"] / 100
    return most >= 8 * base, f"{most} to {shown(base)} streams, {most / base:.1f}×"


def _frame(peer: str, most: float) -> Callable[[Results], tuple[bool, str]]:
    def judge(results: Results) -> tuple[bool, str]:
        ours, theirs = (
            typical(_pick(results, "fan-out", subject=subject, readers=100))[0]["cpu_us_per_frame"]
            for subject in (EMBEDDED, peer)
        )
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
    "added latency p50 ≤ 1, p99 ≤ 10 ms, 1–100 streams, websocket and SSE, embedded": _latency(EMBEDDED, 1, 10),
    "added latency p50 ≤ 3, p99 ≤ 15 ms, 1–100 streams, websocket and SSE, scaled out": _latency(SCALED, 3, 15),
    "500 streams × 50 deltas/s × 2 readers held, embedded": _held(EMBEDDED),
    "500 streams × 50 deltas/s × 2 readers, scaled out: p50 ≤ 1.3, p99 ≤ 4 windows of 100 ms": _within(
        SCALED, 130, 400
    ),
    "≥ 8 times the streams of the stock recipe": _times_stock,
    "CPU per delivered frame, 100 readers, ≤ 2 × bare websockets": _frame(BARE, 2),
    "CPU per delivered frame, 100 readers, ≤ Node ws": _frame("Node ws relay", 1),
    "CPU per delivered frame, 100 readers, ≤ 1/6 of the stock recipe": _frame(STOCK, 1 / 6),
    "memory per idle websocket ≤ 32 KiB": _idle,
    "page of 200 messages: ≤ 8 queries, ≤ 60 ms of the server's time": _page,
    "reading the model's server ≤ 40 µs of CPU per delta": _reading,
}
