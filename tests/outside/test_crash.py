"""Promise 3 from outside: the real server process dies in the middle, and comes back."""

from __future__ import annotations

import asyncio

from tests.follower import Follower
from tests.modelscript import expected_text
from tests.processes import Client, Server, directive, listen

LONG = {"words": 120, "delay_s": 0.02}
QUESTION = directive(**LONG)


async def seen_some(client: Client, conversation: str, stream: str, follower: Follower) -> None:
    """Follow until some words were seen, then lose the connection."""
    async with client.connected(conversation, follower) as socket:
        await listen(socket, follower, lambda: stream in follower.streams and len(follower.streams[stream].text) > 20)


async def test_after_kill_9_all_that_was_seen_is_stored_and_the_answer_ends(client: Client, site: Server) -> None:
    conversation, follower = client.new_conversation(), Follower()
    stream = client.ask(conversation, QUESTION)
    await seen_some(client, conversation, stream, follower)
    seen = follower.streams[stream].text
    site.kill()
    site.start()
    assert client.text_at(stream, follower.streams[stream].seq) == seen
    await client.follow(conversation, stream, follower)
    assert follower.streams[stream].status == "done"
    assert follower.streams[stream].text == client.stream(stream)["text"] == expected_text(LONG)


async def test_an_attached_client_is_told_of_a_server_that_was_killed_and_came_back(
    client: Client, site: Server
) -> None:
    conversation, follower = client.new_conversation(), Follower()
    stream = client.ask(conversation, QUESTION)
    following = asyncio.create_task(client.follow(conversation, stream, follower))
    async with asyncio.timeout(10):
        while not (stream in follower.streams and follower.streams[stream].text):
            await asyncio.sleep(0.01)
    await asyncio.to_thread(site.kill)
    await asyncio.to_thread(site.start)
    await following
    assert follower.streams[stream].status == "done"
    assert follower.streams[stream].text == expected_text(LONG)


async def test_after_sigterm_the_text_is_kept_and_the_next_server_goes_on_at_once(client: Client, site: Server) -> None:
    conversation, follower = client.new_conversation(), Follower()
    stream = client.ask(conversation, QUESTION)
    await seen_some(client, conversation, stream, follower)
    seen = follower.streams[stream].text
    assert site.terminate() in (0, -15)
    assert "handed back" in site.log
    site.start()
    assert client.text_at(stream, follower.streams[stream].seq) == seen
    await client.follow(conversation, stream, follower)
    assert follower.streams[stream].text == expected_text(LONG)


async def test_a_kill_before_the_first_token_loses_no_answer(client: Client, site: Server) -> None:
    conversation = client.new_conversation()
    stream = client.ask(conversation, directive(words=5, first_delay_s=2))
    site.kill()
    site.start()
    follower = Follower()
    await client.follow(conversation, stream, follower)
    assert follower.streams[stream].text == expected_text({"words": 5})


async def test_a_server_killed_in_each_attempt_leaves_the_answer_interrupted(client: Client, site: Server) -> None:
    conversation = client.new_conversation()
    stream = client.ask(conversation, directive(words=2000, delay_s=0.02))
    for attempt in (1, 2, 3):
        async with asyncio.timeout(15):
            while client.stream(stream)["attempt"] < attempt or not client.stream(stream)["text"]:
                await asyncio.sleep(0.05)
        site.kill()
        site.start()
    follower = Follower()
    await client.follow(conversation, stream, follower)
    assert follower.streams[stream].status == client.stream(stream)["status"] == "interrupted"
    assert follower.streams[stream].text == client.stream(stream)["text"] != ""
