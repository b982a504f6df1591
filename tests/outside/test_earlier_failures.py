"""The ways earlier systems of this kind failed when they were run, each shown on the real server not to be one of ours.

Each docstring names the failure. docs/promises.md lists those that other modules show.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import count
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from streaming.frames import Said
from tests.follower import Follower
from tests.modelscript import expected_text
from tests.ports import free_port
from tests.processes import Client, Server, directive, listen, model_server, server

QUICK = {"STREAM_BACKOFF_S": "0.2", "STREAM_BACKOFF_MAX_S": "0.3"}
SILENT_S = 11
MEGABYTE = 1_000_000
SPACES = count(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model_url: str) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("site"), model_url, **QUICK) as site:
        yield site


def questions(model_url: str, prompt: str) -> int:
    """How often the model was asked this."""
    requests = httpx.get(model_url.removesuffix("/v1") + "/requests").json()
    return sum(request["body"]["messages"][-1]["content"] == prompt for request in requests)


def unique(**fields: Any) -> str:
    """A directive that no other test gives, so that its requests can be counted."""
    return directive(**fields) + " " * next(SPACES)


async def until_ends(socket: ClientConnection, follower: Follower, *streams: str, deadline_s: float = 30) -> None:
    """Apply the frames of this one connection until the streams have ended; a reader that is forgotten fails here."""
    async with asyncio.timeout(deadline_s):
        await listen(socket, follower, lambda: all(follower.done(stream) for stream in streams))


async def until_says(socket: ClientConnection, follower: Follower, stream: str, chars: int) -> None:
    async with asyncio.timeout(30):
        await listen(
            socket, follower, lambda: stream in follower.streams and len(follower.streams[stream].text) >= chars
        )


def text_of(follower: Follower, stream: str) -> str:
    return follower.streams[stream].text


async def test_a_reader_that_reconnects_while_another_stays_hears_the_rest_live(client: Client) -> None:
    """chat-streaming-lab: it came back to a room it was no longer in: 65 words of 200, then nothing and no end."""
    wanted = {"words": 120, "delay_s": 0.02}
    conversation, staying, returning = client.new_conversation(), Follower(), Follower()
    stream = client.ask(conversation, directive(**wanted))
    async with client.connected(conversation, staying) as stays:
        async with client.connected(conversation, returning) as leaves:
            await until_says(leaves, returning, stream, 100)
        await until_says(stays, staying, stream, 200)
        async with client.connected(conversation, returning) as back:
            await until_says(back, returning, stream, 300)
            assert client.stream(stream)["status"] == "streaming"
            await until_ends(back, returning, stream)
        await until_ends(stays, staying, stream)
    assert text_of(returning, stream) == text_of(staying, stream) == expected_text(wanted)


async def test_an_answer_goes_on_while_nobody_reads_and_is_asked_for_once(client: Client, model_url: str) -> None:
    """chat-streaming-lab: the last to leave deleted the room; the model ran on unseen. poto: the answer was lost."""
    wanted = {"words": 100, "delay_s": 0.02}
    prompt, conversation, follower = unique(**wanted), client.new_conversation(), Follower()
    stream = client.ask(conversation, prompt)
    async with client.connected(conversation, follower) as socket:
        await until_says(socket, follower, stream, 30)
    async with asyncio.timeout(20):
        while len(client.stream(stream)["text"]) < 300:
            await asyncio.sleep(0.05)
    async with client.connected(conversation, follower) as socket:
        await until_ends(socket, follower, stream)
    assert text_of(follower, stream) == expected_text(wanted)
    assert questions(model_url, prompt) == 1


async def test_text_without_punctuation_is_saved_and_seen_while_it_is_written(client: Client) -> None:
    """persistent-text-streaming: flushed at `.`, `!`, `?` only: of 470 bytes of code all were unsaved until the end."""
    wanted = {"text": "let x = [\n" + "    1,\n" * 80 + "]\n", "chunk": 4, "delay_s": 0.01}
    conversation, follower = client.new_conversation(), Follower()
    stream = client.ask(conversation, directive(**wanted))
    async with client.connected(conversation, follower) as socket:
        await until_says(socket, follower, stream, 100)
        stored = client.stream(stream)
        assert stored["status"] == "streaming"
        assert stored["text"].startswith(text_of(follower, stream))
        await until_ends(socket, follower, stream)
    assert text_of(follower, stream) == expected_text(wanted)


async def test_a_stalled_reader_holds_up_neither_the_answer_nor_another_reader(client: Client, site: Server) -> None:
    """persistent-text-streaming: who stopped reading stalled all. chat-streaming-lab: he got 2,428 words of 4,000."""
    wanted = {"size": 12 * MEGABYTE}
    conversation, stalled, reading = client.new_conversation(), Follower(), Follower()
    stream = client.ask(conversation, directive(**wanted))
    async with client.connected(conversation, stalled) as stalls, client.connected(conversation, reading) as reads:
        await until_ends(reads, reading, stream)
        assert text_of(reading, stream) == expected_text(wanted)
        assert site.stored(stream, "status") == "done"
        await until_ends(stalls, stalled, stream)
    assert text_of(stalled, stream) == expected_text(wanted)


async def test_a_retry_after_a_partial_answer_repeats_nothing(client: Client, model_url: str) -> None:
    """poto: each retry said everything again after what was there: three copies of the beginning."""
    wanted = {"words": 30, "cut_after": 20, "fail_times": 2}
    prompt, conversation, follower = unique(**wanted), client.new_conversation(), Follower()
    stream = client.ask(conversation, prompt)
    await client.follow(conversation, stream, follower)
    assert text_of(follower, stream) == client.stream(stream)["text"] == expected_text(wanted)
    assert questions(model_url, prompt) == client.stream(stream)["attempt"] == 3


async def test_a_model_that_is_silent_for_over_10_seconds_is_waited_for(client: Client) -> None:
    """poto: its server cut every connection that was idle for 10 s, and there was no heartbeat."""
    wanted = {"words": 5, "first_delay_s": SILENT_S}
    conversation, follower, events = client.new_conversation(), Follower(), Follower()
    stream = client.ask(conversation, directive(**wanted))
    reading = asyncio.create_task(asyncio.to_thread(read_events, client, stream, events))
    async with client.connected(conversation, follower) as socket:
        await until_ends(socket, follower, stream)
    await reading
    assert text_of(follower, stream) == text_of(events, stream) == expected_text(wanted)
    assert client.stream(stream)["attempt"] == 1


def read_events(client: Client, stream: str, follower: Follower) -> None:
    with client.http.stream("GET", f"/streams/{stream}/events/") as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                follower.apply(json.loads(line.removeprefix("data: ")))


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A site whose every time-out is short, and whose model server is not there unless a test starts it."""
    short = {"STREAM_SILENCE_S": "1", "STREAM_LEASE_S": "2", "HUB_TICK_S": "0.2", "ACCESS_CHECK_S": "0.5"}
    short |= {"SSE_HEARTBEAT_S": "0.5", "STREAM_ATTEMPTS": "2"}
    model_url = f"http://127.0.0.1:{free_port()}/v1"
    with server(tmp_path_factory.mktemp("frail"), model_url, **QUICK, **short) as site:
        yield site


