"""How long an answer stands still when what writes it, or what sends it, is killed with SIGKILL and started again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import websockets

from bench.load import Load
from bench.processes import Source
from bench.subjects import Embedded, Scaled, Site
from tests.servers import Service

DEADLINE_S = 60.0
ANSWER = Load(streams=1, readers=1, seconds=DEADLINE_S)


class Watcher:
    """A reader that comes back whenever its connection breaks, and notes when words came."""

    def __init__(self, site: Site, conversation: str, stream: str) -> None:
        port = site.urls[0].rsplit(":", 1)[1]
        self._url = f"ws://127.0.0.1:{port}/ws/conversations/{conversation}/"
        self._headers = site.visitor.headers
        self._stream = stream
        self._seq = 0
        self.words = asyncio.Event()
        self.at = 0.0

    async def watch(self) -> None:
        while True:
            try:
                async with websockets.connect(self._url, additional_headers=self._headers, compression=None) as socket:
                    await socket.send(json.dumps({"type": "attach", "after": {self._stream: self._seq}}))
                    async for message in socket:
                        self._take(json.loads(message))
            except (OSError, websockets.WebSocketException):
                pass
            await asyncio.sleep(0.02)

    def _take(self, frame: dict[str, Any]) -> None:
        self._seq = frame.get("seq", self._seq)
        if frame["type"] == "delta":
            self.at = time.monotonic()
            self.words.set()

    async def next_words(self) -> float:
        """When the next words come."""
        self.words.clear()
        async with asyncio.timeout(DEADLINE_S):
            await self.words.wait()
        return self.at


async def standstill_s(site: Site, source: Source, break_it: Callable[[], object]) -> float:
    """Seconds from `break_it` to the first new words of an answer that was being written and read."""
    source.control("go")
    ((conversation, stream),) = site.ask(1, ANSWER.prompt)
    watcher = Watcher(site, conversation, stream)
    watching = asyncio.create_task(watcher.watch())
    try:
        await watcher.next_words()
        began = time.monotonic()
        await asyncio.to_thread(break_it)
        return round(await watcher.next_words() - began, 2)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def kill_and_start(*services: Service) -> None:
    for service in services:
        service.kill()
    for service in services:
        service.spawn()


def embedded(site: Embedded, source: Source) -> dict[str, Any]:
    """The one process."""
    stood_s = asyncio.run(standstill_s(site, source, partial(kill_and_start, site.server)))
    return {"subject": site.name, "killed": "the process", "standstill_s": stood_s}


def scaled(site: Scaled, source: Source) -> list[dict[str, Any]]:
    """Each of the processes; a web process is another's work for its readers only."""
    parts: dict[str, list[Service]] = {
        "worker": site.cluster.worker,
        "web process": [*site.cluster.web],
        "Redis": [service for service in (site.cluster.redis,) if service],
        "PostgreSQL": [service for service in (site.cluster.postgres,) if service],
    }
    figures = []
    for killed, services in parts.items():
        stood_s = asyncio.run(standstill_s(site, source, partial(kill_and_start, *services)))
        figures.append({"subject": site.name, "killed": killed, "standstill_s": stood_s})
    return figures
