"""A model's server for tests: real HTTP, chat completions as OpenAI speaks them, every fault on demand.

In a test's own loop:                       As a process of its own (prints {"url": ".../v1"}, ends by itself):
    async with ModelServer() as server:         python -m tests.modelserver --port 0 --for-s 120
        server.script(Script(text="Hi"))

What it answers is a `Script`: the next one queued in the process, else the last user message if it is a JSON object of
the script's fields (a directive, e.g. {"words": 200, "delay_s": 0.02}), else `server.default`. tests/modelscript.py
lists the fields.

GET /requests (JSON) and `server.requests` tell what was asked and which clients hung up. POST /gates/NAME?more=5 lets
five more deltas through a directive's gate; without `more` all that follow.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, fields
from typing import Any, Self

from aiohttp import web

from tests.modelscript import Gate, Script, expected_text

__all__ = ["Asked", "Gate", "ModelServer", "Script", "expected_text"]

# So many events of a bulk answer are written at once.
BULK_EVENTS = 32


@dataclass(slots=True)
class Asked:
    """One request as it came in. `gone` is set once the client hung up before the end."""

    body: dict[str, Any]
    authorization: str
    peer: tuple[str, int] | None
    at: float = field(default_factory=time.time)
    deltas: int = 0
    finished: bool = False
    gone_at: float | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def prompt(self) -> str:
        """The last user message."""
        said = [message["content"] for message in self.body.get("messages", []) if message.get("role") == "user"]
        return said[-1] if said and isinstance(said[-1], str) else ""

    def note_gone(self) -> None:
        self.gone_at = time.time()
        self.gone.set()

    def as_json(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("gone", "authorization")}


class ModelServer:
    """Serves on 127.0.0.1 while its `async with` is open; `url` is what OPENAI_BASE_URL wants."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Asked] = []
        self.default = Script(text="Hello from the test model.")
        self._port = port
        self._queue: deque[Script] = deque()
        self._prompts: Counter[str] = Counter()
        self._gates: defaultdict[str, Gate] = defaultdict(Gate)
        self._arrived = asyncio.Event()
        app = web.Application(client_max_size=50_000_000)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/requests", self._tell)
        app.router.add_post("/gates/{name}", self._open_gate)
        # The handler is cancelled as soon as the client hangs up; silence and gates would not notice otherwise.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def script(self, *scripts: Script) -> None:
        """Queue answers for the next requests, whatever they ask."""
        self._queue.extend(scripts)

    async def asked(self, count: int = 1) -> Asked:
        """The `count`th request, once it has come in."""
        while len(self.requests) < count:
            self._arrived.clear()
            await self._arrived.wait()
        return self.requests[count - 1]

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "test-model", "object": "model"}]})

    async def _tell(self, _: web.Request) -> web.Response:
        return web.json_response([asked.as_json() for asked in self.requests])

    async def _open_gate(self, request: web.Request) -> web.Response:
        self._gates[request.match_info["name"]].open(float(request.query.get("more", "inf")))
        return web.Response(status=204)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
        except ValueError:
            return _refusal(400, None, "not_json")
        peer = request.transport.get_extra_info("peername") if request.transport else None
        asked = Asked(body, request.headers.get("Authorization", ""), peer)
        self.requests.append(asked)
        self._arrived.set()
        script = self._choose(asked)
        try:
            response = await self._answer(request, asked, script)
        except (asyncio.CancelledError, ConnectionError):
            asked.note_gone()
            raise
        asked.finished = True
        return response

    def _choose(self, asked: Asked) -> Script:
        script = self._queue.popleft() if self._queue else self._directive(asked.prompt)
        self._prompts[asked.prompt] += 1
        if 0 < script.fail_times < self._prompts[asked.prompt]:
            return script.healthy()
        return script

    def _directive(self, prompt: str) -> Script:
        """The script in a prompt; a misspelt field is a TypeError, and a status of 500, rather than another answer."""
        with contextlib.suppress(ValueError):
            directive = json.loads(prompt)
            if isinstance(directive, dict):
                if "gate" in directive:
                    directive["gate"] = self._gates[directive["gate"]]
                return Script(**directive)
        return self.default

    async def _answer(self, request: web.Request, asked: Asked, script: Script) -> web.StreamResponse:
        await asyncio.sleep(script.first_delay_s)
        if script.status is not None:
            return _refusal(script.status, script.retry_after, script.error_code)
        if script.json or not asked.body.get("stream"):
            return web.json_response(_completion(script))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        body = Body(request, response, script)
        async for count in body.speak():
            asked.deltas = count
        return response


