"""What is written past ASGI arrives as what is sent does, and nothing is written that a client cannot take."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from asgiref.sync import markcoroutinefunction, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

import chatsite.direct
from chatsite.asgi import application
from chatsite.direct import DirectWrites, ToWebsocket, _to_websockets
from conversations.api import events
from conversations.consumers import ConversationConsumer
from conversations.direct import Direct, Write, direct
from conversations.models import Conversation
from streaming import tail
from streaming.completions import Finish
from streaming.frames import Piece, Reading, Row
from tests.conftest import DEADLINE_S, engine_with
from tests.follower import Follower
from tests.scripted import ScriptedProvider

Told = Callable[[Write, Any], Any]


def piece(text: str) -> Piece:
    return Piece("s", 0, (Row(1, "text", text, None),))


@asynccontextmanager
async def served(told: Told, *, deflate: bool = False) -> AsyncIterator[str]:
    """The address of a uvicorn that has `told` called with what writes to each client, and its `send`."""

    async def accepting(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await told(offered(scope), send)

    async with listening(DirectWrites(accepting), WebSocketsSansIOProtocol, deflate=deflate) as url:
        yield url


@asynccontextmanager
async def responding(told: Told, **headers: str) -> AsyncIterator[str]:
    """The same for responses that have begun."""

    async def beginning(scope: Any, receive: Any, send: Any) -> None:
        write = offered(scope)
        assert not write(b"too early")
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": named})
        await told(write, send)

    async with listening(DirectWrites(beginning), HttpToolsProtocol) as url:
        yield url


def offered(scope: Any) -> Write:
    found = direct(scope)
    assert found is not None
    return found.write


@asynccontextmanager
async def listening(site: Any, speaks: Any, *, deflate: bool = False) -> AsyncIterator[str]:
    """The address of a uvicorn that is spoken to in one protocol only."""
    config = Config(site, interface="asgi3", ws_per_message_deflate=deflate, log_config=None, access_log=False)
    config.load()
    protocols: list[Any] = []

    def new() -> Any:
        protocols.append(speaks(config, ServerState(), {}))
        return protocols[-1]

    server = await asyncio.get_running_loop().create_server(new, "127.0.0.1", 0)
    scheme = "http" if speaks is HttpToolsProtocol else "ws"
    async with asyncio.timeout(DEADLINE_S), server:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
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


async def test_how_a_stream_gets_on_is_one_frame_written_or_sent() -> None:
    reading = Reading("s", {"chunks": 3, "chars_per_s": 40})

    async def both_ways(write: Write, send: Any) -> None:
        assert write(reading.whole)
        await send({"type": "websocket.send", "text": reading.native})

    async with served(both_ways) as url, connect(url) as client:
        frames = [json.loads(await client.recv()) for _ in range(2)]
    assert frames == [{"type": "progress", "stream": "s", "chunks": 3, "chars_per_s": 40}] * 2


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


async def test_nothing_is_written_while_the_server_itself_has_to_wait() -> None:
    waiting, goes_on = asyncio.Event(), asyncio.Event()
    wrote: list[bool] = []

    async def fill(write: Write, send: Any) -> None:
        sending = asyncio.create_task(flood(send))
        await waiting.wait()
        wrote.append(write(piece("overtakes").whole))
        goes_on.set()
        await sending

    async def flood(send: Any) -> None:
        while True:
            try:
                async with asyncio.timeout(0.2):
                    await send({"type": "websocket.send", "text": "x" * 20_000})
            except TimeoutError:
                break
        waiting.set()

    async with served(fill) as url, connect(url, max_size=None, max_queue=1) as client:
        await goes_on.wait()
        client.transport.abort()
    assert wrote == [False]


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


@asynccontextmanager
async def crowd(count: int) -> AsyncIterator[tuple[list[ClientConnection], list[Write], Write]]:
    """So many clients of one server, what writes to each, and what writes to all."""
    written: list[Write] = []
    done = asyncio.Event()

    async def until_done(write: Write, send: Any) -> None:
        written.append(write)
        await done.wait()

    async with served(until_done) as url, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(url, max_size=None, max_queue=1)) for _ in range(count)]
        while len(written) < count:
            await asyncio.sleep(0)
        together = _to_websockets([write for write in written if isinstance(write, ToWebsocket)])
        try:
            yield clients, written, together
        finally:
            done.set()


async def test_many_are_written_to_by_one_call() -> None:
    async with crowd(3) as (clients, written, write_to_all):
        assert write_to_all(piece("a").whole) and written[1](piece("b").whole) and write_to_all(piece("c").whole)
        for client, texts in zip(clients, ("ac", "abc", "ac"), strict=True):
            assert [await client.recv() for _ in texts] == [piece(text).native[0] for text in texts]


async def test_unless_all_of_many_take_something_in_none_is_written_to() -> None:
    large = piece("x" * 100_000)
    async with crowd(3) as (clients, written, write_to_all):
        count = 0
        while written[1](large.whole):
            count += 1
        assert not write_to_all(piece("a").whole)
        assert [await clients[1].recv() for _ in range(count)] == [large.native[0]] * count
        while not write_to_all(piece("b").whole):
            await asyncio.sleep(0)
        assert [await client.recv() for client in clients] == [piece("b").native[0]] * 3


@pytest.mark.parametrize("politely", [True, False])
async def test_once_one_of_many_has_left_none_is_written_to(politely: bool) -> None:
    async with crowd(3) as (clients, _, write_to_all):
        await clients[1].close() if politely else clients[1].transport.abort()
        while write_to_all(b"\x8a\x00"):  # A pong that nobody asked for.
            await asyncio.sleep(0.001)
        assert not write_to_all(piece("a").whole)


async def test_a_write_that_fails_ends_that_connection_and_keeps_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing:
        def __init__(self, transport: Any) -> None:
            self.abort = transport.abort
            self.is_closing = transport.is_closing
            self.get_write_buffer_size = transport.get_write_buffer_size

        def write(self, frames: bytes) -> None:
            raise RuntimeError("a server that has changed")

    async with crowd(5) as (clients, written, _):
        failing = {1, 4}
        writes = [write for write in written if isinstance(write, ToWebsocket)]
        for n in failing:
            writes[n].transport = Failing(writes[n].transport)
        assert _to_websockets(writes)(piece("a").whole)
        for n, client in enumerate(clients):
            if n in failing:
                with pytest.raises(ConnectionClosedError):
                    await client.recv()
            else:
                assert await client.recv() == piece("a").native[0]
    assert caplog.text.count("could not be written to") == len(failing)


async def test_parts_of_a_body_arrive_in_order_with_those_that_are_sent() -> None:
    parts = [b"%d;" % n * n for n in (1, 2, 1000, 20_000)]
    wrote: list[bool] = []

    async def both_ways(write: Write, send: Any) -> None:
        for part in parts:
            while not write(part):
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"."})
        wrote.append(write(b"too late"))

    async with responding(both_ways) as url, httpx.AsyncClient() as client:
        assert (await client.get(url)).content == b"".join(part * 2 for part in parts) + b"."
    assert wrote == [False]


@pytest.mark.parametrize(("method", "length"), [("HEAD", {}), ("GET", {"content_length": "4"})])
async def test_a_body_that_is_not_sent_in_parts_is_not_written_to(method: str, length: dict[str, str]) -> None:
    async def once(write: Write, send: Any) -> None:
        assert not write(b"part")
        await send({"type": "http.response.body", "body": b"held"})

    async with responding(once, **length) as url, httpx.AsyncClient() as client:
        assert (await client.request(method, url)).content == (b"" if method == "HEAD" else b"held")


async def test_a_response_that_nobody_reads_on_is_not_written_to() -> None:
    refused, goes_on = asyncio.Event(), asyncio.Event()
    written = 0

    async def flood(write: Write, send: Any) -> None:
        nonlocal written
        while written < 1000 and write(b"x" * 100_000):
            written += 1
        refused.set()
        await goes_on.wait()
        await send({"type": "http.response.body", "body": b"the next"})

    async with responding(flood) as url, httpx.AsyncClient() as client, client.stream("GET", url) as response:
        await refused.wait()
        goes_on.set()
        came = await response.aread()
    assert came == b"x" * 100_000 * written + b"the next"
    assert written < 1000


async def test_a_response_whose_client_has_left_is_not_written_to() -> None:
    left = asyncio.Event()

    async def until_it_leaves(write: Write, send: Any) -> None:
        await send({"type": "http.response.body", "body": b"held", "more_body": True})
        while write(b"."):
            await asyncio.sleep(0.001)
        left.set()

    async with responding(until_it_leaves) as url, httpx.AsyncClient() as client:
        async with client.stream("GET", url) as response:
            assert (await anext(response.aiter_raw())).startswith(b"held")
        await left.wait()


def quoting(get_response: Any) -> Any:
    """A middleware that changes what is sent and says so nowhere."""

    async def respond(request: Any) -> Any:
        response = await get_response(request)
        if request.headers.get("Accept-Language") == "quoted":
            parts = response.streaming_content
            response.streaming_content = (json.dumps(part.decode()).encode() + b"\n" async for part in parts)
        return response

    return markcoroutinefunction(respond)


quoting.async_capable = True  # type: ignore[attr-defined]
DECODED: list[tuple[dict[str, str], Callable[[bytes], bytes]]] = [
    ({"Accept-Encoding": "identity"}, bytes),
    ({"Accept-Encoding": "gzip"}, gzip.decompress),
    (
        {"Accept-Encoding": "identity", "Accept-Language": "quoted"},
        lambda body: b"".join(json.loads(line).encode() for line in body.splitlines()),
    ),
]


@pytest.mark.django_db(transaction=True)
async def test_events_are_whole_whoever_writes_them(
    conversation: Conversation, alices_token: str, hub_stopped: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a middleware that people may add writes them its own way."""
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", f"{__name__}.quoting", *settings.MIDDLEWARE]
    words, gates = [f"word {n} " for n in range(20)], [asyncio.Event() for _ in range(20)]
    spoken = [step for word, gate in zip(words, gates, strict=True) for step in (gate, word)]
    bearer = {"Authorization": f"Bearer {alices_token}"}
    pushed = pushes_seen(monkeypatch)
    async with engine_with(ScriptedProvider([*spoken, Finish("stop", None)])), AsyncExitStack() as stack:
        path = f"/api/streams/{(await sync_to_async(conversation.ask)('Hello?')).stream_id}/events/"
        url = await stack.enter_async_context(listening(DirectWrites(ASGIHandler()), HttpToolsProtocol))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=bearer))
        responses = [
            await stack.enter_async_context(client.stream("GET", path, headers=headers)) for headers, _ in DECODED
        ]
        assert [response.headers.get("Content-Encoding") for response in responses] == [None, "gzip", None]
        for response, (_, decode) in zip(responses, DECODED, strict=True):
            follower, body = Follower(), b""
            async for part in response.aiter_raw():
                body += part
                if gates:
                    gates.pop(0).set()
            for line in decode(body).splitlines():
                if line.startswith(b"data: "):
                    follower.apply(json.loads(line.removeprefix(b"data: ")))
            (shown,) = follower.streams.values()
            assert (shown.text, shown.status) == ("".join(words), "done")
    assert set(pushed) == {(b"identity", None)}


