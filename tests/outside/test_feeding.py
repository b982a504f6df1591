"""Answers that a program writes itself, at the real server: watched live, killed, stopped, abandoned."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.follower import Follower
from tests.processes import Client, Server, listen, server

pytestmark = pytest.mark.timeout(90)
FEED_LEASE_S = 1.5


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model_url: str) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("site"), model_url, FEED_LEASE_S=str(FEED_LEASE_S)) as site:
        yield site


class Writer:
    """A program that writes an answer, and knows the last seq it was told."""

    def __init__(self, client: Client, conversation: str) -> None:
        self.http = client.http
        opened = self.http.post(f"/conversations/{conversation}/streams/", json={"text": "Hello?"}).raise_for_status()
        self.stream, self.lease = opened.json()["stream"], opened.json()["lease"]
        self.seq = 0

    def send(self, what: str, **body: Any) -> httpx.Response:
        return self.http.post(f"/streams/{self.stream}/{what}/", json={"lease": self.lease, "after": self.seq, **body})

    def say(self, *words: str) -> None:
        said = self.send("chunks", chunks=[{"text": word} for word in words])
        self.seq = said.raise_for_status().json()["seq"]

    def end(self, **body: Any) -> None:
        self.send("end", **body).raise_for_status()


async def test_whoever_watches_sees_each_word_when_it_is_added(client: Client) -> None:
    conversation, follower = client.new_conversation(), Follower()
    async with client.connected(conversation, follower) as socket:
        writer = await asyncio.to_thread(Writer, client, conversation)
        for text in ("Good", "Good day", "Good day to you"):
            shown = follower.streams.get(writer.stream)
            await asyncio.to_thread(writer.say, text.removeprefix(shown.text if shown else ""))
            async with asyncio.timeout(5):
                await listen(socket, follower, lambda: writer.stream in follower.streams)
                await listen(socket, follower, lambda: follower.streams[writer.stream].text == text)  # noqa: B023
        await asyncio.to_thread(writer.end)
        async with asyncio.timeout(5):
            await listen(socket, follower, lambda: follower.done(writer.stream))
    assert follower.turns == [writer.stream] and follower.streams[writer.stream].status == "done"


def test_a_program_that_falls_silent_leaves_its_answer_interrupted(client: Client) -> None:
    writer = Writer(client, client.new_conversation())
    writer.say("Hel", "lo")
    with client.http.stream("GET", f"/streams/{writer.stream}/events/") as response:
        *_, last = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "abandoned"
    assert (client.stream(writer.stream)["status"], client.stream(writer.stream)["text"]) == ("interrupted", "Hello")
    assert writer.send("chunks", chunks=[{"text": "!"}]).json()["code"] == "lease_lost"


def test_a_stop_ends_it_whatever_its_program_does(client: Client) -> None:
    writer = Writer(client, client.new_conversation())
    writer.say("Hel", "lo")
    client.http.post(f"/streams/{writer.stream}/stop/").raise_for_status()
    assert writer.send("chunks", chunks=[{"text": "!"}]).json()["code"] == "lease_lost"
    with client.http.stream("GET", f"/streams/{writer.stream}/events/") as response:
        assert '"status":"stopped"' in response.read().decode()
    assert client.stream(writer.stream)["text"] == "Hello"


def test_a_program_writes_on_after_the_server_was_killed(tmp_path: Path, model_url: str) -> None:
    with server(tmp_path, model_url) as site, Client(site) as client:
        writer = Writer(client, client.new_conversation())
        writer.say("Hel")
        site.kill()
        site.start()
        # As if the response had been lost: what is sent again is there once.
        writer.seq = 0
        writer.say("Hel")
        writer.say("lo")
        writer.end(finish_reason="length")
        found = client.stream(writer.stream)
    assert (found["status"], found["text"], found["finish_reason"], found["attempt"]) == ("done", "Hello", "length", 1)
