"""The websocket and the event stream of the real server: bad input, strangers, sessions that end, foreign origins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import websockets
from websockets.typing import Origin

from tests.follower import Follower
from tests.modelscript import expected_text
from tests.processes import Client, Server, directive, listen, server

pytestmark = pytest.mark.timeout(90)
ASK = {"type": "ask", "text": "hi", "key": str(uuid4())}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model_url: str) -> Iterator[Server]:
    """These tests leave the site as it was, so they share one."""
    with server(tmp_path_factory.mktemp("site"), model_url, ACCESS_CHECK_S="1") as site:
        yield site


async def errors_of(client: Client, frames: list[str | bytes]) -> list[str]:
    """Send `frames` on an attached connection; the codes that come back, one each."""
    codes: list[str] = []
    async with client.connected(client.new_conversation(), Follower()) as socket:
        for frame in frames:
            await socket.send(frame)
            async with asyncio.timeout(10):
                codes.append(json.loads(await socket.recv())["code"])
    return codes


async def test_malformed_frames_get_an_error_and_the_connection_stays(client: Client) -> None:
    bad: list[str | bytes] = [
        "not json",
        "[]",
        "null",
        "{}",
        '{"type": "dance"}',
        '{"type": ["attach"]}',
        b"\x00\xff",
        json.dumps({"type": "ask"}),
        json.dumps(ASK | {"text": 5}),
        json.dumps(ASK | {"text": "  "}),
        json.dumps(ASK | {"text": "a\0b"}),
        json.dumps(ASK | {"text": "x" * 100_001}),
        json.dumps(ASK | {"key": "not-a-uuid"}),
        json.dumps(ASK | {"text": "\ud83d"}),
        json.dumps({"type": "stop", "stream": "x"}),
        json.dumps({"type": "ack", "stream": str(uuid4()), "seq": -1}),
        "[" * 100_000,
    ]
    assert await errors_of(client, bad) == ["bad_frame"] * len(bad)


async def test_unknown_streams_and_a_second_attach_are_refused(client: Client) -> None:
    frames: list[str | bytes] = [
        json.dumps({"type": "stop", "stream": str(uuid4())}),
        json.dumps({"type": "attach", "after": {}}),
    ]
    assert await errors_of(client, frames) == ["unknown_stream", "attached"]


async def test_nothing_but_attach_is_obeyed_first(client: Client, site: Server) -> None:
    url = f"ws://127.0.0.1:{site.port}/ws/conversations/{client.new_conversation()}/"
    async with websockets.connect(url, additional_headers=client.headers) as socket:
        await socket.send(json.dumps(ASK))
        assert json.loads(await socket.recv())["code"] == "attach_first"


async def test_a_frame_of_10_mb_closes_the_connection_and_nothing_else(client: Client, site: Server) -> None:
    conversation = client.new_conversation()
    async with client.connected(conversation, Follower()) as socket:
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.send("x" * 10_000_000)
            await socket.recv()
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    async with httpx.AsyncClient(base_url=site.url) as http:
        assert (await http.get("/login/")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "origin", "outcome"),
    [
        ({}, None, 403),  # a cookie-less program without a token
        ({}, "http://evil.example", 403),
        ({"Authorization": "Bearer wrong"}, None, 4403),
        ({"Authorization": "Bearer "}, None, 4403),
        ({}, "http://127.0.0.1", 4403),  # our page, signed out
    ],
)
async def test_who_is_not_known_is_not_let_in(
    client: Client, site: Server, headers: dict[str, str], origin: Any, outcome: int
) -> None:
    url = f"ws://127.0.0.1:{site.port}/ws/conversations/{client.new_conversation()}/"
    try:
        async with websockets.connect(url, additional_headers=headers, origin=origin) as socket:
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == outcome
    except websockets.InvalidStatus as refused:
        assert refused.response.status_code == outcome


async def test_a_stranger_and_an_unknown_conversation_are_told_4404(client: Client, site: Server) -> None:
    with Client(site) as stranger:
        for conversation in (client.new_conversation(), str(uuid4())):
            with pytest.raises(websockets.ConnectionClosed) as closed:
                async with stranger.connected(conversation, Follower()) as socket:
                    await socket.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 4404


async def test_a_session_that_ends_closes_its_socket_within_seconds(tmp_path: Any, site: Server) -> None:
    async with httpx.AsyncClient(base_url=site.url, follow_redirects=True) as browser:
        await browser.get("/login/")
        token = browser.cookies["csrftoken"]
        await browser.post("/visitor/", data={"csrfmiddlewaretoken": token}, headers={"Referer": site.url})
        token = browser.cookies["csrftoken"]
        created = await browser.post("/api/conversations/", json={}, headers={"X-CSRFToken": token})
        url = f"ws://127.0.0.1:{site.port}/ws/conversations/{created.raise_for_status().json()['id']}/"
        cookie = f"sessionid={browser.cookies['sessionid']}"
        async with websockets.connect(url, additional_headers={"Cookie": cookie}, origin=Origin(site.url)) as socket:
            await socket.send(json.dumps({"type": "attach", "after": {}}))
            await browser.post("/logout/", data={"csrfmiddlewaretoken": token})
            with pytest.raises(websockets.ConnectionClosed) as closed:
                async with asyncio.timeout(15):
                    await socket.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 4403


async def test_asking_twice_with_one_key_asks_once(client: Client) -> None:
    conversation, follower = client.new_conversation(), Follower()
    async with client.connected(conversation, follower) as socket:
        for _ in range(3):
            await socket.send(json.dumps(ASK))
        await listen(socket, follower, lambda: any(shown.status == "done" for shown in follower.streams.values()))
    messages = client.http.get(f"/conversations/{conversation}/messages/").json()["results"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert len(set(follower.turns)) == 1


async def test_too_many_prompts_are_refused_by_name(tmp_path: Path, model_url: str) -> None:
    with server(tmp_path, model_url, THROTTLE_PROMPTS="1/hour") as site, Client(site) as client:
        conversation, follower = client.new_conversation(), Follower()
        async with client.connected(conversation, follower) as socket:
            await socket.send(json.dumps(ASK))
            await listen(socket, follower, lambda: any(shown.status == "done" for shown in follower.streams.values()))
            await socket.send(json.dumps(ASK))  # The same again asks nothing new.
            await socket.send(json.dumps(ASK | {"key": str(uuid4())}))
            await listen(socket, follower, lambda: follower.errors)
        assert follower.errors[0]["code"] == "throttled"
        assert follower.errors[0]["key"] != ASK["key"]


async def test_a_prompt_while_an_answer_is_written_is_refused_by_name(client: Client) -> None:
    conversation, follower = client.new_conversation(), Follower()
    client.ask(conversation, directive(words=50, delay_s=0.05))
    async with client.connected(conversation, follower) as socket:
        await socket.send(json.dumps(ASK))
        await listen(socket, follower, lambda: follower.errors)
    assert follower.errors[0]["code"] == "busy"
    assert follower.errors[0]["key"] == ASK["key"]


async def test_stop_from_another_connection_closes_the_models_request_within_a_second(
    client: Client, model_url: str
) -> None:
    conversation, follower = client.new_conversation(), Follower()
    prompt = directive(words=1000, delay_s=0.02)
    stream = client.ask(conversation, prompt)
    async with client.connected(conversation, follower) as watching:
        await listen(watching, follower, lambda: stream in follower.streams)
        async with client.connected(conversation, Follower()) as other:
            await other.send(json.dumps({"type": "stop", "stream": stream}))
            async with asyncio.timeout(1.5):
                await listen(watching, follower, lambda: follower.done(stream))
    assert follower.streams[stream].status == "stopped"
    assert follower.streams[stream].text == client.stream(stream)["text"]
    async with httpx.AsyncClient() as http:
        asked = (await http.get(model_url.removesuffix("/v1") + "/requests")).json()
    gone = [request["gone_at"] for request in asked if prompt in json.dumps(request["body"]).replace("\\", "")]
    assert gone and all(gone)


def read_events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_server_sent_events_are_the_same_frames_from_any_position(client: Client) -> None:
    wanted = {"words": 30, "delay_s": 0.01}
    stream = client.ask(client.new_conversation(), directive(**wanted))
    with client.http.stream("GET", f"/streams/{stream}/events/") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        whole = read_events(response)
    follower = Follower()
    for frame in whole:
        follower.apply(frame)
    assert follower.streams[stream].text == expected_text(wanted)
    assert follower.streams[stream].status == "done"
    middle = whole[len(whole) // 2]["seq"]
    with client.http.stream("GET", f"/streams/{stream}/events/?after={middle}") as response:
        rest = read_events(response)
    assert rest[0]["seq"] > middle
    assert "".join(f.get("text", "") for f in rest) == "".join(f.get("text", "") for f in whole if f["seq"] > middle)


def test_an_event_source_that_has_all_is_told_not_to_come_back(client: Client) -> None:
    stream = client.ask(client.new_conversation(), directive(words=3))
    with client.http.stream("GET", f"/streams/{stream}/events/") as response:
        last = read_events(response)[-1]["seq"]
    again = client.http.get(f"/streams/{stream}/events/", headers={"Last-Event-ID": str(last)})
    assert again.status_code == 204


def test_events_refuse_bad_positions_strangers_and_nobody(client: Client, site: Server) -> None:
    stream = client.ask(client.new_conversation(), directive(words=3))
    path = f"/streams/{stream}/events/"
    with Client(site) as stranger:
        assert client.http.get(path, params={"after": "x"}).json()["code"] == "bad_position"
        assert client.http.get(path, params={"after": "-1"}).status_code == 400
        assert stranger.http.get(path).status_code == 404
        assert client.http.post(path, json={}).json()["code"] == "method_not_allowed"
        assert httpx.get(f"{site.url}/api{path}").status_code == 401
