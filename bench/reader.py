"""The load's clients, as lean as they can be: many websockets or event streams in one process, each delta's age taken.

Driven by bench/readers.py over stdin and stdout, a JSON object a line:
    <- {"lines": [Line...], "count": deltas in each stream, "skip": deltas at its start that are not measured,
        "at_once": handshakes}
    -> {"ready": n, "opened_s": ...}      every line is open, and heard what it was to hear before the start
    <- {"until": monotonic seconds}       measure until all is read, at the latest until then
    -> the figures (`Figures.told`)
    <- end of file: close everything and end

It finds the stamps of bench/source.py in the raw bytes, whatever format is around them, so no parser of a format is
measured and every peer is read alike.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import math
import os
import re
import sys
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

STAMP = re.compile(rb"(\d{6}):(\d{14}) ")
OPEN_S = 60.0
# Ages are told as counts in classes that are 1 % wide, so that the figures of several processes can be added up.
CLASS = math.log(1.01)


@dataclass(frozen=True)
class Line:
    """One connection to open. `first` is sent on it once it is open; `hears` so many messages come before the start."""

    kind: str  # "ws" or "http" (server-sent events, any streamed body)
    port: int
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "GET"
    body: str = ""
    first: str = ""
    hears: int = 0
    stalls: bool = False


class Figures:
    """What all lines of this process received."""

    def __init__(self, lines: int, count: int, skip: int) -> None:
        self.count = count
        self.skip = skip
        self.unfinished = lines
        self.finished = asyncio.Event()
        self.broken = 0
        self.closed = 0
        self.ages = array("q")
        self.early = array("q")
        self.late = array("q")
        self.deltas: Counter[int] = Counter()
        self.frames: Counter[int] = Counter()
        self.bytes: Counter[int] = Counter()
        quarter = (count - skip) // 4
        self._early = skip + quarter
        self._late = count - quarter

    def take(self, number: int, age_us: int) -> None:
        if number >= self.skip:
            self.ages.append(age_us)
            if number < self._early:
                self.early.append(age_us)
            elif number >= self._late:
                self.late.append(age_us)
        if number == self.count - 1:
            self.unfinished -= 1
            if not self.unfinished:
                self.finished.set()

    def told(self, cpu_s: float, wall_s: float) -> dict[str, Any]:
        return {
            "ages": classes(self.ages),
            "early": classes(self.early),
            "late": classes(self.late),
            "unfinished": self.unfinished,
            "broken": self.broken,
            "closed": self.closed,
            "deltas": dict(self.deltas),
            "frames": dict(self.frames),
            "bytes": dict(self.bytes),
            "cpu_share": cpu_s / wall_s,
        }


def classes(ages_us: array[int]) -> dict[int, int]:
    return Counter(round(math.log(max(age, 1)) / CLASS) for age in ages_us)


class Client(asyncio.Protocol):
    """One open line."""

    def __init__(self, line: Line, figures: Figures) -> None:
        self.line = line
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._figures = figures
        self._head = b""
        self._open = False
        self._rest = b""
        self._next = 0
        self._heard = 0
        self._read = self._read_frames if line.kind == "ws" else self._read_events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        line = self.line
        headers = {"Host": f"127.0.0.1:{line.port}", **line.headers}
        if line.kind == "ws":
            key = base64.b64encode(os.urandom(16)).decode()
            headers |= {"Connection": "Upgrade", "Upgrade": "websocket"}
            headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
        if line.body:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(line.body.encode()))}
        lines = [f"{line.method} {line.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._transport.write(("\r\n".join(lines) + "\r\n\r\n" + line.body).encode())

    def connection_lost(self, error: Exception | None) -> None:
        self._figures.closed += 1
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"closed before the start: {self._head[:300]!r}"))

    def data_received(self, data: bytes) -> None:
        now_us = time.monotonic_ns() // 1000
        if not self._open:
            data = self._handshake(data)
        if data:
            moment = now_us // 100_000
            self._figures.bytes[moment] += len(data)
            self._read(data, now_us, moment)

    def _handshake(self, data: bytes) -> bytes:
        """Reads the response's head; returns what came after it."""
        self._head += data
        head, ended, rest = self._head.partition(b"\r\n\r\n")
        if not ended:
            return b""
        status = int(head.split(b" ", 2)[1])
        if status not in (101, 200):
            self._transport.abort()
            return b""
        self._open = True
        if self.line.first:
            self.send(self.line.first.encode())
        self._check_ready()
        return rest

    def _check_ready(self) -> None:
        if self._heard >= self.line.hears and not self.ready.done():
            self.ready.set_result(None)
            if self.line.stalls:
                self._transport.pause_reading()

    def _take(self, data: bytes, now_us: int, moment: int) -> None:
        """The deltas in one message."""
        figures = self._figures
        figures.frames[moment] += 1
        found = STAMP.findall(data)
        figures.deltas[moment] += len(found)
        for number, at_us in found:
            n = int(number)
            if n != self._next:
                figures.broken += 1
            self._next = n + 1
            figures.take(n, now_us - int(at_us))
        if not self.ready.done():
            self._heard += 1
            self._check_ready()

    def _read_events(self, data: bytes, now_us: int, moment: int) -> None:
        data = self._rest + data
        end = data.rfind(b"\n\n") + 2
        if end < 2:
            self._rest = data
            return
        self._rest = data[end:]
        events = data[:end].count(b"\n\n")
        self._take(data[:end], now_us, moment)
        self._figures.frames[moment] += events - 1

    def _read_frames(self, data: bytes, now_us: int, moment: int) -> None:
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= 2:
            length = data[at + 1] & 127
            begin = at + 2
            if length >= 126:
                begin += 2 if length == 126 else 8
                if size < begin:
                    break
                length = int.from_bytes(data[at + 2 : begin], "big")
            if size < begin + length:
                break
            self._take_frame(data[at] & 15, data[begin : begin + length], now_us, moment)
            at = begin + length
        self._rest = data[at:]

    def _take_frame(self, opcode: int, payload: bytes, now_us: int, moment: int) -> None:
        if opcode == 9:
            self.send(payload, opcode=10)
        elif opcode in (0, 1, 2):
            self._take(payload, now_us, moment)

    def send(self, payload: bytes, opcode: int = 1) -> None:
        """A frame masked with zeros, which is as good as any mask on this machine."""
        size = len(payload)
        length = bytes([128 | size]) if size < 126 else bytes([254]) + size.to_bytes(2, "big")
        self._transport.write(bytes([128 | opcode]) + length + bytes(4) + payload)


