"""Who talks and who reads during a run: prompts that are asked until they are taken, readers that come back by
themselves, each at its own web process as long as that answers, else at the next one, as behind a proxy.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import uuid4

import aiohttp
import websockets
from websockets.asyncio.client import ClientConnection

from tests.chaos.checker import Seen

BACKOFF_S = 0.4
BACKOFF_MAX_S = 5.0
ANSWER_S = aiohttp.ClientTimeout(total=10)
FOLLOW_S = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=40)
FINAL_CODES = (4403, 4404)
FINAL_ERRORS = ("gone", "not_found")


@dataclass
class Access:
    """Where the site is, and the token of the one who talks."""

    urls: Sequence[str]
    token: str
    http: aiohttp.ClientSession

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def call(self, method: str, url: str, **more: Any) -> tuple[int, Any]:
        """The status, and what a good answer says."""
        headers = self.headers | more.pop("headers", {})
        async with self.http.request(method, url, headers=headers, timeout=ANSWER_S, **more) as answer:
            return answer.status, await answer.json() if answer.ok else None


async def pause(tries: int) -> None:
    """What docs/protocol.md asks of a client that lost its connection."""
    await asyncio.sleep(min(BACKOFF_S * 2**tries, BACKOFF_MAX_S) * random.uniform(0.5, 1))


@dataclass
class Reader:
    """Follows one stream to its end and stays; `run` never returns by itself."""

    access: Access
    name: str
    at: int
    stream: str = ""
    frames: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    refused: str = ""
    told_at: float | None = None

    async def run(self) -> None:
        tries = 0
        while not self.refused:
            heard = len(self.frames)
            try:
                await self.connect(self.access.urls[self.at % len(self.access.urls)])
            except (OSError, aiohttp.ClientError, websockets.WebSocketException, TimeoutError):
                self.at += 1
            tries = 0 if len(self.frames) > heard else tries + 1
            await pause(tries)

    async def connect(self, url: str) -> None:
        raise NotImplementedError

    @property
    def position(self) -> int:
        return max((frame["seq"] for _, frame in self.frames), default=0)

    def take(self, frame: dict[str, Any]) -> None:
        """A frame came in; those without a place in the log prove nothing."""
        if frame["type"] == "error" and frame["code"] in FINAL_ERRORS:
            self.refused = str(frame)
        if frame.get("stream") == self.stream and "seq" in frame:
            self.frames.append((time.time(), frame))
            if frame["type"] == "end" and not self.told.is_set():
                self.told_at = time.time()
                self.told.set()

    def seen(self, stream: str) -> Seen:
        """What it got of `stream`, which it may not even know of."""
        return Seen(self.name, self.stream or stream, [frame for _, frame in self.frames], self.told_at, self.refused)

    @property
    def stall_s(self) -> float:
        """The longest time between two frames."""
        times = [at for at, _ in self.frames]
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


@dataclass
class SocketReader(Reader):
    """A tab: attached before anybody asks, it learns of the stream by its `turn`."""

    conversation: str = ""
    connected_before: bool = False

    async def connect(self, url: str) -> None:
        if self.connected_before and not self.stream:
            await self._look(url)
        self.connected_before = True
        address = f"{url.replace('http', 'ws', 1)}/ws/conversations/{self.conversation}/"
        with closing(socket.socket()) as line:  # A handshake that fails would leave it open.
            line.setblocking(False)
            await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", int(url.rpartition(":")[2])))
            handshake = websockets.connect(address, sock=line, additional_headers=self.access.headers, open_timeout=5)
            async with handshake as opened:
                await self._listen(opened)

    async def _listen(self, opened: ClientConnection) -> None:
        after = {self.stream: self.position} if self.stream else {}
        await opened.send(json.dumps({"type": "attach", "after": after}))
        async for message in opened:
            frame = json.loads(message)
            if frame["type"] == "turn":
                self.stream = frame["stream"]
            self.take(frame)
        if opened.close_code in FINAL_CODES:
            self.refused = f"closed with {opened.close_code}"

    async def _look(self, url: str) -> None:
        """A turn may have begun and ended while nobody was attached: then it is in the stored messages."""
        path = f"{url}/api/conversations/{self.conversation}/messages/"
        status, answer = await self.access.call("GET", path)
        if status == 200:
            found = [message["stream"] for message in answer["results"] if message["stream"]]
            self.stream = found[0] if found else ""


@dataclass
class EventReader(Reader):
    """An EventSource: an event counts once it is whole, and a new connection says which was the last."""

    async def connect(self, url: str) -> None:
        headers = self.access.headers | ({"Last-Event-ID": str(self.position)} if self.frames else {})
        address = f"{url}/api/streams/{self.stream}/events/"
        async with self.access.http.get(address, headers=headers, timeout=FOLLOW_S) as response:
            if response.status == 204:
                await asyncio.Event().wait()
            response.raise_for_status()
            async for data in events(response):
                self.take(json.loads(data))
        if self.told.is_set():
            await asyncio.Event().wait()


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    data = b""
    async for line in response.content:
        if line.startswith(b"data: "):
            data = line.removeprefix(b"data: ")
        elif line == b"\n" and data:
            yield data
            data = b""


@dataclass
class Talk:
    """One conversation of a run: its prompt, when it is asked and stopped, its readers."""

    access: Access
    conversation: str
    prompt: str
    ask_after_s: float
    stop_after_s: float | None
    at: int
    stream: str = ""
    stopped_at: float | None = None
    sent_at: float = 0
    readers: list[Reader] = field(default_factory=list)

    async def run(self) -> None:
        """Open two tabs, ask, follow by events too, perhaps stop; returns when every reader was told of the end."""
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(self._tab(number).run()) for number in range(len(self.access.urls))]
            await asyncio.sleep(self.ask_after_s)
            asked = await self._post(f"conversations/{self.conversation}/messages/", {"text": self.prompt}, self.at)
            self.stream = asked["stream"]
            self.readers.append(EventReader(self.access, f"events-{self.at}", self.at, self.stream))
            reading.append(group.create_task(self.readers[-1].run()))
            if self.stop_after_s is not None:
                await asyncio.sleep(self.stop_after_s)
                await self._stop()
            for reader in self.readers:
                await reader.told.wait()
            for task in reading:
                task.cancel()

    def _tab(self, number: int) -> Reader:
        self.readers.append(SocketReader(self.access, f"tab-{number}", number, conversation=self.conversation))
        return self.readers[-1]

    async def _stop(self) -> None:
        """Through the web process that was not the one asked; what was sent in vain does not count."""
        await self._post(f"streams/{self.stream}/stop/", {}, self.at + 1)
        self.stopped_at = self.sent_at

    async def _post(self, path: str, body: dict[str, Any], at: int) -> dict[str, Any]:
        """Send it with one key until it is taken, now to one web process, now to the next."""
        headers = {"Idempotency-Key": str(uuid4())}
        tries = 0
        while True:
            url = self.access.urls[(at + tries) % len(self.access.urls)]
            self.sent_at = time.time()
            status, answer = 0, dict[str, Any]()
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                status, answer = await self.access.call("POST", f"{url}/api/{path}", json=body, headers=headers)
            if 200 <= status < 300:
                return answer
            assert status == 0 or status >= 500, f"{path}: {status}"
            tries += 1
            await pause(0)