def model_of(site: Server) -> AbstractContextManager[str]:
    return model_server(port=int(site.model_url.split(":")[2].removesuffix("/v1")))


async def test_a_healthy_answer_may_take_longer_than_every_time_out(frail: Server) -> None:
    """persistent-text-streaming: a stream was ended 20 minutes after its creation, however well it was going."""
    wanted = {"words": 50, "delay_s": 0.07}
    with model_of(frail), Client(frail) as client:
        conversation, follower, events = client.new_conversation(), Follower(), Follower()
        stream = client.ask(conversation, directive(**wanted))
        reading = asyncio.create_task(asyncio.to_thread(read_events, client, stream, events))
        async with client.connected(conversation, follower) as socket:
            await until_ends(socket, follower, stream)
        await reading
        assert text_of(follower, stream) == text_of(events, stream) == expected_text(wanted)
        assert (client.stream(stream)["status"], client.stream(stream)["attempt"]) == ("done", 1)


async def test_a_tab_with_an_old_position_gets_each_turn_for_itself(client: Client) -> None:
    """chat-streaming-lab: positions named no run: one from the first run got the text of the second."""
    first, then = {"words": 60, "delay_s": 0.01}, {"size": 3000, "chunk": 20, "delay_s": 0.01}
    conversation, old = client.new_conversation(), Follower()
    one = client.ask(conversation, directive(**first))
    async with client.connected(conversation, old) as socket:
        await until_says(socket, old, one, 100)
    await client.follow(conversation, one, Follower())
    two = client.ask(conversation, directive(**then))
    async with client.connected(conversation, old) as socket:
        await until_ends(socket, old, one, two)
    assert [text_of(old, one), text_of(old, two)] == [expected_text(first), expected_text(then)]
    assert old.turns[-1] == two


async def test_whoever_joins_under_fire_misses_and_repeats_nothing(client: Client) -> None:
    """chat-streaming-lab: a late joiner got live frames before the answer to its sync, and half of the text."""
    wanted = {"size": 40_000, "chunk": 12, "delay_s": 0.001}
    conversation, followers = client.new_conversation(), [Follower() for _ in range(40)]
    stream = client.ask(conversation, directive(**wanted))
    first = followers[0]
    async with client.connected(conversation, first) as socket, asyncio.TaskGroup() as group:
        for n, late in enumerate(followers[1:], 1):
            await until_says(socket, first, stream, 900 * n)
            group.create_task(join(client, conversation, stream, late, seen=n % 2 == 0))
        assert not first.done(stream)
        await until_ends(socket, first, stream)
    assert {text_of(follower, stream) for follower in followers} == {expected_text(wanted)}