async def connect(line: Line, figures: Figures, opening: asyncio.Semaphore) -> None:
    loop = asyncio.get_running_loop()
    async with opening:
        _, client = await loop.create_connection(lambda: Client(line, figures), "127.0.0.1", line.port)
        await client.ready


async def told(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    line = await reader.readline()
    return json.loads(line) if line else None


def tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main() -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=2**28)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    work = await told(orders)
    assert work is not None
    lines = [Line(**line) for line in work["lines"]]
    figures = Figures(len(lines), work["count"], work["skip"])
    opening = asyncio.Semaphore(work["at_once"])
    began_s = time.monotonic()
    async with asyncio.timeout(OPEN_S):
        await asyncio.gather(*(connect(line, figures, opening) for line in lines))
    opened_s = time.monotonic() - began_s
    gc.collect()
    gc.disable()
    tell(ready=len(lines), opened_s=opened_s)
    while (order := await told(orders)) is not None:
        began_s, cpu_s = time.monotonic(), time.process_time()
        try:
            async with asyncio.timeout(order["until"] - began_s):
                await figures.finished.wait()
        except TimeoutError:
            pass
        tell(**figures.told(time.process_time() - cpu_s, time.monotonic() - began_s))


if __name__ == "__main__":
    uvloop.run(main())