class Body:
    """Writes one streamed answer."""

    def __init__(self, request: web.Request, response: web.StreamResponse, script: Script) -> None:
        self._request = request
        self._response = response
        self._script = script
        self._unwritten: list[bytes] = []

    async def speak(self) -> AsyncIterator[int]:
        """The whole answer, up to a fault; yields the count of deltas so far."""
        count = 0
        for count, delta in enumerate(self._script.deltas(), 1):
            if await self._fault(count - 1):
                return
            await self._pass(delta)
            yield count
        if not await self._fault(count):
            await self._finish()
            await self._response.write_eof()

    async def _pass(self, delta: dict[str, str]) -> None:
        gate = self._script.gate
        if gate is not None:
            await gate.enter()
        if self._script.delay_s:
            await asyncio.sleep(self._script.delay_s)
        self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        if not self._script.size or len(self._unwritten) >= BULK_EVENTS:
            await self._flush()
        if gate is not None:
            gate.leave()

    async def _finish(self) -> None:
        script = self._script
        if script.finish_reason is not None:
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": script.finish_reason}]})
        if script.usage:
            self._event({"choices": [], "usage": _usage(script)})
        if script.done:
            self._unwritten.append(self._lines(b"[DONE]"))
        await self._flush()

    async def _fault(self, count: int) -> bool:
        """Whether the answer ends at this point, with what the script wants to go wrong here."""
        script = self._script
        if count == script.silence_after:
            await self._flush()
            await asyncio.Event().wait()
        if count == script.clean_end_after:
            await self._flush()
            await self._response.write_eof()
            return True
        if count == script.cut_after:
            await self._cut()
            return True
        if count == script.garbage_after:
            self._unwritten.append(self._lines(b'{"choices": [{"delta": {"content": oops'))
            await self._flush()
            return True
        if count == script.error_after:
            self._event({"error": {"message": "secret detail of the server", "code": "server_error"}})
            await self._flush()
            return True
        return False

    async def _cut(self) -> None:
        if self._script.in_line:
            self._unwritten.append(b'data: {"choices": [{"index": 0, "delta": {"content": "hal')
        await self._flush()
        if transport := self._request.transport:
            if self._script.reset:
                transport.abort()
            else:
                transport.close()

    def _event(self, chunk: dict[str, Any]) -> None:
        chunk = {"id": "chatcmpl-test", "object": "chat.completion.chunk", "model": "test-model", **chunk}
        self._unwritten.append(self._lines(json.dumps(chunk, ensure_ascii=self._script.surrogates).encode()))

    def _lines(self, data: bytes) -> bytes:
        lines = [b": comment", b"event: message", b"id: 7"] if self._script.comments else []
        end = b"\r\n" if self._script.crlf else b"\n"
        return end.join([*lines, b"data: " + data, b"", b""])

    async def _flush(self) -> None:
        data = b"".join(self._unwritten)
        self._unwritten.clear()
        step = self._script.network_chunk or len(data) or 1
        for start in range(0, len(data), step):
            await self._response.write(data[start : start + step])
            if self._script.network_chunk:
                # A client in the same loop reads this piece before the next one is written.
                await asyncio.sleep(0)


def _usage(script: Script) -> dict[str, Any]:
    tokens = len(script.answer.split())
    details = {"completion_tokens_details": {"reasoning_tokens": len(script.reasoning.split())}}
    return {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": tokens + 7, **details}


def _completion(script: Script) -> dict[str, Any]:
    message = {"role": "assistant", "content": script.answer, "reasoning_content": script.reasoning}
    choice = {"index": 0, "message": message, "finish_reason": script.finish_reason}
    return {"id": "chatcmpl-test", "object": "chat.completion", "choices": [choice], "usage": _usage(script)}


def _refusal(status: int, retry_after: float | str | None, code: str | None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    error = {"message": f"secret detail of status {status}", "type": "test_error", "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


async def serve(port: int, for_s: float) -> None:
    """Serve until SIGTERM or SIGINT, or for `for_s` seconds."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with ModelServer(port) as server:
        sys.stdout.write(json.dumps({"url": server.url}) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), for_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--for-s", type=float, default=120)
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.for_s))
