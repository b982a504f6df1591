"""A site with twice the processes on one database: each answer is written once, by one of them at a time (promise 4).

In the embedded column nothing but the database file connects the two. Docstrings name the failure of an earlier system
that a test is about.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from tests.follower import Follower
from tests.modelscript import expected_text
from tests.processes import Client, Server, directive, listen, server

SPACES = count(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model_url: str) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("site"), model_url, STREAM_SWEEP_S="0.2", HUB_TICK_S="0.3") as site:
        yield site


@pytest.fixture(scope="module")
def second(site: Server) -> Iterator[Server]:
    """The other process (scaled: web process and worker) of the same site: the same database, another port."""
    other = Server(site.home, site.model_url, site.settings)
    try:
        other.start()
        yield other
    finally:
        other.stop()


@pytest.fixture
def there(client: Client, second: Server) -> Iterator[Client]:
    """The same person at the other process."""
    with Client(second) as there:
        there.headers = client.headers
        there.http.headers.update(client.headers)
        yield there


def unique(**fields: Any) -> str:
    """A directive that no other test gives, so that its requests can be counted."""
    return directive(**fields) + " " * next(SPACES)


def requests(model_url: str, prompt: str) -> list[dict[str, Any]]:
    """The model's requests with this prompt."""
    asked = httpx.get(model_url.removesuffix("/v1") + "/requests").json()
    return [request for request in asked if request["body"]["messages"][-1]["content"] == prompt]


def writer_of(site: Server, stream: str) -> int:
    """The process that claimed the stream last."""
    return int(site.stored(stream, "worker").split(":")[1])


async def test_two_processes_share_the_answers_and_write_each_once(
    client: Client, there: Client, model_url: str
) -> None:
    """persistent-text-streaming: two starts of one stream both generated, and the text became their mixture."""
    wanted = {"words": 40, "delay_s": 0.02}
    prompts, followers = [unique(**wanted) for _ in range(12)], [Follower() for _ in range(12)]
    conversations = [client.new_conversation() for _ in prompts]
    streams = [(client, there)[n % 2].ask(conversation, prompts[n]) for n, conversation in enumerate(conversations)]
    await asyncio.gather(
        *((client, there)[n // 2 % 2].follow(conversations[n], streams[n], followers[n]) for n in range(12))
    )
    shown = [follower.streams[stream].text for follower, stream in zip(followers, streams, strict=True)]
    assert shown == [expected_text(wanted)] * 12
    assert [len(requests(model_url, prompt)) for prompt in prompts] == [1] * 12
    writers = {writer_of(client.site, stream) for stream in streams}
    while writers != {client.site.writer.pid, there.site.writer.pid}:  # Whoever is first: chance may favour one.
        conversation, stream = client.ask_anew(unique(words=1))
        await client.follow(conversation, stream, Follower())
        writers.add(writer_of(client.site, stream))


async def test_a_prompt_sent_to_both_at_the_same_moment_is_asked_once(
    client: Client, second: Server, model_url: str
) -> None:
    """persistent-text-streaming: two POSTs before the first flush were both answered with 200, and both generated."""
    prompt, conversation = unique(words=30, delay_s=0.02), client.new_conversation()
    path, key = f"/api/conversations/{conversation}/messages/", str(uuid4())
    async with httpx.AsyncClient(headers=client.headers | {"Idempotency-Key": key}, timeout=30) as http:
        urls = [client.site.url, second.url] * 4
        answers = await asyncio.gather(*(http.post(url + path, json={"text": prompt}) for url in urls))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    (stream,) = {answer.json()["stream"] for answer in answers}
    follower = Follower()
    await client.follow(conversation, stream, follower)
    assert follower.streams[stream].text == expected_text({"words": 30})
    assert len(requests(model_url, prompt)) == 1


async def test_stop_at_one_process_ends_within_about_a_second_what_the_other_writes(
    client: Client, there: Client, model_url: str
) -> None:
    """chat-streaming-lab: an answer whose room was gone could be stopped by nobody. tRPC demo: no answer could be."""
    prompt, conversation, follower = unique(words=1000, delay_s=0.02), client.new_conversation(), Follower()
    stream = client.ask(conversation, prompt)
    async with client.connected(conversation, follower) as socket:
        await listen(socket, follower, lambda: stream in follower.streams)
        assert writer_of(client.site, stream) != there.site.observed.pid
        async with there.connected(conversation, Follower()) as other:
            await other.send(json.dumps({"type": "stop", "stream": stream}))
            stopped_at = time.time()
            async with asyncio.timeout(10):
                await listen(socket, follower, lambda: follower.done(stream))
    assert follower.streams[stream].status == "stopped"
    assert follower.streams[stream].text == client.stream(stream)["text"]
    (request,) = requests(model_url, prompt)
    assert request["gone_at"] - stopped_at < 1.5


def suspend(process: psutil.Process, site: Server) -> None:
    """SIGSTOP, at a moment when the process does not hold SQLite's write lock: that would stop everybody."""
    process.suspend()
    while site.is_locked():
        process.resume()
        process.suspend()


async def test_a_paused_writer_adds_nothing_once_another_has_taken_over(
    client: Client, there: Client, model_url: str
) -> None:
    """persistent-text-streaming: whoever still held an old stream wrote on, into the middle of the new text."""
    wanted = {"words": 25, "delay_s": 0.1}
    prompt, conversation, follower = unique(**wanted), client.new_conversation(), Follower()
    stream = client.ask(conversation, prompt)
    async with there.connected(conversation, follower) as socket:
        await listen(socket, follower, lambda: stream in follower.streams and follower.streams[stream].text)
        writer = psutil.Process(writer_of(client.site, stream))
        assert writer.pid != there.site.observed.pid
        suspend(writer, client.site)
        try:
            async with asyncio.timeout(20):
                await listen(socket, follower, lambda: len(requests(model_url, prompt)) == 2)
                said = follower.streams[stream].seq
                await listen(socket, follower, lambda: follower.streams[stream].seq > said)
        finally:
            writer.resume()
        async with asyncio.timeout(20):
            await listen(socket, follower, lambda: follower.done(stream))
    assert follower.streams[stream].text == client.stream(stream)["text"] == expected_text(wanted)
    assert (client.stream(stream)["status"], client.stream(stream)["attempt"]) == ("done", 2)
    assert {writer_of(client.site, stream), writer.pid} == {client.site.writer.pid, there.site.writer.pid}
    async with asyncio.timeout(10):
        while not requests(model_url, prompt)[0]["gone_at"] and not requests(model_url, prompt)[0]["finished"]:
            await asyncio.sleep(0.05)
