"""The peers as subjects: servers that do a part of the same work, each labelled with what of it it keeps.

All are one process that asks the source when the first reader of a room comes, and sends to all readers of the room.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import psutil

from bench.load import Load
from bench.processes import Source
from bench.reader import Line
from tests import javascript
from tests.cluster import UVICORN
from tests.ports import free_port
from tests.servers import ROOT, Server, Service, postgres_server, redis_server

FOLDER = Path(__file__).resolve().parent


class Peer:
    """A server of one process, and what it stands on."""

    def __init__(self, home: Path, name: str, persists: str, command: Sequence[str], kind: str = "ws") -> None:
        self.home = home
        self.name = name
        self.persists = persists
        self.kind = kind
        self._command = command
        self._services: list[Server] = []

    def environment(self, source: Source) -> dict[str, str]:
        """What its process is told; also the place to start what it needs."""
        return {**os.environ, "SOURCE": source.url, "PORT": str(self.port)}

    def start(self, source: Source) -> None:
        self.port = free_port()
        own = self.environment(source)
        command = [part.replace("$PORT", str(self.port)) for part in self._command]
        server = Server("peer", command, self.home, own, ready=lambda: _listens(self.port), cwd=ROOT, port=self.port)
        self._services.append(server)
        server.start()

    def needs(self, server: Server) -> str:
        """Start what the peer stands on; returns its URL."""
        self._services.append(server)
        server.start()
        return server.url

    def stop(self) -> None:
        while self._services:
            self._services.pop().stop()

    def processes(self) -> dict[str, psutil.Process]:
        return {service.name: psutil.Process(service.pid) for service in self._services}

    def lines(self, load: Load) -> list[Line]:
        begun = os.urandom(4).hex()
        rooms = [f"/{begun}x{number}" for number in range(load.streams)]
        return [
            self.line(room, load.prompt, first) for room in rooms for first in [True] + [False] * (load.readers - 1)
        ]

    def line(self, room: str, prompt: str, first: bool) -> Line:
        return Line(self.kind, self.port, f"{room}?prompt={quote(prompt)}")


class Bun(Peer):
    """It makes 256 requests at once where it is told no other number."""

    def environment(self, source: Source) -> dict[str, str]:
        return super().environment(source) | {"BUN_CONFIG_MAX_HTTP_REQUESTS": "10000"}


class Resumable(Peer):
    """It needs Redis."""

    def environment(self, source: Source) -> dict[str, str]:
        return super().environment(source) | {"REDIS_URL": self.needs(redis_server(self.home))}


class Stock(Peer):
    """A Django site; the first reader of each room asks."""

    scaled = False

    def environment(self, source: Source) -> dict[str, str]:
        own = super().environment(source) | {"DJANGO_SETTINGS_MODULE": "bench.peers.stock.settings"}
        if self.scaled:
            own["DATABASE_URL"] = self.needs(postgres_server(self.home))
            own["REDIS_URL"] = self.needs(redis_server(self.home))
        else:
            own["DATABASE_URL"] = f"sqlite:///{self.home}/stock.sqlite3"
            own.pop("REDIS_URL", None)
        tables = [sys.executable, "-m", "django", "migrate", "--run-syncdb", "-v0"]
        migrate = Service("migrate", tables, self.home, own, cwd=ROOT)
        migrate.spawn()
        assert migrate.wait(60) == 0, migrate.tail()
        return own

    def line(self, room: str, prompt: str, first: bool) -> Line:
        asked = json.dumps({"prompt": prompt}) if first else ""
        return Line("ws", self.port, room, first=asked)


class StockScaled(Stock):
    scaled = True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def websockets_relay(home: Path) -> Peer:
    return Peer(home, "bare websockets relay", "nothing", [sys.executable, "-m", "bench.peers.relay"])


def node_relay(home: Path) -> Peer:
    return Peer(home, "Node ws relay", "nothing", [*_node(), str(FOLDER / "node_ws.mjs")])


def bun_relay(home: Path) -> Peer:
    javascript.install(FOLDER)
    # The package's own command is a stub until its install script has run; these are the programs for this machine.
    bun = min(FOLDER.glob("node_modules/@oven/bun-*/bin/bun"), key=lambda path: len(str(path)))
    return Bun(home, "Bun relay", "nothing", [str(bun), str(FOLDER / "bun_ws.mjs")])


def resumable_stream(home: Path) -> Peer:
    kept = "in the memory of the process that asked; lost with it"
    return Resumable(home, "resumable-stream", kept, [*_node(), str(FOLDER / "resumable.mjs")], "http")


def stock(home: Path) -> Peer:
    kept = "each delta, one INSERT each, committed before it is sent (SQLite)"
    return Stock(home, "stock recipe", kept, STOCK)


def stock_scaled(home: Path) -> Peer:
    kept = "each delta, one INSERT each, committed before it is sent (PostgreSQL)"
    return StockScaled(home, "stock recipe, scaled out", kept, STOCK)


STOCK = (sys.executable, "-m", *UVICORN, "--port", "$PORT", "bench.peers.stock.asgi:application")


def _node() -> list[str]:
    """Node, once what it is to run is installed."""
    javascript.install(FOLDER)
    return javascript.commands()[0]
