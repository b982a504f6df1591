"""Writes docs/benchmarks.md and its pictures from the results in var/bench, and publishes those beside the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import svg, tables
from bench.goals import goals
from bench.store import load, publish

HEAD = """# Benchmarks

Written by `make bench`; how it measures is told in [bench/README.md](../bench/README.md). Every figure of Chatsite's
is with text committed to the database before it is sent; what the others keep is said beside them. Figures of different
machines cannot be compared, ratios within a table can.
"""


def write(folder: Path) -> None:
    """Write benchmarks.md and bench/* there, from whatever was measured here, or else was published there; what was
    neither has no section."""
    published = folder / "bench"
    published.mkdir(parents=True, exist_ok=True)
    found = {name: results for name in tables.SECTIONS if (results := load(name, published)) and results["records"]}
    records = {name: results["records"] for name, results in found.items()}
    parts = [HEAD, "## Against the goals", goals(records)]
    for name, results in found.items():
        publish(results, published)
        title, section = tables.SECTIONS[name]
        parts += [f"## {title}", section(results["records"]).strip()]
        for file, picture in pictures(name, results["records"]):
            (published / file).write_text(picture)
            parts.append(f"![{title}](bench/{file})")
        parts.append(measured(results))
    (folder / "benchmarks.md").write_text("\n\n".join(part.strip() for part in parts if part) + "\n")


def measured(results: dict[str, Any]) -> str:
    of = results["machine"]
    size = f"{of['cpus']} × {of['cpu']}, {of['memory_gib']} GiB, {of['system']}, Python {of['python']}"
    if "pace_after_ms" in of:
        size += f"; a fixed piece of work took it {of['pace_before_ms']} ms before, {of['pace_after_ms']} ms after"
    return f"*{results['at'].replace('+00:00', '').replace('T', ' ')} UTC, commit {results['commit']}, {size}.*"


def pictures(name: str, records: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(file name, SVG) of the pictures of one section."""
    if name == "latency":
        for figure in ("p50_ms", "p99_ms"):
            series = {
                label: [(count, record[figure]) for count, record in found.items() if record[figure]]
                for label, found in tables.column(records, "streams").items()
            }
            drawn = {label: points for label, points in series.items() if points}
            yield f"latency-{figure[:3]}.svg", svg.lines("Added latency", "streams", f"{figure[:3]}, ms", drawn)
    elif name == "capacity":
        held = {label: tables.most_held(found) for label, found in tables.column(records, "streams").items()}
        yield "capacity.svg", svg.bars("Streams held", "of 50 deltas/s, two readers each", list(held.items()))
    elif name == "fan-out":
        most = max(record["readers"] for record in records if record["readers"] <= 100)
        cost = [(tables.label(r), r["cpu_us_per_frame"]) for r in tables.typical(records) if r["readers"] == most]
        yield "fan-out.svg", svg.bars(f"CPU per delivered frame, {most} readers", "µs", cost)
