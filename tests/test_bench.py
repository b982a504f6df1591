"""The benchmark's own parts: it counts every delta, sees a gap, and says which goals are missed."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import pytest
from websockets.asyncio.server import ServerConnection, serve

from bench import disk, ladders, render, rows, stages, store, svg, tables
from bench.goals import goals
from bench.load import Load, held, measure
from bench.processes import Source
from bench.reader import Client, Figures, Line
from bench.subjects import Direct
from streaming.models import Chunk
from tests.conftest import DEADLINE_S

SECOND = Load(3, 1, seconds=1, kind="http")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with Source(tmp_path_factory.mktemp("bench")) as source:
        return measure(Direct.of(source), source, SECOND)


def test_a_direct_read_gets_every_delta_of_every_stream_once(measured: dict[str, Any]) -> None:
    assert (measured["missing"], measured["broken"]) == (0, 0)
    assert 0 < measured["p50_ms"] <= measured["p99_ms"] <= measured["max_ms"]


def test_a_direct_read_is_as_fast_as_the_source_speaks(measured: dict[str, Any]) -> None:
    assert measured["deltas_per_s"] == pytest.approx(SECOND.streams * SECOND.rate, rel=0.4)


async def test_a_gap_a_repeat_and_a_lost_end_are_seen() -> None:
    async def speak(reader: ServerConnection) -> None:
        for number in (0, 1, 3, 3, 4):
            await reader.send(f'{{"text": "{number:06d}:{1:014d} "}}')
        await reader.close()

    figures = Figures(1, 6, 0)
    async with serve(speak, "127.0.0.1", 0, compression=None, close_timeout=0.1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: Client(Line("ws", port, "/"), figures), "127.0.0.1", port)
        await client.ready
    assert (figures.broken, len(figures.ages), figures.unfinished) == (2, 5, 1)


@pytest.mark.parametrize(
    "spoilt", [{"p99_ms": 251.0}, {"missing": 1}, {"broken": 1}, {"growth_ms": 50.0}, {"p99_ms": None}]
)
def test_a_load_is_not_held_with_late_lost_or_ever_later_text(spoilt: dict[str, Any]) -> None:
    good = {"p50_ms": 1.0, "p99_ms": 9.0, "growth_ms": 0.1, "missing": 0, "broken": 0}
    assert held(good)
    assert not held(good | spoilt)


def test_a_page_is_written_again_from_what_was_published(
    measured: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, docs = tmp_path / "var", tmp_path / "docs"
    monkeypatch.setattr(store, "FOLDER", here)
    machine = store.machine() | {"pace_after_ms": store.pace_ms()}
    store.save("latency", [{**measured, "subject": "chatsite embedded", "persists": "", "held": True}], machine)
    render.write(docs)
    page = (docs / "benchmarks.md").read_text()
    assert "## Added latency" in page
    assert re.search(r"a fixed piece of work took it [\d.]+ ms before, [\d.]+ ms after\.\*", page)
    shutil.rmtree(here)
    render.write(docs)
    assert (docs / "benchmarks.md").read_text() == page


def test_a_goal_is_reached_missed_or_not_there(measured: dict[str, Any]) -> None:
    ours = measured | {"subject": "chatsite embedded", "kind": "ws", "p50_ms": 0.9, "p99_ms": 9.0}
    assert "| 0.9 / 9 ms | yes |" in goals({"latency": [ours]})
    assert "**no**" in goals({"latency": [ours | {"p99_ms": 11.0}]})
    assert "**no**" in goals({"latency": [ours, ours | {"kind": "http", "p99_ms": 11.0}]})
    assert "| nothing came | **no** |" in goals({"latency": [ours, ours | {"p50_ms": None, "p99_ms": None}]})
    assert "scaled out" not in goals({"latency": [ours]})


def test_what_the_goals_compare_is_measured_in_turns_and_judged_by_the_median(
    measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"embedded": "chatsite embedded", "bun": "Bun relay", "node": "Node ws relay"}
    costs = {"chatsite embedded": [20, 9, 12, 11, 30], "Bun relay": [7], "Node ws relay": [8, 40, 12, 11, 13]}
    kind = {"kind": "ws", "tries": 1}

    def climb(name: str, loads: list[Load]) -> Iterator[dict[str, Any]]:
        for load in loads:
            cost = costs[names[name]].pop(0) if load.readers == 100 else 50
            yield measured | kind | {"subject": names[name], "readers": load.readers, "cpu_us_per_frame": cost}

    monkeypatch.setattr(ladders, "_climb", climb)
    records = list(ladders.fan_out(["direct", *names], 1))
    assert [r["subject"] for r in records if r["readers"] == 100] == [*names.values()] + [
        "chatsite embedded",
        "Node ws relay",
    ] * 4
    assert not any(costs.values())
    assert "| 12 to 12 µs, 1.00× | yes |" in goals({"fan-out": records})
    assert re.search(r"chatsite embedded, websocket \| 50 \(.*\) \| 50 \(.*\) \| 12 \(", tables.fan_out(records))
    pictures = dict(render.pictures("fan-out", records))
    assert pictures["fan-out.svg"].count(">12<") == 2


def test_a_load_above_one_that_was_not_held_is_no_capacity(measured: dict[str, Any]) -> None:
    records = [measured | {"kind": "ws", "streams": n, "held": n != 400} for n in (300, 400, 500)]
    assert "| 300 |" in tables.capacity(records)
    of = {"subject": "chatsite scaled out", "p50_ms": 129.0, "p99_ms": 399.0, "cpu": {}}
    assert "| yes |" in goals({"capacity": [record | of for record in records]})
    assert "| **no** |" in goals({"capacity": [record | of | {"missing": 1} for record in records]})


def test_a_figure_that_others_spoilt_is_remarked_on(measured: dict[str, Any]) -> None:
    record = measured | {"remarks": ["other programs used the machine"], "persists": "nothing", "held": True}
    assert "1 of 1 figures, because other programs used the machine" in tables.latency([record])


@pytest.mark.parametrize(("takes_s", "still"), [(0.002, 0), (0.1, 1)])
def test_a_disk_that_makes_a_page_wait_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_s: float, still: float
) -> None:
    now, asked = [0.0], threading.Event()

    def make_safe(_: int) -> None:
        now[0] += takes_s
        if now[0] >= 10 * takes_s:
            asked.set()

    monkeypatch.setattr(disk, "EVERY_S", 0)
    monkeypatch.setattr(disk, "_make_safe", make_safe)
    monkeypatch.setattr(disk, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with disk.Disk(tmp_path) as watched:
        assert asked.wait(DEADLINE_S)
    assert watched.still == pytest.approx(still)


def test_a_disk_that_takes_no_page_is_no_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def make_safe(_: int) -> None:
        asked.set()
        raise OSError("no space left")

    monkeypatch.setattr(disk, "_make_safe", make_safe)
    with pytest.raises(OSError, match="no space left"), disk.Disk(tmp_path):
        assert asked.wait(DEADLINE_S)


@pytest.mark.parametrize(
    ("others", "still", "told"),
    [([0.1], [0.001], (0, 1)), ([0.5, 0.1], [0, 0], (1, 2)), ([0, 0, 0], [0.02, 0.006, 0.007], (1, 3))],
)
def test_what_others_disturbed_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, others: list[float], still: list[float], told: tuple[int, int]
) -> None:
    tries = [{"try": n, "others_cpu": o, "disk_still": s} for n, (o, s) in enumerate(zip(others, still, strict=True))]
    monkeypatch.setattr(ladders, "measure", lambda *_: tries.pop(0))
    found = ladders._undisturbed(cast(Any, None), cast(Any, SimpleNamespace(wait_until_silent=int)), SECOND)
    assert (found["try"], found["tries"]) == told


def test_the_pictures_are_well_formed() -> None:
    line = svg.lines("A <title>", "x", "y", {"chatsite": [(1, 0.5), (10, 20)], "a & b": [(1, 3), (10, 3)]})
    bar = svg.bars("A & title", "ms", [("chatsite", 1.0), ("b", 2000.0)])
    assert [ElementTree.fromstring(picture).tag for picture in (line, bar)] == ["{http://www.w3.org/2000/svg}svg"] * 2


def test_a_sample_belongs_to_the_innermost_stage_of_the_main_thread() -> None:
    names, samples = stages.read_stacks(
        "thread (7): MainThread;run (asyncio/runners.py:1);step (streaming/journal.py:2);loads (json/x.py:1) 3\n"
        "thread (7): MainThread;run (asyncio/runners.py:1) 5\nthread (8): journal_0;_worker (thread.py:81) 9\n"
    )
    assert (names, dict(samples)) == ({7: "MainThread", 8: "journal_0"}, {"parse": 3, "loop": 5})


@pytest.mark.django_db
def test_a_load_of_rows_is_made_and_every_page_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ANSWER_ROWS", 20)
    monkeypatch.setattr(rows, "TIMES", 1)
    assert list(rows.fill(150))[-1] == Chunk.objects.count() == 200
    assert len(dict(rows.timed())) == len(rows.pages()) > 5
