"""The sections of docs/benchmarks.md, each from the records of one measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from operator import itemgetter
from typing import Any

Records = list[dict[str, Any]]
BARE = "bare websockets relay"
STOCK = "stock recipe"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(shown(cell) for cell in line) + " |" for line in lines)


def shown(value: Any) -> str:
    """A number to three significant figures or so."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(value: float | None, base: float | None) -> str:
    """How many times `base`."""
    return "–" if not value or not base else f"{value / base:.2g}×"


def label(record: dict[str, Any]) -> str:
    """A subject, and how it is read where it can be read in two ways."""
    way = {"ws": "websocket", "http": "SSE"}.get(record.get("kind", ""), "")
    return f"{record['subject']}, {way}" if record["subject"].startswith("chatsite") and way else record["subject"]


def column(records: Records, by: str) -> dict[str, dict[int, dict[str, Any]]]:
    """{label: {value of `by`: record}}, in the order of the records."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for record in records:
        found.setdefault(label(record), {})[record[by]] = record
    return found


def typical(records: Records) -> Records:
    """Of one subject's with as many readers the one by whose CPU for a frame as many are cheaper as dearer."""
    found: dict[tuple[str, int], Records] = {}
    for record in records:
        found.setdefault((label(record), record["readers"]), []).append(record)
    return [sorted(each, key=itemgetter("cpu_us_per_frame"))[(len(each) - 1) // 2] for each in found.values()]


def remarks(records: Records) -> str:
    """What is to be said of figures that others disturbed, or that the load itself spoilt."""
    spoilt = [record for record in records if record.get("remarks")]
    if not spoilt:
        return ""
    said = ", ".join(sorted({remark for record in spoilt for remark in record["remarks"]}))
    where = [f"{label(record)} at {record['streams']} × {record['readers']}" for record in spoilt]
    named = "; ".join(where[:6]) + " …" * (len(where) > 6)
    return f"Spoilt: {len(spoilt)} of {len(records)} figures, because {said}: {named}."


def counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def latency(records: Records) -> str:
    streams = sorted({record["streams"] for record in records})
    rows = []
    for name, found in column(records, "streams").items():
        cells = [_ages(found[count]) if count in found else "–" for count in streams]
        rows.append([name, *cells, next(iter(found.values()))["persists"]])
    head = ["p50 / p99, ms", *(counted(count, "stream") for count in streams), "keeps"]
    busiest = max((max(record["readers_cpu"], record["source_cpu"]) for record in records), default=0)
    return "\n\n".join(
        [
            "From the model server's write of a delta to a reader's read of it: 50 deltas a second in each stream, two "
            "readers of each stream. The direct read is one reader without anything between: what the harness and the "
            "kernel add. **Bold**: not held (p99 over 250 ms, growing lag, or text that did not come).",
            table(head, rows),
            f"The busiest process of the load, source or clients, took {busiest:.0%} of a core.",
            remarks(records),
        ]
    )


def _ages(record: dict[str, Any]) -> str:
    said = f"{shown(record['p50_ms'])} / {shown(record['p99_ms'])}"
    return said if record["held"] else f"**{said}**"


def capacity(records: Records) -> str:
    rows = []
    best = {name: most_held(found) for name, found in column(records, "streams").items()}
    stock = best.get(STOCK, 0)
    for name, found in column(records, "streams").items():
        at = found.get(best[name]) or next(iter(found.values()))
        cpu = sum(at["cpu"].values())
        told = [_ages(at), at["frames_per_s"], round(cpu, 2), at["cpu_us_per_delta"]]
        rows.append([name, best[name], ratio(best[name], stock), *told])
    head = ["", "streams held", "to the stock recipe", "p50 / p99, ms", "frames/s", "cores used", "CPU per delta, µs"]
    said = (
        "The most streams of 50 deltas a second, with two readers each, that are held on this machine: source, clients"
    )
    return f"{said} and databases included.\n\n{table(head, rows)}\n\n{remarks(records)}"


def most_held(found: dict[int, dict[str, Any]]) -> int:
    """The largest load, of those by their number of streams, that was held as were all below it; 0 for none."""
    return max(takewhile(lambda count: found[count]["held"], sorted(found)), default=0)


def fan_out(records: Records) -> str:
    records = typical(records)
    readers = sorted({record["readers"] for record in records})
    found = column(records, "readers")
    bare = {count: record["cpu_us_per_frame"] for count, record in found.get(BARE, {}).items()}
    rows = []
    for name, by_readers in found.items():
        cells = []
        for count in readers:
            cost = by_readers.get(count, {}).get("cpu_us_per_frame")
            cells.append(f"{shown(cost)} ({ratio(cost, bare.get(count))})")
        rows.append([name, *cells, by_readers[max(by_readers)]["frames_per_cpu_s"]])
    head = [
        "CPU per delivered frame, µs",
        *(counted(count, "reader") for count in readers),
        "deliveries per CPU second, most",
    ]
    said = (
        "One stream of 50 deltas a second and its readers; in brackets the ratio to the bare websockets relay. With "
        "few readers it is the price of the stream itself. What the goals compare was measured five times, all in "
        "turns: the medians."
    )
    return f"{said}\n\n{table(head, rows)}\n\n{remarks(records)}"


def stages(records: Records) -> str:
    names = [name for name in dict.fromkeys(n for r in records for n in r) if name not in ("subject", "process", "us")]
    names.remove("streams")
    rows = [
        [f"{record['subject']}: {record['process']}", record["us"], *(record.get(name) for name in names)]
        for record in records
    ]
    count = records[0]["streams"]
    said = f"Microseconds of CPU for one delta of the model's, {count} streams with two readers each, by stage."
    return f"{said}\n\n{table(['', 'all', *names], rows)}"


def memory(records: Records) -> str:
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        found.setdefault(record["subject"], {}).update(record)
    head = [
        "",
        "idle websocket",
        "stream being written",
        "reader that stopped reading (4 MB answer)",
        "CPU of 1,000 idle",
    ]
    rows = [
        [
            name,
            *(f"{shown(record.get(kind))} KiB" for kind in ("idle_kib", "active_kib", "slow_kib")),
            f"{record.get('cpu_per_1000') or 0:.1%} of a core",
        ]
        for name, record in found.items()
    ]
    return table(head, rows)


def soak(records: Records) -> str:
    head = ["", "streams", "minutes", "MiB at the first third's end", "MiB at the end", "worst p99 of a round, ms"]
    rows = [
        [r["subject"], r["streams"], r["minutes"], r["mib"][len(r["mib"]) // 3], r["mib"][-1], r["worst_p99_ms"]]
        for r in records
    ]
    return table(head, rows)


def catch_up(records: Records) -> str:
    kinds = {kind: [record for record in records if record["kind"] == kind] for kind in ("attach", "page", "crowd")}
    attach = [
        [
            r["subject"],
            r["answer_bytes"],
            r["rows"],
            "the start" if not r["after"] else "near the end",
            r["ms"],
            r["bytes"],
        ]
        for r in kinds["attach"]
    ]
    page = [[r["subject"], r["messages"], r["ms"], r["cpu_ms"], r["queries"], r["bytes"]] for r in kinds["page"]]
    crowd = [[r["subject"], r["readers"], r["web_starts_s"], r["all_back_s"], r["cpu_ms_each"]] for r in kinds["crowd"]]
    return "\n\n".join(
        [
            "From `attach` to the `end` of a finished answer, a row for each delta:",
            table(["", "answer, bytes", "rows", "attached at", "ms", "bytes received"], attach),
            "Opening the page of a conversation:",
            table(["", "messages", "ms", "CPU, ms", "queries", "bytes"], page),
            "A web process is killed, started again, and all of its readers come back at the same moment:",
            table(
                ["", "readers", "it serves again after, s", "all have all text after another, s", "CPU each, ms"], crowd
            ),
        ]
    )


def storage(records: Records) -> str:
    head = [
        "for 1,000 deltas (22,000 bytes of text)",
        "streams",
        "rows",
        "bytes",
        "compacted: rows",
        "bytes",
        "streams per commit",
        "rows per commit",
        "commit p50 / p99, ms",
    ]
    rows = [
        [
            record["subject"],
            record["streams"],
            record["rows_per_1000"],
            record["bytes_per_1000"],
            record["rows_compacted_per_1000"],
            record["bytes_compacted_per_1000"],
            record["streams_per_commit"],
            record["rows_per_commit"],
            f"{shown(record['commit_p50_ms'])} / {shown(record['commit_p99_ms'])}",
        ]
        for record in records
    ]
    said = "Bytes are those of the log's table with its indexes; on PostgreSQL, compacted ones those after VACUUM FULL."
    return f"{said}\n\n{table(head, rows)}"


def restart(records: Records) -> str:
    rows = [[record["subject"], record["killed"], record["standstill_s"]] for record in records]
    said = "An answer is being written and read when a process is killed (SIGKILL) and started again at once."
    return f"{said}\n\n{table(['', 'killed', 'until the reader has new words, s'], rows)}"


SECTIONS: dict[str, tuple[str, Callable[[Records], str]]] = {
    "latency": ("Added latency", latency),
    "capacity": ("Capacity", capacity),
    "fan-out": ("Fan-out", fan_out),
    "stages": ("Where the time goes", stages),
    "memory": ("Memory", memory),
    "soak": ("Soak", soak),
    "catch-up": ("Coming back", catch_up),
    "storage": ("Storage", storage),
    "restart": ("Restart", restart),
}