def pushes_seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """For each push, the encoding and language that its request asked for."""
    found: list[Any] = []

    def spying(scope: Any) -> Direct:
        write, headers = offered(scope), dict(scope["headers"])

        def spy(body: bytes) -> bool:
            found.append((headers.get(b"accept-encoding"), headers.get(b"accept-language")))
            return write(body)

        return Direct(spy)

    monkeypatch.setattr(events, "direct", spying)
    return found


async def test_nothing_keeps_what_a_request_had() -> None:
    kept: list[Any] = []

    async def look(write: Write, send: Any) -> None:
        kept.append(weakref.ref(write))
        await send({"type": "http.response.body", "body": b"."})

    gc.disable()
    try:
        async with responding(look) as url, httpx.AsyncClient() as client:
            for _ in range(3):
                await client.get(url)
            for _ in range(10):
                await asyncio.sleep(0)
            assert [write() for write in kept[:2]] == [None, None]
    finally:
        gc.enable()


@pytest.mark.django_db(transaction=True)
async def test_those_who_follow_an_answer_are_written_to_together(
    conversation: Conversation, alices_token: str, hub_stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def spying(writes: Sequence[ToWebsocket]) -> Write:
        made.append(len(writes))
        return _to_websockets(writes)

    monkeypatch.setattr(tail, "CROWD", 2)
    monkeypatch.setattr(chatsite.direct, "_to_websockets", spying)
    words, gates = [f"word {n} " for n in range(20)], [asyncio.Event() for _ in range(20)]
    spoken = [step for word, gate in zip(words, gates, strict=True) for step in (gate, word)]
    bearer = {"authorization": f"Bearer {alices_token}"}
    async with engine_with(ScriptedProvider([*spoken, Finish("stop", None)])), AsyncExitStack() as stack:
        await sync_to_async(conversation.ask)("Hello?")
        url = await stack.enter_async_context(listening(application, WebSocketsSansIOProtocol))
        address = f"{url}/ws/conversations/{conversation.pk}/"
        clients = [await stack.enter_async_context(connect(address, additional_headers=bearer)) for _ in range(3)]
        for client in clients:
            await client.send('{"type": "attach"}')
            assert json.loads(await client.recv())["type"] == "turn"
        followers = [Follower() for _ in clients]
        for word, gate in zip(words, gates, strict=True):
            gate.set()
            for client, follower in zip(clients, followers, strict=True):
                heard = ""
                while heard != word:
                    frame = json.loads(await client.recv())
                    follower.apply(frame)
                    heard += frame.get("text", "")
        for follower in followers:
            (shown,) = follower.streams.values()
            assert shown.text == "".join(words)
    assert 3 in made


async def test_the_site_behind_uvicorn_writes_to_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    offers: list[bool] = []

    async def connect_and_tell(consumer: ConversationConsumer) -> None:
        offers.append(direct(consumer.scope) is not None)
        await consumer.close(4404)

    monkeypatch.setattr(ConversationConsumer, "connect", connect_and_tell)
    async with listening(application, WebSocketsSansIOProtocol) as url:
        with pytest.raises(InvalidStatus):
            await connect(f"{url}/ws/conversations/{uuid.uuid4()}/", additional_headers={"authorization": "Bearer x"})
    assert offers == [True]


def test_a_server_that_is_not_known_is_not_written_to() -> None:
    class Other:
        async def send(self, message: Any) -> None: ...

    site = DirectWrites(lambda scope, receive, send: direct(scope))
    assert site({}, None, Other().send) is None and site({}, None, lambda message: None) is None
