"""Python's `websockets` and nothing else: what a relay costs that keeps nothing and knows nobody.

The first reader of a room has the model asked; what it says goes to all who are there.
"""

from __future__ import annotations

import asyncio
import os
from urllib.parse import parse_qs, urlsplit

import aiohttp
import orjson
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

SOURCE = os.environ["SOURCE"]
PORT = int(os.environ["PORT"])


class Relay:
    """All rooms of this process."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._rooms: dict[str, set[ServerConnection]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: ServerConnection) -> None:
        assert reader.request is not None
        url = urlsplit(reader.request.path)
        room = self._rooms.get(url.path)
        if room is None:
            room = self._rooms[url.path] = set()
            self._tasks.add(asyncio.create_task(self._relay(room, parse_qs(url.query)["prompt"][0])))
        room.add(reader)
        try:
            await reader.wait_closed()
        finally:
            room.discard(reader)

    async def _relay(self, room: set[ServerConnection], prompt: str) -> None:
        body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": prompt}]}
        async with self._session.post(f"{SOURCE}/chat/completions", json=body) as response:
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                choices = orjson.loads(line[6:])["choices"]
                if choices and (text := choices[0]["delta"].get("content")):
                    broadcast(room, orjson.dumps({"type": "delta", "text": text}), text=True)


async def main() -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        relay = Relay(session)
        async with serve(relay.serve, "127.0.0.1", PORT, compression=None, backlog=2048) as server:
            await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
