"""When the next commit may be, and which connections to models rest until then."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import Any, cast

import pytest
import uvloop
from asgiref.sync import sync_to_async

from conversations.models import Conversation
from streaming import pace
from streaming.completions import Decoder, Delta
from streaming.models import Chunk, StreamQuerySet
from streaming.openai_provider import OpenAIProvider
from streaming.pace import Pace
from tests.conftest import DEADLINE_S, ended, engine_with, stream_of
from tests.modelserver import Gate, ModelServer, Script, expected_text
from tests.streaming.conftest import go_by_the_thread


class Clock:
    """Time, and the event loop's work, that stand still until a test moves them; whoever sleeps does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.worked_s = 1.0
        self.slept: list[float] = []
        monkeypatch.setattr(pace, "time", self)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    def monotonic(self) -> float:
        return self.now_s

    def thread_time(self) -> float:
        return self.worked_s

    async def _sleep(self, seconds: float) -> None:
        if seconds:
            self.slept.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Clock:
    settings.JOURNAL_SHARE, settings.JOURNAL_WINDOW_S = 0.5, 0.1
    return Clock(monkeypatch)


class Wire:
    """A connection, as far as it can rest."""

    def __init__(self) -> None:
        self.resting = False
        self.closed = False

    def pause_reading(self) -> None:
        assert not self.closed
        self.resting = True

    def resume_reading(self) -> None:
        assert not self.closed
        self.resting = False

    def is_closing(self) -> bool:
        return self.closed


def rested(turns: Pace, wire: Wire) -> bool:
    turns.rest(cast(asyncio.ReadTransport, wire))
    return wire.resting


async def turn(turns: Pace, clock: Clock, *, after_s: float, worked_s: float = 0, database_s: float = 0) -> float:
    """How long a turn waits whose words are there after so much time, work and database."""
    clock.now_s += after_s
    clock.worked_s += worked_s
    turns.charge(database_s)
    turns.wake()
    clock.slept.clear()
    await turns.turn()
    return sum(clock.slept)


async def test_a_word_now_and_then_waits_for_nothing(clock: Clock) -> None:
    turns = Pace()
    assert [await turn(turns, clock, after_s=0.02, worked_s=0.004, database_s=0.004) for _ in range(5)] == [0] * 5


@pytest.mark.parametrize("cost", ["worked_s", "database_s"])
async def test_what_commits_cost_beyond_their_share_is_waited_for(clock: Clock, cost: str) -> None:
    turns = Pace()
    waits = [await turn(turns, clock, after_s=0.02, **{cost: 0.02}) for _ in range(3)]
    assert waits == pytest.approx([0.02, 0.02, 0.02])


async def test_no_wait_is_longer_than_the_window_and_none_is_for_what_was_long_ago(clock: Clock) -> None:
    turns = Pace()
    assert await turn(turns, clock, after_s=60, worked_s=60) == pytest.approx(0.1)
    assert await turn(turns, clock, after_s=60) == 0


async def test_an_hour_of_rest_is_no_credit_for_a_flood(clock: Clock) -> None:
    turns = Pace()
    await turn(turns, clock, after_s=3600)
    assert await turn(turns, clock, after_s=0.02, worked_s=0.05) == pytest.approx((0.05 - 0.01 - pace.CREDIT_S) / 0.5)


async def test_connections_rest_only_where_turns_are_far_apart(clock: Clock) -> None:
    turns = Pace()
    await turn(turns, clock, after_s=0.02)
    turns.wake()
    await turns.turn()
    assert not rested(turns, Wire())
    turns.wake()
    turns.charge(0.02)
    await turns.turn()
    assert rested(turns, Wire())


async def test_no_connection_rests_because_nothing_was_said_for_long(clock: Clock) -> None:
    turns = Pace()

    def speak() -> None:
        clock.now_s += 60
        turns.wake()

    waiting = asyncio.create_task(turns.turn())
    asyncio.get_running_loop().call_soon(speak)
    await waiting
    assert not rested(turns, Wire())


async def overloaded(clock: Clock) -> Pace:
    """A pace at which connections rest."""
    turns = Pace()
    turns.wake()
    turns.charge(0.05)
    await turns.turn()
    return turns


