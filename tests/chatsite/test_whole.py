"""Frames that are written past ASGI arrive as those that are sent, and nothing is written that a client cannot take."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from chatsite.asgi import application
from chatsite.whole import WholeFrames, writer
from conversations.consumers import WHOLE, ConversationConsumer
from streaming.frames import Piece, Row
from tests.conftest import DEADLINE_S

Write = Callable[[bytes], bool]
Told = Callable[[Write, Any], Any]


def piece(text: str) -> Piece:
    return Piece("s", 0, (Row(1, "text", text, None),))


@asynccontextmanager
async def served(told: Told, *, deflate: bool = False) -> AsyncIterator[str]:
    """The address of a uvicorn that has `told` called with what writes to each client, and its `send`."""

    async def accepting(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await told(scope["extensions"][WHOLE], send)

    async with listening(WholeFrames(accepting), deflate=deflate) as url:
        yield url


@asynccontextmanager
async def listening(site: Any, *, deflate: bool = False) -> AsyncIterator[str]:
    config = Config(site, interface="asgi3", ws_per_message_deflate=deflate, log_config=None)
    config.load()
    protocols: list[WebSocketsSansIOProtocol] = []

    def new() -> WebSocketsSansIOProtocol:
        protocols.append(WebSocketsSansIOProtocol(config, ServerState(), {}))
        return protocols[-1]

    server = await asyncio.get_running_loop().create_server(new, "127.0.0.1", 0)
    async with asyncio.timeout(DEADLINE_S), server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for protocol in protocols:
            protocol.transport.close()


@pytest.mark.parametrize("deflate", [False, True])
async def test_messages_of_every_length_arrive_in_order_with_those_that_are_sent(deflate: bool) -> None:
    pieces = [piece(char * size) for size in (1, 30, 70, 126, 40_000, 70_000) for char in ("a", "ü", "😀")]

    async def both_ways(write: Write, send: Any) -> None:
        for each in pieces:
            while not write(each.whole):
                await asyncio.sleep(0)
            await send({"type": "websocket.send", "text": each.native[0]})

    async with served(both_ways, deflate=deflate) as url, connect(url, max_size=None) as client:
        assert [await client.recv() for _ in range(2 * len(pieces))] == [
            text for each in pieces for text in each.native * 2
        ]


async def test_a_client_that_takes_nothing_in_is_not_written_to() -> None:
    refused, goes_on = asyncio.Event(), asyncio.Event()
    large = piece("x" * 100_000)
    written = 0

    async def flood(write: Write, send: Any) -> None:
        nonlocal written
        while written < 1000 and write(large.whole):
            written += 1
        refused.set()
        await goes_on.wait()
        await send({"type": "websocket.send", "text": "the next"})

    async with served(flood) as url, connect(url, max_size=None, max_queue=1) as client:
        await refused.wait()
        goes_on.set()
        came = [await client.recv() for _ in range(written + 1)]
    assert came == [*large.native * written, "the next"]
    assert written < 1000


@pytest.mark.parametrize("politely", [True, False])
async def test_a_client_that_has_left_is_not_written_to(politely: bool) -> None:
    left = asyncio.Event()

    async def until_it_leaves(write: Write, send: Any) -> None:
        assert write(piece("a").whole)
        while write(b"\x8a\x00"):  # A pong that nobody asked for.
            await asyncio.sleep(0.001)
        left.set()

    async with served(until_it_leaves) as url, connect(url) as client:
        await client.recv()
        await client.close() if politely else client.transport.abort()
        await left.wait()


async def test_nothing_is_written_behind_the_close() -> None:
    wrote: list[bool] = []

    async def close(write: Write, send: Any) -> None:
        wrote.append(write(piece("a").whole))
        await send({"type": "websocket.close", "code": 4403})
        wrote.append(write(piece("b").whole))

    async with served(close) as url, connect(url) as client:
        with pytest.raises(ConnectionClosedError):
            while True:
                await client.recv()
    assert wrote == [True, False]


async def test_the_site_behind_uvicorn_writes_to_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[bool] = []

    async def connect_and_tell(consumer: ConversationConsumer) -> None:
        offered.append(consumer._push() is not None)
        await consumer.close(4404)

    monkeypatch.setattr(ConversationConsumer, "connect", connect_and_tell)
    async with listening(application) as url:
        with pytest.raises(InvalidStatus):
            await connect(f"{url}/ws/conversations/{uuid.uuid4()}/", additional_headers={"authorization": "Bearer x"})
    assert offered == [True]


def test_a_server_that_is_not_known_is_not_written_to() -> None:
    class Other:
        async def send(self, message: Any) -> None: ...

    assert writer(Other().send) is None and writer(lambda message: None) is None
