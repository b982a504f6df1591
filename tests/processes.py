"""The real site and the model server as processes of their own, on free ports of 127.0.0.1, ended with their test.

A site is one process in the embedded column, a web process and a worker in the scaled one (tests/columns.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import psutil
import websockets
from websockets.asyncio.client import ClientConnection

from streaming.frames import Row, fold
from tests.columns import ROOT, SCALED, store_of
from tests.follower import Follower
from tests.ports import free_port
from tests.visitor import Visitor

START_S = 45
DAPHNE = ("daphne", "-b", "127.0.0.1", "-p")
UVICORN = ("uvicorn", "--no-access-log", "--ws-per-message-deflate", "false", "--port")


@contextmanager
def model_server(for_s: int = 120, port: int = 0) -> Iterator[str]:
    """The tests' model server in its own process; yields the URL that OPENAI_BASE_URL wants."""
    command = [sys.executable, "-m", "tests.modelserver", "--port", str(port), "--for-s", str(for_s)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@dataclass
class RemoteGate:
    """A gate in a model server's process that the deltas of a directive with its name pass (tests/modelscript.py)."""

    model_url: str
    name: str = field(default_factory=lambda: uuid4().hex)

    def open(self, more: int | None = None) -> None:
        """Let so many deltas more pass, or all that follow."""
        url = urljoin(self.model_url, f"/gates/{self.name}")
        httpx.post(url, params={} if more is None else {"more": more}).raise_for_status()


@dataclass
class Server:
    """A site with the web server given; whoever has the same `home` shares its data. `start` after `kill` is the same
    site again."""

    home: Path
    model_url: str
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    web: tuple[str, ...] = DAPHNE
    process: subprocess.Popen[bytes] | None = None
    worker: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def command(self) -> tuple[str, ...]:
        return ("-m", *self.web, str(self.port), "chatsite.asgi:application")

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **store_of(self.home).environment,
            "OPENAI_BASE_URL": self.model_url,
            "OPENAI_API_KEY": "test-key",
            "LLM_MODELS": "test-model",
            "SECRET_KEY": "a key for the tests only, the same after each restart",
            "THROTTLE_VISITORS": "10000/min",
            "THROTTLE_PROMPTS": "10000/min",
            "THROTTLE_LOGINS": "10000/min",
            "USER_STREAMS": "0",
            "STREAM_LEASE_S": "2",
            "PYTHONWARNINGS": "default",
            **self.settings,
        }

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, check=True, capture_output=True, text=True)
        return done.stdout

    @property
    def log(self) -> str:
        return (self.home / "server.log").read_text(errors="replace")

    def stored(self, stream: str, column: str) -> Any:
        """A column of a stream's row, read from the database behind the server's back."""
        return store_of(self.home).stored(stream, column)

    def is_locked(self) -> bool:
        """Whether somebody is in the midst of writing."""
        return store_of(self.home).is_locked()

    def start(self) -> None:
        """Start the processes and wait until the site is ready: it serves, and somebody generates."""
        self.process = self._spawn(*self.command)
        if SCALED:
            self.start_worker()
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def start_worker(self) -> None:
        self.worker = self._spawn("manage.py", "worker")

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, *arguments]
        with (self.home / "server.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def observed(self) -> psutil.Process:
        """The web process, to see what it uses."""
        assert self.process is not None
        return psutil.Process(self.process.pid)

    @property
    def writer(self) -> psutil.Process:
        """The process that generates."""
        return psutil.Process(self.worker.pid) if self.worker else self.observed

    def kill(self) -> None:
        """kill -9: nothing of it runs on."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM, and the exit status: the worst, if there are several."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        processes = [process for process in (self.process, self.worker) if process is not None]
        for process in processes:
            process.send_signal(number)
        return max((process.wait(timeout=START_S) for process in processes), key=abs)

    def stop(self) -> None:
        self.kill()


@contextmanager
def server(home: Path, model_url: str, **settings: str) -> Iterator[Server]:
    """A running site with an empty, migrated database."""
    with running(Server(home, model_url, settings)) as site:
        yield site


@contextmanager
def running(site: Server) -> Iterator[Server]:
    store = store_of(site.home)
    store.make()
    try:
        site.start()
        yield site
    finally:
        site.stop()
        store.drop()


class Client(Visitor):
    """A visitor with a token: the API over HTTP, the conversation over the websocket."""

    def __init__(self, site: Server) -> None:
        super().__init__(site.url, timeout_s=30)
        self.site = site

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def stream(self, stream: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"/streams/{stream}/").raise_for_status().json()
        return found

    def messages(self, conversation: str) -> list[dict[str, Any]]:
        page = self.http.get(f"/conversations/{conversation}/messages/").raise_for_status()
        found: list[dict[str, Any]] = page.json()["results"]
        return found

    def text_at(self, stream: str, seq: int) -> str:
        """What the stored rows up to `seq` add up to."""
        rows = self.http.get(f"/streams/{stream}/chunks/").raise_for_status().json()["results"]
        return fold(Row(row["seq"], row["kind"], row.get("text", ""), None) for row in rows if row["seq"] <= seq).text

    @asynccontextmanager
    async def connected(
        self, conversation: str, follower: Follower, *, small: bool = False
    ) -> AsyncIterator[ClientConnection]:
        """An open websocket, attached at the follower's positions; a `small` one keeps little that is not yet read."""
        url = f"ws://127.0.0.1:{self.site.port}/ws/conversations/{conversation}/"
        with closing(socket.socket()) as line:  # Also when nobody listens, or the handshake fails.
            if small:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
            line.connect(("127.0.0.1", self.site.port))
            line.setblocking(False)
            connecting = websockets.connect(
                url,
                sock=line,
                additional_headers=self.headers,
                max_size=None,
                close_timeout=1,
                max_queue=1 if small else 16,
            )
            async with connecting as opened:
                await opened.send(json.dumps({"type": "attach", "after": follower.positions}))
                yield opened

    async def follow(self, conversation: str, stream: str, follower: Follower, deadline_s: float = 30) -> None:
        """Follow until `stream` has ended, reconnecting whenever the connection breaks, as a page does."""
        follower.begin_empty(stream)
        async with asyncio.timeout(deadline_s):
            while not follower.done(stream):
                try:
                    async with self.connected(conversation, follower) as socket:
                        await listen(socket, follower, lambda: follower.done(stream))
                except (OSError, websockets.WebSocketException):
                    await asyncio.sleep(0.1)


async def listen(socket: ClientConnection, follower: Follower, enough: Any) -> None:
    """Apply frames until `enough()`."""
    while not enough():
        follower.apply(json.loads(await socket.recv()))


def directive(**fields: Any) -> str:
    """A prompt that tells the model server what to do (tests/modelscript.py)."""
    return json.dumps(fields)