async def test_what_rests_is_read_on_in_the_next_turn_even_if_nothing_was_said(clock: Clock) -> None:
    turns, wires = await overloaded(clock), [Wire(), Wire()]
    assert all(rested(turns, wire) for wire in wires)
    await turns.turn()
    assert not any(wire.resting for wire in wires)


async def test_a_read_that_held_no_words_does_not_wait_for_any(clock: Clock) -> None:
    turns, wire = await overloaded(clock), Wire()
    waiting = asyncio.create_task(turns.turn())
    asyncio.get_running_loop().call_soon(rested, turns, wire)
    async with asyncio.timeout(DEADLINE_S):
        await waiting
    assert not wire.resting


async def test_what_was_closed_meanwhile_is_left_alone(clock: Clock) -> None:
    turns, before, meanwhile = await overloaded(clock), Wire(), Wire()
    before.closed = True
    assert not rested(turns, before)
    assert rested(turns, meanwhile)
    meanwhile.closed = True
    await turns.turn()


async def test_nothing_rests_for_long_whatever_keeps_the_journal(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "REST_MAX_S", 0.01)
    turns, wire = await overloaded(clock), Wire()
    assert rested(turns, wire)
    read_on = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, read_on.set)
    await read_on.wait()
    assert not wire.resting


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_came_over_a_resting_connection_is_read_before_the_commit(new_loop: Any, settings: Any) -> None:
    settings.JOURNAL_SHARE, settings.JOURNAL_WINDOW_S = 1e-6, 0.02

    async def readable(said: asyncio.Task[bytes]) -> bool:
        for _ in range(10):
            await asyncio.sleep(0)
        return said.done()

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            said = asyncio.create_task(reader.read(10))
            turns = Pace()
            turns.wake()
            await turns.turn()
            turns.rest(cast(asyncio.ReadTransport, writer.transport))
            theirs.send(b"words")
            assert not await readable(said)
            await turns.turn()
            writer.close()
            assert said.done()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read from the model's server brought."""
    found: list[int] = []
    feed = Decoder.feed

    def counting(decoder: Decoder, data: bytes) -> list[Delta]:
        found.append(len(data))
        return feed(decoder, data)

    monkeypatch.setattr(Decoder, "feed", counting)
    return found


@pytest.fixture
def slow_pace(settings: Any) -> None:
    """As under a load that leaves nothing to spare."""
    settings.JOURNAL_SHARE, settings.JOURNAL_WINDOW_S = 1e-6, 0.2


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("slow_pace")
async def test_under_load_what_a_model_says_between_two_commits_is_read_at_once(
    conversation: Conversation, reads: list[int]
) -> None:
    async with ModelServer() as server, engine_with(OpenAIProvider(server.url, "")):
        reply = await sync_to_async(conversation.ask)(json.dumps({"words": 200, "delay_s": 0.002}))
        stream = await ended(stream_of(reply))
    assert stream.text == expected_text({"words": 200})
    assert len(reads) < 200 / 2  # All of them one by one only until the first wait is over.
    assert await Chunk.objects.filter(stream=stream.pk).acount() <= len(reads) + 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("slow_pace")
async def test_a_connection_that_rests_while_the_database_hangs_is_not_a_silent_model(
    conversation: Conversation, reads: list[int], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STREAM_SILENCE_S, settings.STREAM_ATTEMPTS = 1, 1
    monkeypatch.setattr(pace, "REST_MAX_S", 0.1)
    goes_on, stands_still = threading.Event(), threading.Event()
    append = StreamQuerySet.append

    def hanging(queryset: Any, entries: Any, **kwargs: Any) -> Any:
        if len(reads) > 3:
            stands_still.set()
            assert goes_on.wait(DEADLINE_S)
        return append(queryset, entries, **kwargs)

    go_by_the_thread(monkeypatch, hanging)
    gate = Gate(300)
    async with ModelServer() as server, engine_with(OpenAIProvider(server.url, "")):
        server.script(Script(words=300, delay_s=0.01, gate=gate))
        reply = await sync_to_async(conversation.ask)("Speak on.")
        assert await asyncio.to_thread(stands_still.wait, DEADLINE_S)
        await gate.passed(300)  # Three seconds: three times the silence that is allowed.
        goes_on.set()
        stream = await ended(stream_of(reply))
    assert (stream.status, stream.text) == ("done", expected_text({"words": 300}))
