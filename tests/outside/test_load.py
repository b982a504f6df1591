"""Many at once, and one that does not read: promises 2 and 7 on the real server."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from tests.follower import Follower
from tests.modelscript import expected_text
from tests.processes import Client, RemoteGate, Server, directive, listen, server

pytestmark = pytest.mark.timeout(180)
BIG = 20_000_000
STALL_S = 10.0
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model_url: str) -> Iterator[Server]:
    # What is freed goes back to the system at once, so that the memory held is the memory in use.
    exact = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
    with server(tmp_path_factory.mktemp("site"), model_url, **exact) as site:
        yield site


async def come_and_go(
    client: Client, conversation: str, stream: str, follower: Follower, chance: random.Random
) -> None:
    """Follow to the end, leaving at random moments and coming back to the same position."""
    follower.begin_empty(stream)
    while not follower.done(stream):
        patience = chance.randint(1, 40)
        async with client.connected(conversation, follower) as socket:
            for _ in range(patience):
                follower.apply(json.loads(await socket.recv()))
                if follower.done(stream):
                    break


async def test_50_conversations_with_readers_that_come_and_go_are_all_exact(client: Client, site: Server) -> None:
    process = site.observed
    warm = client.new_conversation()
    await client.follow(warm, client.ask(warm, "warm up"), Follower())
    wanted = [{"words": 80 + n, "delay_s": 0.02, "chunk": 1 + n % 7} for n in range(50)]
    conversations = [client.new_conversation() for _ in wanted]
    await settled(process)
    before = process.num_fds(), process.num_threads()
    streams = [
        client.ask(conversation, directive(**fields))
        for conversation, fields in zip(conversations, wanted, strict=True)
    ]
    followers = [(n, Follower()) for n in range(50) for _ in range(2)]
    async with asyncio.timeout(120):
        await asyncio.gather(
            *(
                come_and_go(client, conversations[n], streams[n], follower, random.Random(100 + index))
                for index, (n, follower) in enumerate(followers)
            )
        )
    for n, follower in followers:
        assert follower.streams[streams[n]].text == expected_text(wanted[n])
    await settled(process)
    # A thread's own connection to SQLite is three handles and may be opened late; what leaks is one for each coming.
    assert process.num_fds() <= before[0] + 15
    assert process.num_threads() <= before[1] + 8  # Those lent to requests, which are bounded.


async def test_who_follows_over_http_keeps_no_thread(client: Client, site: Server) -> None:
    gate = RemoteGate(site.model_url)
    stream = client.ask(client.new_conversation(), directive(words=3, gate=gate.name))
    address = f"/streams/{stream}/events/"
    with ExitStack() as stack:
        first = stack.enter_context(client.http.stream("GET", address))
        before = site.observed.num_threads()
        followers = [first, *(stack.enter_context(client.http.stream("GET", address)) for _ in range(40))]
        assert site.observed.num_threads() <= before + 8
        gate.open()
        for follower in followers:
            assert follower.read().rstrip().splitlines()[-1].startswith(b'data: {"type":"end"')


async def test_clients_that_vanish_while_they_are_refused_leave_nothing_behind(client: Client, site: Server) -> None:
    conversation = client.new_conversation()
    await settled(site.observed)
    before = site.observed.num_fds()
    for _ in range(20):
        async with client.connected(conversation, Follower()) as socket:
            for _ in range(5):
                await socket.send("nonsense")
            socket.transport.abort()
    await settled(site.observed)
    assert site.observed.num_fds() <= before + 3  # One that each of the 20 left would show.


async def settled(process: psutil.Process) -> None:
    """Wait until the number of file handles no longer falls."""
    async with asyncio.timeout(30):
        last = process.num_fds() + 1
        while (now := process.num_fds()) < last:
            last = now
            await asyncio.sleep(2.5)


class Peak(threading.Thread):
    """The most memory a process held while this was open, in bytes."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__()
        self._process = process
        self._over = threading.Event()
        self.bytes = 0

    def run(self) -> None:
        while not self._over.wait(0.02):
            self.bytes = max(self.bytes, self._process.memory_info().rss)

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


async def read_later(client: Client, conversation: str, stream: str, go: asyncio.Event) -> str:
    """Attach, read nothing until `go`, then everything; the text."""
    follower = Follower()
    follower.begin_empty(stream)
    async with client.connected(conversation, follower, small=True) as socket:
        await go.wait()
        await listen(socket, follower, lambda: follower.done(stream))
    return follower.streams[stream].text


async def big_answer(client: Client, site: Server, *, readers: int, stall_s: float) -> int:
    """Follow an answer of 20 MB with readers that do not read for `stall_s`; checks the texts, returns the peak."""
    conversation, go = client.new_conversation(), asyncio.Event()
    with Peak(site.observed) as peak:
        stream = client.ask(conversation, directive(size=BIG))
        async with asyncio.timeout(100):
            reading = [asyncio.create_task(read_later(client, conversation, stream, go)) for _ in range(readers)]
            await asyncio.sleep(stall_s)
            if stall_s:
                assert site.stored(stream, "status") == "done", "a stalled reader held up the generation"
            go.set()
            texts = await asyncio.gather(*reading)
    assert texts == [expected_text({"size": BIG})] * readers
    return peak.bytes


async def test_readers_that_stop_reading_while_20_mb_go_by_cost_little_and_get_everything(
    client: Client, site: Server
) -> None:
    await big_answer(client, site, readers=1, stall_s=0)
    reading = await big_answer(client, site, readers=1, stall_s=0)
    stalled = await big_answer(client, site, readers=8, stall_s=STALL_S)
    # What eight of them have not read is 160 MB.
    assert stalled < reading + 40 * MEGABYTE, f"{stalled / MEGABYTE:.0f} MB against {reading / MEGABYTE:.0f} MB"
