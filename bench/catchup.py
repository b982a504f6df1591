"""What coming back costs: attaching to a long answer, opening a page, and a thousand readers at once after a crash."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
from websockets.sync.client import connect

from bench.load import Usage, cpu_s
from bench.processes import Readers, Source
from bench.restart import kill_and_start
from bench.subjects import Embedded, Scaled, Site
from tests.servers import ROOT

# (rows, characters of each): answers of 1 kB to 1 MB, a row for each delta of 20 characters, as a lone reader has it.
ANSWERS = ((50, 20), (500, 20), (5_000, 20), (50_000, 20))
PAGES = (2, 20, 200)
TIMES = 10
CROWD = 1000
CROWD_ANSWERS = 50
BEHIND = 50


def filled(site: Site, answers: list[tuple[int, int]], pages: list[int]) -> dict[str, Any]:
    """What bench/fill.py tells after it has written them."""
    command = [sys.executable, "-m", "bench.fill", json.dumps({"answers": answers, "pages": pages})]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=site.environment | {"LOG_LEVEL": "WARNING"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def attaching(site: Site) -> Iterator[dict[str, Any]]:
    """Milliseconds from `attach` to the answer's `end`, from its first row and from near its last."""
    told = filled(site, list(ANSWERS), [])
    headers = {"Authorization": f"Bearer {told['token']}"}
    for answer in told["answers"]:
        for after in (0, answer["rows"] - 2):
            took = [_attach(site, headers, answer, after) for _ in range(TIMES)]
            yield {
                "subject": site.name,
                "answer_bytes": answer["rows"] * answer["chars"],
                "rows": answer["rows"],
                "after": after,
                "ms": round(statistics.median(ms for ms, _ in took), 2),
                "bytes": took[0][1],
            }


def _attach(site: Site, headers: dict[str, str], answer: dict[str, Any], after: int) -> tuple[float, int]:
    url = f"ws://127.0.0.1:{site.port()}/ws/conversations/{answer['conversation']}/"
    with connect(url, additional_headers=headers, compression=None, max_size=None) as socket:
        began = time.perf_counter()
        socket.send(json.dumps({"type": "attach", "after": {answer["stream"]: after}}))
        size = 0
        while True:
            message = socket.recv(timeout=60)
            size += len(message)
            if '"type":"end"' in str(message[:20]):
                return (time.perf_counter() - began) * 1000, size


def opening(site: Site) -> Iterator[dict[str, Any]]:
    """Milliseconds, CPU, bytes and queries of the pages of short and long conversations."""
    told = filled(site, [], list(PAGES))
    with httpx.Client(base_url=site.urls[0], headers={"Cookie": told["cookie"]}, timeout=60) as http:
        for page in told["pages"]:
            size = len(http.get(page["path"]).raise_for_status().content)
            before = _cpu(site)
            took = []
            for _ in range(TIMES):
                began = time.perf_counter()
                http.get(page["path"]).raise_for_status()
                took.append((time.perf_counter() - began) * 1000)
            yield {
                "subject": site.name,
                "messages": page["messages"],
                "ms": round(statistics.median(took), 1),
                "cpu_ms": round((_cpu(site) - before) * 1000 / TIMES, 1),
                "bytes": size,
                "queries": page["queries"],
            }


def _cpu(site: Site) -> float:
    return sum(cpu_s(process) for process in site.processes().values())


def crowd(site: Embedded | Scaled, source: Source, readers: int = CROWD) -> dict[str, Any]:
    """Kill the web process of so many readers; all come back at the same moment, each 50 rows behind the end."""
    answers = filled(site, [(200, 20)] * CROWD_ANSWERS, [])
    after = 200 - BEHIND
    lines = []
    for number in range(readers):
        answer = answers["answers"][number % CROWD_ANSWERS]
        line = site.line(answer["conversation"], answer["stream"], after=after)
        # They hear the missing words, and the end.
        lines.append(replace(line, headers={"Authorization": f"Bearer {answers['token']}"}, hears=2))
    with Readers(lines):
        web = site.server if isinstance(site, Embedded) else site.cluster.web[0]
        began = time.monotonic()
        kill_and_start(web)
        while not web.ready():
            time.sleep(0.02)
        started_s = time.monotonic() - began
    usage = Usage(site.processes(), source)
    usage.begin()
    with Readers(lines, at_once=readers) as back:
        usage.end()
    return {
        "subject": site.name,
        "readers": readers,
        "web_starts_s": round(started_s, 2),
        "all_back_s": round(back.opened_s, 2),
        "cpu_ms_each": round(usage.subject * usage.wall_s * 1000 / readers, 2),
    }
