"""What the log takes: rows and bytes for a thousand deltas, as written and compacted, and how many streams and rows a
commit holds and how long it takes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from bench.load import Load, measure, running
from bench.processes import Source
from bench.store import home
from bench.subjects import Embedded, Scaled, Site
from tests.servers import ROOT

STREAMS = (1, 500)
APPLICATION = "bench.timed:application"
WORKER = ("-m", "bench.timed", "worker")
LOG = "streaming_chunk"
NOW_DAYS = 1e-6


def storage(seconds: float) -> Iterator[dict[str, Any]]:
    """Both columns with one stream and with many, each on an empty database."""
    for streams in STREAMS:
        for column in (Embedded, Scaled):
            with home() as place, Source(place) as source:
                yield _one(column, place, source, Load(streams, seconds=seconds))


def _one(column: type[Embedded] | type[Scaled], place: Path, source: Source, load: Load) -> dict[str, Any]:
    settings = {"BENCH_TIMES": str(place)}
    site: Site
    if column is Embedded:
        site = Embedded(place, settings, application=APPLICATION)
    else:
        site = Scaled(place, settings, worker=WORKER)
    log_size = sqlite_size if column is Embedded else postgres_size
    with running(site, source):
        _, empty = log_size(site)
        measured = measure(site, source, load)
        source.wait_until_silent()
        rows, size = log_size(site)
        _compact(site)
        rows_left, size_left = log_size(site)
    lines = [line.split() for path in place.glob("*.commits") for line in path.read_text().splitlines()]
    deltas = load.streams * load.count
    return {
        "subject": site.name,
        "streams": load.streams,
        "deltas": deltas,
        "missing": measured["missing"],
        "rows_per_1000": round(rows / deltas * 1000),
        "bytes_per_1000": round((size - empty) / deltas * 1000),
        "rows_compacted_per_1000": round(rows_left / deltas * 1000, 1),
        "bytes_compacted_per_1000": round((size_left - empty) / deltas * 1000),
        "text_bytes_per_1000": 22_000,
        **_commits([(float(took), int(streams), int(rows)) for took, streams, rows in lines]),
    }


def _compact(site: Site) -> None:
    """Compact all that has ended, as if it were old, and give back what that freed."""
    environment = site.environment | {"LOG_DAYS": str(NOW_DAYS), "LOG_LEVEL": "WARNING"}
    command = [sys.executable, "manage.py", "retain"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE)
    if not isinstance(site, Embedded):
        with psycopg.connect(site.environment["DATABASE_URL"], autocommit=True) as connection:
            connection.execute(f"VACUUM FULL {LOG}")


def _commits(commits: list[tuple[float, int, int]]) -> dict[str, Any]:
    ms = sorted(took for took, _, _ in commits)
    return {
        "commits": len(commits),
        "streams_per_commit": round(sum(streams for _, streams, _ in commits) / len(commits), 1),
        "rows_per_commit": round(sum(rows for _, _, rows in commits) / len(commits), 1),
        "commit_p50_ms": round(ms[len(ms) // 2], 3),
        "commit_p99_ms": round(ms[len(ms) * 99 // 100], 3),
    }


def sqlite_size(site: Site) -> tuple[int, int]:
    """Rows of the log, and bytes of it and its indexes."""
    with closing(sqlite3.connect(site.home / "site.sqlite3")) as database:
        (rows,) = database.execute(f"SELECT count(*) FROM {LOG}").fetchone()
        query = "SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name = ?)"
        (size,) = database.execute(query, [LOG]).fetchone()
    return rows, size


def postgres_size(site: Site) -> tuple[int, int]:
    with psycopg.connect(site.environment["DATABASE_URL"]) as connection:
        found = connection.execute(f"SELECT count(*), pg_total_relation_size('{LOG}') FROM {LOG}").fetchone()
    assert found is not None
    return int(found[0]), int(found[1])
