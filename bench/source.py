"""The load: a model's server that speaks many streaming chat completions at an exact rate, each delta stamped.

    python -m bench.source --port 9000

A delta is 22 characters, `nnnnnn:tttttttttttttt `: its number in the stream and CLOCK_MONOTONIC in microseconds at the
moment it is written, so a reader anywhere on this machine knows how old it is and whether one is missing. What a stream
says is told by the last user message, a JSON object of `Wish`. Nobody speaks before /go, so that all streams of a run
begin with every reader attached, each at its own moment of the second after it.

On plain asyncio, whose transports write at once, before the next stamp is made.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import heapq
import json
import time
from dataclasses import dataclass, field
from typing import Any, cast

EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench",'
    b'"choices":[{"index":0,"delta":%b,"finish_reason":%b}]}\n\n'
)
WORDS = EVENT % (b'{"content":"%06d:%014d %b"}', b"null")
USAGE = (
    b'data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)
ENDING = EVENT % (b"{}", b'"stop"')
DONE = b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PHASE = 0.618034  # The golden ratio's: any number of streams is spread evenly.
RAMP_S = 1.0  # Within so much after the go all streams have begun.
BURST = 100  # So many deltas of a stream without a rate are written in one turn.
FOR_S = 7200.0


@dataclass(frozen=True)
class Wish:
    """What a stream is to say: `deltas` of them, `rate` a second (0: as fast as they are taken), `pad` characters
    added to each."""

    deltas: int = 500
    rate: float = 50.0
    pad: int = 0


@dataclass(order=True)
class Answer:
    """One stream being spoken; ordered by when its next delta is due."""

    due: float
    number: int
    wish: Wish = field(compare=False)
    connection: Connection = field(compare=False)
    said: int = field(compare=False, default=0)
    padding: bytes = field(compare=False, default=b"")

    def speak(self) -> None:
        self.connection.write_chunk(WORDS % (self.said, time.monotonic_ns() // 1000, self.padding))
        self.said += 1

    def finish(self) -> None:
        self.connection.write_chunk(ENDING + USAGE % (self.said, self.said + 1) + DONE)
        self.connection.end_body()

    @property
    def finished(self) -> bool:
        return self.said >= self.wish.deltas


class Source:
    """All streams of this process and the one timer that speaks them."""

    def __init__(self) -> None:
        self.asked = 0
        self.spoken = 0
        self.late_s = 0.0
        self._open = False
        self._waiting: list[Answer] = []
        self._due: list[Answer] = []
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, connection: Connection, wish: Wish) -> None:
        answer = Answer(0.0, self.asked, wish, connection, padding=b"x" * wish.pad)
        self.asked += 1
        if self._open:
            self._begin([answer], 0.0)
        else:
            self._waiting.append(answer)

    def control(self, path: str) -> dict[str, Any]:
        """`/go` opens the gate, `/hold` closes it and forgets the figures, `/state` only tells."""
        if path == "/go":
            self._open = True
            waiting, self._waiting = self._waiting, []
            self._begin(waiting, RAMP_S)
        elif path == "/hold":
            self._open = False
            self.asked = self.spoken = 0
            self.late_s = 0.0
        waiting_now = sum(not answer.connection.closed for answer in self._waiting)
        return {
            "waiting": waiting_now,
            "speaking": len(self._due),
            "spoken": self.spoken,
            "late_ms": round(self.late_s * 1000, 2),
            "cpu_s": time.process_time(),
        }

    def _begin(self, answers: list[Answer], within_s: float) -> None:
        now = time.monotonic()
        for answer in answers:
            answer.due = now + (answer.number * PHASE % 1) * within_s
            heapq.heappush(self._due, answer)
        self._rest()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._due[0].due, self._speak) if self._due else None

    def _speak(self) -> None:
        """Everything that is due; how late the latest of it is, is part of the figures."""
        self._timer = None
        now = time.monotonic()
        again = []
        while self._due and self._due[0].due <= now:
            answer = heapq.heappop(self._due)
            self.late_s = max(self.late_s, now - answer.due if answer.wish.rate else 0.0)
            if not answer.connection.closed and self._say(answer, now):
                again.append(answer)
        for answer in again:
            heapq.heappush(self._due, answer)
        self._rest()

    def _say(self, answer: Answer, now: float) -> bool:
        """The next of an answer; whether there is more to come."""
        if answer.wish.rate:
            answer.speak()
            self.spoken += 1
            answer.due += 1 / answer.wish.rate
        else:
            before = answer.said
            while not answer.finished and not answer.connection.full and answer.said < before + BURST:
                answer.speak()
            self.spoken += answer.said - before
            answer.due = now + 0.001 * answer.connection.full
        if answer.finished:
            answer.finish()
        return not answer.finished


class Connection(asyncio.Protocol):
    """HTTP/1.1, as little of it as the clients of the benchmark need; connections are kept alive."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._received = b""
        self.closed = False
        self.full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, rest = self._received.partition(b"\r\n\r\n")
        if not ended:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        if len(rest) >= size:
            self._received = rest[size:]
            self._respond(first.split()[1], rest[:size])

    def _respond(self, path: str, body: bytes) -> None:
        if path.endswith("/chat/completions"):
            wish = Wish(**json.loads(json.loads(body)["messages"][-1]["content"]))
            self._transport.write(HEAD)
            self._source.ask(self, wish)
        else:
            told = json.dumps(self._source.control(path)).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))

    def write_chunk(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_body(self) -> None:
        self._transport.write(b"0\r\n\r\n")


async def serve(port: int) -> None:
    gc.disable()  # It kept all streams waiting for 6 ms now and then, in the name of whoever was measured.
    loop = asyncio.get_running_loop()
    source = Source()
    server = await loop.create_server(lambda: Connection(source), "127.0.0.1", port, backlog=2048)
    async with server:
        await asyncio.sleep(FOR_S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args().port))
