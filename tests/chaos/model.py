"""The model server of the fault suite: whatever it says is said once, to one request, and can be told again exactly.

Every request is numbered, and every word of its answer carries that number: a text that mixes two attempts, or two
streams, shows it. A prompt is {"id", "words", "delay_s", "reasoning"}. On a second port the suite asks for what was
requested (GET /asked?after=n) and sets the weather (POST /weather): {"silent": true}, {"slow_s": 0.5}, {"status": 429},
{"away": true} (connections are refused), {"cut": true} (open ones are reset, once).
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from typing import Any

from aiohttp import web

from tests.modelscript import Gate, Script
from tests.modelserver import Asked, ModelServer

RETRY_AFTER_S = 1.0


def answer(number: int, words: int) -> str:
    """What request `number` is answered with: no two words of all answers are the same."""
    return " ".join(f"{number}.{n}" + ("\n", "", "é", "🙂")[n % 4] for n in range(words))


def reasoning(number: int, words: int) -> str:
    return " ".join(f"r{number}.{n}" for n in range(words))


def script(number: int, prompt: dict[str, Any]) -> Script:
    """The answer to a prompt, the `number`th request of all; the checker knows what was sent by calling this again."""
    return Script(
        text=answer(number, prompt["words"]),
        reasoning=reasoning(number, prompt["reasoning"]),
        delay_s=prompt["delay_s"],
    )


class Weather(Gate):
    """What every delta of every answer passes through."""

    def __init__(self) -> None:
        super().__init__()
        self.calm = asyncio.Event()
        self.calm.set()
        self.slow_s = 0.0
        self.status: int | None = None

    async def enter(self) -> None:
        await asyncio.sleep(self.slow_s)
        await self.calm.wait()


class ChaosModel(ModelServer):
    def __init__(self, port: int, control_port: int) -> None:
        super().__init__(port)
        self.weather = Weather()
        self._control_port = control_port
        self._site: web.TCPSite | None = None
        router = self._runner.app.router
        router.add_get("/asked", self._tell_after)
        router.add_post("/weather", self._set_weather)

    async def serve(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._control_port).start()
        await self._open()
        await asyncio.Event().wait()

    def _choose(self, asked: Asked) -> Script:
        if self.weather.status is not None:
            return Script(status=self.weather.status, retry_after=RETRY_AFTER_S)
        return replace(script(len(self.requests) - 1, json.loads(asked.prompt)), gate=self.weather)

    async def _tell_after(self, request: web.Request) -> web.Response:
        after = int(request.query["after"])
        told = enumerate(self.requests[after:], after)
        return web.json_response(
            [{**asked.as_json(), "number": number, "prompt": asked.prompt} for number, asked in told]
        )

    async def _set_weather(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        self.weather.slow_s = wanted.get("slow_s", 0)
        self.weather.status = wanted.get("status")
        (self.weather.calm.clear if wanted.get("silent") else self.weather.calm.set)()
        if wanted.get("cut") or wanted.get("away"):
            self._cut()
        await (self._close() if wanted.get("away") else self._open())
        return web.json_response({})

    async def _open(self) -> None:
        if self._site is None:
            self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
            await self._site.start()

    async def _close(self) -> None:
        if self._site is not None:
            site, self._site = self._site, None
            await site.stop()

    def _cut(self) -> None:
        """Reset every connection but those of the suite itself."""
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            transport = connection.transport
            if transport is not None and transport.get_extra_info("sockname")[1] == self._port:
                transport.abort()


if __name__ == "__main__":
    asyncio.run(ChaosModel(int(sys.argv[1]), int(sys.argv[2])).serve())