async def join(client: Client, conversation: str, stream: str, follower: Follower, *, seen: bool) -> None:
    """Begin with what the API shows, as a page does, or with nothing; then follow."""
    if seen:
        shown = client.stream(stream)
        follower.begin(stream, Said(shown["seq"], shown["text"], ""))
    async with client.connected(conversation, follower) as socket:
        await until_ends(socket, follower, stream)


async def test_a_model_server_that_cuts_every_answer_gives_an_error_and_the_next_prompt_is_answered(
    client: Client,
) -> None:
    """chat-streaming-lab: the truncated answer was `done`. persistent-text-streaming: its last words were lost."""
    wanted = {"words": 30, "cut_after": 12}
    conversation, follower = client.new_conversation(), Follower()
    stream = client.ask(conversation, directive(**wanted))
    async with client.connected(conversation, follower) as socket:
        await until_ends(socket, follower, stream)
    beginning = " ".join(expected_text(wanted).split(" ")[:12])
    assert follower.streams[stream].status == client.stream(stream)["status"] == "error"
    assert text_of(follower, stream) == client.stream(stream)["text"] == beginning
    late = Follower()
    await client.follow(conversation, stream, late)
    assert (late.streams[stream].status, text_of(late, stream)) == ("error", beginning)
    after, then = client.ask(conversation, directive(words=3)), Follower()
    await client.follow(conversation, after, then)
    assert text_of(then, after) == expected_text({"words": 3})


async def test_a_model_server_that_dies_ends_the_answer_and_not_the_site(frail: Server) -> None:
    """chat-streaming-lab: a dead or absent model server ended the process, and every other conversation with it."""
    with ExitStack() as alive, Client(frail) as client:
        alive.enter_context(model_of(frail))
        conversation, follower, running = client.new_conversation(), Follower(), frail.observed
        stream = client.ask(conversation, directive(words=1000, delay_s=0.02))
        async with client.connected(conversation, follower) as socket:
            await until_says(socket, follower, stream, 100)
            await asyncio.to_thread(alive.close)
            await until_ends(socket, follower, stream)
            assert follower.streams[stream].status == "error"
            assert text_of(follower, stream) == client.stream(stream)["text"] != ""
            refused = client.ask(conversation, "anyone there?")
            await until_ends(socket, follower, refused)
            assert client.stream(refused)["error"]["code"] == "unreachable"
            alive.enter_context(model_of(frail))
            answered = client.ask(conversation, directive(words=3))
            await until_ends(socket, follower, answered)
        assert text_of(follower, answered) == expected_text({"words": 3})
        assert running.is_running()


async def test_emoji_in_halves_and_bodies_in_single_bytes_arrive_exactly(client: Client) -> None:
    """poto: an event cut in two by the network was lost. tRPC: positions in words ate spaces and line ends."""
    text = "Hel  lo\n\n\twör ld 👩‍👩‍👧‍👦 𝔘𝔫𝔦 🇪🇺\r\n  - indented  \n\n" * 3
    wanted = {"text": text, "chunk": 3, "surrogates": True, "network_chunk": 1, "crlf": True}
    conversation, follower = client.new_conversation(), Follower()
    stream = client.ask(conversation, directive(**wanted))
    await client.follow(conversation, stream, follower)
    assert text_of(follower, stream) == client.stream(stream)["text"] == text
    for seq in range(1, follower.streams[stream].seq):
        cut = Follower()
        cut.begin(stream, Said(seq, client.text_at(stream, seq), ""))
        await client.follow(conversation, stream, cut)
        assert text_of(cut, stream) == text


async def test_a_conversation_cleared_in_mid_answer_tells_its_readers_and_stops_the_model(
    client: Client, model_url: str
) -> None:
    """tRPC demo: after a clear in mid-answer the reader polled for ever, and the model was paid for nothing."""
    prompt, conversation, follower = unique(words=1000, delay_s=0.02), client.new_conversation(), Follower()
    stream = client.ask(conversation, prompt)
    async with client.connected(conversation, follower) as socket:
        await until_says(socket, follower, stream, 50)
        client.http.delete(f"/conversations/{conversation}/messages/").raise_for_status()
        async with asyncio.timeout(10):
            await listen(socket, follower, lambda: follower.errors)
    assert (follower.errors[0]["code"], follower.errors[0]["stream"]) == ("gone", stream)
    async with asyncio.timeout(5):
        while not hung_up(model_url, prompt):
            await asyncio.sleep(0.05)


def hung_up(model_url: str, prompt: str) -> bool:
    requests = httpx.get(model_url.removesuffix("/v1") + "/requests").json()
    return any(r["gone_at"] for r in requests if r["body"]["messages"][-1]["content"] == prompt)
