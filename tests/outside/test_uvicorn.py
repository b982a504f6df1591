"""The same site behind uvicorn, whose lifespan starts and stops the engine and whose `send` raises for who has left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.follower import Follower
from tests.modelscript import expected_text
from tests.processes import UVICORN, Client, Server, directive, listen, running

WANTED = {"words": 60, "delay_s": 0.02}


@pytest.fixture
def site(tmp_path: Path, model_url: str) -> Iterator[Server]:
    with running(Server(tmp_path, model_url, web=UVICORN)) as site:
        yield site


async def test_an_answer_survives_the_clean_end_of_its_server(client: Client, site: Server) -> None:
    conversation, follower = client.new_conversation(), Follower()
    stream = client.ask(conversation, directive(**WANTED))
    async with client.connected(conversation, follower) as socket:
        await listen(socket, follower, lambda: stream in follower.streams and len(follower.streams[stream].text) > 20)
    site.terminate()
    assert "1 streams handed back" in site.log
    site.start()
    await client.follow(conversation, stream, follower)
    assert follower.streams[stream].text == expected_text(WANTED)


async def test_clients_that_vanish_in_mid_answer_make_no_noise_and_the_answer_ends(
    client: Client, site: Server
) -> None:
    conversation, stayed = client.new_conversation(), Follower()
    stream = client.ask(conversation, directive(**WANTED))
    for _ in range(10):
        follower = Follower()
        async with client.connected(conversation, follower) as socket:
            follower.apply(json.loads(await socket.recv()))
            await socket.send("nonsense")
            socket.transport.abort()
    await client.follow(conversation, stream, stayed)
    assert stayed.streams[stream].text == expected_text(WANTED)
    assert "Traceback" not in site.log
