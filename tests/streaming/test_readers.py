"""Promise 2 at its heart: whatever happens to the messages, every reader's text is the database's text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.db import connection
from django.db.models.functions import Now
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming import tail as tail_module
from streaming.background import DatabaseThread
from streaming.frames import FRAME_CHARS, ROW_CHARS, Piece, Reading, Row, fold
from streaming.hub import Hub, get_hub
from streaming.layers import LocalChannelLayer, group_send_all
from streaming.messages import rows_message, understood
from streaming.models import Chunk, Entry, Outcome, Stream, new_id
from streaming.reader import Gone, Opened, Reader, standings
from streaming.tail import Form, Push, Tail, Write
from tests.conftest import DEADLINE_S, add, new_stream
from tests.follower import Follower

pytestmark = pytest.mark.django_db(transaction=True)

KINDS = st.sampled_from(["text", "text", "text", "reasoning", "restart", "retry"])
FATES = st.sampled_from(["deliver", "deliver", "drop", "twice", "late"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.lists(st.tuples(KINDS, st.text(max_size=8)), min_size=1, max_size=4), FATES),
        st.tuples(st.just("deliver late"), st.randoms(use_true_random=False)),
        st.tuples(st.just("attach"), st.integers(0, 30)),
        st.tuples(st.just("reattach"), st.integers(0, 5)),
        st.tuples(st.just("pull"), st.integers(0, 5), st.integers(1, 3)),
        st.tuples(st.just("sit down"), st.integers(0, 30)),
        st.tuples(st.just("doze off or wake up"), st.integers(0, 5)),
        st.tuples(st.just("tick")),
    ),
    max_size=25,
)


@pytest.fixture(autouse=True)
def two_are_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "CROWD", 2)


def as_it_is(item: Piece | Reading) -> Piece | Reading:
    return item


def words(item: Piece | Reading) -> Piece | None:
    return item if isinstance(item, Piece) else None


class Seat:
    """A reader on a server that can be written to at once, with a client that is awake or takes nothing in."""

    def __init__(self) -> None:
        self.pushed: list[int] = []
        self.pushed_together: list[int] = []
        self.repeated: list[int] = []
        self.readings: list[tuple[str, int]] = []
        self.awake = asyncio.Event()
        self.awake.set()

    def sit(self, reader: Reader, follower: Follower) -> None:
        self.reader = reader
        self.follower = follower
        self.task = asyncio.create_task(self.forward())

    def push(self, item: Piece | Reading) -> bool:
        if self.awake.is_set():
            if isinstance(item, Piece):
                self.pushed.append(item.seq)
                self.show(item)
            else:
                self.readings.append(("pushed", item.progress["chunks"]))
        return self.awake.is_set()

    async def forward(self) -> None:
        async for item in self.reader.items():
            await self.awake.wait()
            if isinstance(item, Piece):
                self.show(item)
            elif isinstance(item, Reading):
                self.readings.append(("yielded", item.progress["chunks"]))

    @property
    def waits(self) -> bool:
        """Whether its reader has taken all there is, and was not woken since."""
        waiting = self.reader._waiting
        return waiting is not None and not waiting.done()

    def show(self, piece: Piece) -> None:
        for text in piece.native:
            try:
                self.follower.apply(json.loads(text))
            except AssertionError:
                self.repeated.append(piece.seq)
                raise

    @property
    def text(self) -> str:
        return "".join(shown.text for shown in self.follower.streams.values())

    async def shows(self, text: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.text != text:
                await asyncio.sleep(0.001)

    async def leave(self) -> None:
        """Fails if anything came twice, or if the task did."""
        self.task.cancel()
        (how,) = await asyncio.gather(self.task, return_exceptions=True)
        self.reader.leave()
        assert isinstance(how, asyncio.CancelledError) and not self.repeated


def together(pushes: Sequence[Any]) -> Write:
    """What pushes to all of these seats, or to none."""

    def push(item: Piece | Reading) -> bool:
        awake = all(push.__self__.awake.is_set() for push in pushes)
        for push in pushes if awake else ():
            push(item)
            if isinstance(item, Piece):
                push.__self__.pushed_together.append(item.seq)
        return awake

    return push


class Theatre:
    """One stream, its writer, a hub whose messages meet their fates, and readers that come and go."""

    def __init__(self, hub: Hub, stream: Stream) -> None:
        self.seats: list[Seat] = []
        self.hub = hub
        self.stream = stream
        self.seq = 0
        self.late: list[dict[str, Any]] = []
        self.readers: list[tuple[Reader, Follower]] = []

    async def commit(self, said: list[tuple[str, str]], fate: str, outcome: Outcome | None = None) -> None:
        rows = tuple(
            Row(n, kind, text.replace("\0", "") if kind in ("text", "reasoning") else "", self.data(kind, outcome))
            for n, (kind, text) in enumerate(said, self.seq + 1)
        )
        assert self.stream.lease is not None
        entry = Entry(self.stream.pk, self.stream.lease, rows, outcome=outcome)
        assert await sync_to_async(Stream.objects.append)([entry]) == set()
        message = self.message(rows)
        self.seq = rows[-1].seq
        for _ in range({"deliver": 1, "twice": 2}.get(fate, 0)):
            await self.deliver(message)
        if fate == "late":
            self.late.append(message)

    def data(self, kind: str, outcome: Outcome | None) -> dict[str, Any] | None:
        if kind == "end":
            assert outcome is not None
            return outcome.data()
        return {"attempt": 2} if kind in ("retry", "restart") else None

    def message(self, rows: tuple[Row, ...]) -> dict[str, Any]:
        return {
            "type": "stream.rows",
            "topic": self.stream.topic,
            "stream": str(self.stream.pk),
            "after": self.seq,
            "rows": [list(row) for row in rows],
            "progress": None,
        }

    def message_at(self, seq: int, text: str) -> dict[str, Any]:
        return self.message((Row(seq, "text", text, None),)) | {"after": seq - 1}

    async def deliver(self, *messages: dict[str, Any]) -> None:
        layer = get_channel_layer()
        assert layer is not None
        await group_send_all(layer, [(self.stream.topic, message) for message in messages])
        for _ in range(3):
            await asyncio.sleep(0)

    async def attach(self, after: int, follower: Follower | None = None, **options: Any) -> None:
        pk = str(self.stream.pk)
        if follower is None:
            follower = Follower()
            rows = await sync_to_async(Chunk.objects.rows)(self.stream.pk)
            follower.begin(pk, fold(row for row in rows if row.seq <= after))
        reader = await Reader(self.stream.topic, hub=self.hub, **options).__aenter__()
        await reader.attach(follower.positions)
        self.readers.append((reader, follower))

    async def sit_down(
        self, after: int, push: Callable[[Piece | Reading], bool] | None = None, form: Form = as_it_is
    ) -> Seat:
        seat = Seat()
        await self.attach(after, push=Push(form, push) if push else Push(form, seat.push, together))
        seat.sit(*self.readers.pop())
        self.seats.append(seat)
        return seat

    async def watch_to_the_end(self, seat: Seat) -> None:
        seat.awake.set()
        async with asyncio.timeout(DEADLINE_S):
            while not seat.follower.done(str(self.stream.pk)):
                await self.hub.tick()
        await seat.leave()

    async def pull(self, reader: Reader, follower: Follower, count: int, patience_s: float = 0.5) -> None:
        """Take up to `count` items, as long as the next comes within `patience_s`."""
        for _ in range(count):
            try:
                async with asyncio.timeout(patience_s):
                    item = await reader.next()
            except TimeoutError:
                return
            if isinstance(item, Piece):
                for text in item.native:
                    follower.apply(json.loads(text))

    async def play(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("commit", said, fate):
                await self.commit(said, fate)
            case ("deliver late", random):
                random.shuffle(self.late)
                await self.deliver(*self.late)
                self.late.clear()
            case ("attach", after):
                await self.attach(after)
            case ("reattach", which) if self.readers:
                reader, follower = self.readers.pop(which % len(self.readers))
                await reader.__aexit__(None, None, None)
                await self.attach(0, follower)
            case ("pull", which, count) if self.readers:
                reader, follower = self.readers[which % len(self.readers)]
                await self.pull(reader, follower, count, patience_s=0.005)
            case ("sit down", after):
                await self.sit_down(after)
            case ("doze off or wake up", which) if self.seats:
                awake = self.seats[which % len(self.seats)].awake
                awake.clear() if awake.is_set() else awake.set()
            case ("tick",):
                await self.hub.tick()

    async def to_the_end(self, reader: Reader, follower: Follower, stream: str = "") -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not follower.done(stream or str(self.stream.pk)):
                await self.hub.tick()
                await self.pull(reader, follower, 100, patience_s=0.02)


async def run(steps: list[tuple[Any, ...]], last_fate: str) -> None:
    layer = get_channel_layer()
    assert layer is not None
    hub = Hub(layer)
    stream = await sync_to_async(lambda: Stream.objects.claim(new_stream().pk, "w", 600))()
    assert stream is not None
    theatre = Theatre(hub, stream)
    try:
        for step in steps:
            await theatre.play(step)
        await theatre.attach(0)
        await theatre.sit_down(0)
        await theatre.commit([("text", "fin"), ("end", "")], last_fate, Outcome("done"))
        for reader, follower in theatre.readers:
            await theatre.to_the_end(reader, follower)
        for seat in theatre.seats:
            await theatre.watch_to_the_end(seat)
        stored = await Stream.objects.aget(pk=stream.pk)
        for follower in [follower for _, follower in theatre.readers] + [seat.follower for seat in theatre.seats]:
            shown = follower.streams[str(stream.pk)]
            assert (shown.text, shown.reasoning, shown.status) == (stored.text, stored.reasoning, "done")
    finally:
        await hub.stop()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, last_fate=FATES, recent_bytes=st.sampled_from([150, 100_000]))
@override_settings(HUB_TICK_S=3600, READER_PAGE_BYTES=250)
def test_whatever_happens_to_the_messages_every_reader_has_the_text_of_the_database(
    steps: list[tuple[Any, ...]], last_fate: str, recent_bytes: int
) -> None:
    with override_settings(HUB_RECENT_BYTES=recent_bytes), patch.object(tail_module, "SINGLE_PIECES", 2):
        asyncio.run(run(steps, last_fate))


@pytest.fixture
async def hub() -> Any:
    layer = get_channel_layer()
    assert layer is not None
    hub = Hub(layer)
    yield hub
    await hub.stop()


@pytest.fixture
async def theatre(hub: Hub, settings: Any) -> Theatre:
    settings.HUB_TICK_S = 3600
    stream = await sync_to_async(lambda: Stream.objects.claim(new_stream().pk, "w", 600))()
    assert stream is not None
    return Theatre(hub, stream)


async def within(get: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(DEADLINE_S):
        return await get()


async def test_a_reader_that_missed_a_frame_gets_it_from_the_database(theatre: Theatre) -> None:
    await theatre.attach(0)
    await theatre.commit([("text", "a")], "deliver")
    await theatre.commit([("text", "b")], "drop")
    await theatre.commit([("text", "c"), ("end", "")], "deliver", Outcome("done"))
    reader, follower = theatre.readers[0]
    await theatre.to_the_end(reader, follower)
    assert follower.streams[str(theatre.stream.pk)].text == "abc"


async def test_an_end_that_one_reader_found_in_the_database_reaches_the_others(theatre: Theatre) -> None:
    await theatre.attach(0)
    await theatre.pull(*theatre.readers[0], 1, 0.02)
    await theatre.commit([("text", "a"), ("end", "")], "drop", Outcome("done"))
    await theatre.attach(0)
    for reader, follower in reversed(theatre.readers):
        await theatre.to_the_end(reader, follower)
    assert [follower.streams[str(theatre.stream.pk)].text for _, follower in theatre.readers] == ["a", "a"]


async def test_a_reader_that_waits_gets_what_the_hub_hears_before_the_loop_goes_on(theatre: Theatre) -> None:
    seat = await theatre.sit_down(0)
    await theatre.commit([("text", "a")], "deliver")
    await seat.shows("a")
    theatre.hub._take(theatre.message_at(2, "b"))
    assert (seat.text, seat.pushed[-1:]) == ("ab", [2])
    await seat.leave()


@pytest.mark.scaled
async def test_messages_that_came_together_reach_a_reader_as_one(theatre: Theatre) -> None:
    seat = await theatre.sit_down(0)
    await theatre.commit([("text", "a")], "deliver")
    await seat.shows("a")
    seat.pushed.clear()
    speed = {"chunks": 4, "chars": 4, "elapsed_ms": 1000, "chars_per_s": 4}
    messages = [theatre.message_at(seq, letter) for seq, letter in enumerate("bcdefghij", 2)]
    messages[4]["progress"] = speed
    await theatre.deliver(*messages)
    await seat.shows("abcdefghij")
    assert len(seat.pushed) <= 2  # Redis may have told the first of them apart.
    assert theatre.hub._feeds[theatre.stream.topic].tail(str(theatre.stream.pk)).progress == Reading(
        str(theatre.stream.pk), speed
    )
    await seat.leave()


async def test_what_comes_together_is_not_told_at_a_greater_length_than_a_reader_that_is_slow_can_bear() -> None:
    rows = [(Row(seq, "text", "x" * ROW_CHARS, None),) for seq in range(1, 21)]
    told = understood(rows_message("topic", "stream", said[0].seq - 1, said) for said in rows)
    assert [row for one in told for row in one.rows] == [row for said in rows for row in said]
    assert max(one.chars for one in told) <= FRAME_CHARS + ROW_CHARS and len(told) < len(rows)


async def test_a_message_that_was_lost_among_others_is_made_up_for(theatre: Theatre) -> None:
    seat = await theatre.sit_down(0)
    for letter in "abcd":
        await theatre.commit([("text", letter)], "drop")
    await theatre.deliver(*(theatre.message_at(seq, "abcd"[seq - 1]) for seq in (1, 2, 4, 4, 2)))
    await seat.shows("abcd")
    await seat.leave()


async def test_a_message_that_is_not_understood_keeps_nobody_from_the_others(
    theatre: Theatre, caplog: pytest.LogCaptureFixture
) -> None:
    seat = await theatre.sit_down(0)
    await theatre.commit([("text", "a")], "deliver")
    await seat.shows("a")
    newer = theatre.message_at(3, "c") | {"rows": [[3, "of a version to come"]]}
    stranger = {"type": "of another kind"}
    await theatre.deliver(theatre.message_at(2, "b"), newer, stranger, theatre.message_at(3, "c"))
    await seat.shows("abc")
    await seat.leave()
    assert "was not understood" in caplog.text


async def test_a_push_that_fails_keeps_nothing_from_anybody(theatre: Theatre, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Piece | Reading) -> bool:
        raise AttributeError("a server that has changed")

    seats = [await theatre.sit_down(0, fail), await theatre.sit_down(0), await theatre.sit_down(0, fail)]
    for n, letter in enumerate("abc", 1):
        await theatre.commit([("text", letter)], "deliver")
        for seat in seats:
            await seat.shows("abc"[:n])
    assert sum("a push of" in message for message in caplog.messages) == 2
    for seat in seats:
        await seat.leave()


async def test_those_who_stand_are_written_to_together_and_nobody_else_is(theatre: Theatre) -> None:
    async def say(text: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not all(seat.waits for seat in theatre.seats):
                await asyncio.sleep(0.001)
        await theatre.commit([("text", text)], "deliver")
        for seat in theatre.seats:
            await seat.shows(said[: theatre.seq])

    said = "abcdef"
    first, last = await theatre.sit_down(0), await theatre.sit_down(0)
    await say("a")
    await say("b")
    third = await theatre.sit_down(0)
    await say("c")
    await say("d")
    assert third.pushed_together[-2:] == first.pushed_together[-2:] == [3, 4]
    theatre.seats.remove(first)
    await first.leave()
    await say("e")
    assert (third.pushed_together[-1], first.text) == (5, "abcd")
    theatre.seats.remove(third)
    await third.leave()
    await say("f")  # One is no crowd.
    assert (last.pushed[-1], last.pushed_together[-1]) == (6, 5)


async def test_a_push_to_many_that_fails_is_one_to_each(theatre: Theatre, caplog: pytest.LogCaptureFixture) -> None:
    def failing(pushes: Sequence[Any]) -> Write:
        raise RuntimeError("a server that has changed")

    seats = [Seat(), Seat()]
    for seat in seats:
        await theatre.attach(0, push=Push(as_it_is, seat.push, failing))
        seat.sit(*theatre.readers.pop())
    async with asyncio.timeout(DEADLINE_S):
        while not all(seat.waits for seat in seats):
            await asyncio.sleep(0.001)
    await theatre.commit([("text", "a")], "deliver")
    for seat in seats:
        await seat.shows("a")
        assert seat.pushed == [1]
        await seat.leave()
    assert "to many failed" in caplog.text


async def test_who_has_left_is_not_pushed_anything_though_its_task_goes_on(theatre: Theatre) -> None:
    seat = await theatre.sit_down(0)
    await theatre.commit([("text", "a")], "deliver")
    await seat.shows("a")
    seat.reader.leave()
    for _ in range(2):
        before = len(seat.pushed)
        theatre.hub._take(theatre.message_at(theatre.seq + 1, "b"))
        assert len(seat.pushed) == before
        theatre.seq += 1
        seat.reader.wake()
        async with asyncio.timeout(DEADLINE_S):
            while not seat.waits:
                await asyncio.sleep(0.001)
    await seat.leave()


async def test_what_a_gap_has_healed_is_not_done_in_the_name_of_who_told_of_it(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    about: ContextVar[str] = ContextVar("about", default="nothing")
    found: list[str] = []

    async def heal(*args: Any) -> None:
        found.append(about.get())

    monkeypatch.setattr(Hub, "_heal", heal)
    seat = await theatre.sit_down(0)
    await theatre.commit([("text", "a")], "deliver")
    await seat.shows("a")
    about.set("a request")
    theatre.hub._take(theatre.message_at(9, "b"))
    async with asyncio.timeout(DEADLINE_S):
        while not found:
            await asyncio.sleep(0)
    assert found == ["nothing"]
    await seat.leave()


@pytest.mark.embedded
async def test_a_hub_that_has_ended_listens_no_more() -> None:
    layer = LocalChannelLayer()
    hub = Hub(layer)
    await Reader("topic", hub=hub).join()
    assert layer._listeners
    await hub.stop()
    assert not layer._listeners


async def test_a_push_that_fails_for_one_stream_repeats_nothing_of_another(theatre: Theatre) -> None:
    other = await sync_to_async(lambda: Stream.objects.claim(new_stream(theatre.stream.topic).pk, "w", 600))()
    assert other is not None
    second, failing = Theatre(theatre.hub, other), set()

    def push(piece: Piece | Reading) -> bool:
        if piece.stream in failing:
            raise AttributeError("a server that has changed")
        return seat.push(piece)

    async def shown(*texts: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while {shown.text for shown in seat.follower.streams.values()} != set(texts):
                await asyncio.sleep(0.001)

    seat = await theatre.sit_down(0, push)
    for each, letter in ((theatre, "a"), (second, "1")):
        await each.commit([("text", letter)], "deliver")
    await shown("a", "1")
    failing.add(str(theatre.stream.pk))
    for each, letter in ((theatre, "b"), (second, "2")):  # Within one turn of the loop.
        theatre.hub._take(each.message_at(2, letter))
    await shown("ab", "12")
    await seat.leave()


async def test_how_a_stream_gets_on_is_told_once_to_whoever_is_told_of_it(theatre: Theatre) -> None:
    awake, dozing, deaf = [await theatre.sit_down(0, form=form) for form in (as_it_is, as_it_is, words)]
    await theatre.attach(0)
    asking = Seat()
    asking.sit(*theatre.readers.pop())
    seats = [awake, dozing, deaf, asking]
    feed = theatre.hub._feeds[theatre.stream.topic]
    tail = feed.tail(str(theatre.stream.pk))

    async def all_wait() -> None:
        async with asyncio.timeout(DEADLINE_S):
            while tail.others({awake.reader, dozing.reader, deaf.reader}) or not asking.waits:
                await asyncio.sleep(0.001)

    def tell(text: str = "", chunks: int = 0) -> None:
        message = theatre.message_at(theatre.seq + 1, text) if text else theatre.message(())
        theatre.seq += bool(text)
        theatre.hub._take(message | {"progress": {"chunks": chunks} if chunks else None})

    await theatre.commit([("text", "a")], "deliver")
    for seat in seats:
        await seat.shows("a")
    await all_wait()
    tell(chunks=1)
    assert awake.readings == dozing.readings == [("pushed", 1)]
    await all_wait()
    for text, chunks in (
        ("b", 0),
        ("", 2),
    ):  # What cannot be written is left to the reader; the rest is not told again.
        dozing.awake.clear()
        tell(text, chunks)
        dozing.awake.set()
        await all_wait()
    for seat in seats:
        seat.reader.wake()
    for _ in range(3):
        await asyncio.sleep(0)
    await all_wait()
    assert (awake.readings[-1], dozing.readings[1:]) == (("pushed", 2), [("yielded", 2)])
    assert (deaf.readings, asking.readings) == ([], [("yielded", 1), ("yielded", 2)])
    for seat in seats:
        assert seat.text == "ab"
        await seat.leave()


async def test_a_piece_that_cannot_be_formed_for_a_push_is_not_lost(theatre: Theatre) -> None:
    broken: list[Piece] = []

    def once_broken(item: Piece | Reading) -> Piece | Reading:
        if isinstance(item, Piece) and not broken:
            broken.append(item)
            raise ValueError("not to be encoded")
        return item

    seat = Seat()
    await theatre.attach(0, push=Push(once_broken, seat.push))
    seat.sit(*theatre.readers.pop())
    for n, letter in enumerate("abcd", 1):
        await theatre.commit([("text", letter)], "deliver")
        await seat.shows("abcd"[:n])
    assert broken and seat.pushed
    await seat.leave()


async def test_an_end_leaves_nobody_at_the_tail(theatre: Theatre) -> None:
    seat = await theatre.sit_down(0)
    await theatre.commit([("text", "a")], "deliver")
    tail = theatre.hub._feeds[theatre.stream.topic].tail(str(theatre.stream.pk))
    async with asyncio.timeout(DEADLINE_S):
        while tail.others({seat.reader}):
            await asyncio.sleep(0)
    await theatre.commit([("end", "")], "deliver", Outcome("done"))
    async with asyncio.timeout(DEADLINE_S):
        while not seat.follower.done(str(theatre.stream.pk)):
            await asyncio.sleep(0.001)
    assert seat.pushed[-1] == 2
    assert tail.others({seat.reader}) and not seat.reader.follow(tail)
    await seat.leave()


async def test_what_comes_while_a_client_takes_nothing_in_waits_behind_what_it_was_being_sent(theatre: Theatre) -> None:
    dozing, awake = await theatre.sit_down(0), await theatre.sit_down(0)
    await theatre.commit([("text", "a")], "deliver")
    await dozing.shows("a")
    dozing.awake.clear()
    for theatre.seq, text in enumerate("bcd", 1):  # Within one turn of the loop, as the hub takes them.
        theatre.hub._take(theatre.message_at(theatre.seq + 1, text))
    await awake.shows("abcd")
    for theatre.seq, text in enumerate("ef", 4):
        await theatre.deliver(theatre.message((Row(theatre.seq + 1, "text", text, None),)))
    await awake.shows("abcdef")
    assert dozing.text == "a"
    dozing.awake.set()
    await dozing.shows("abcdef")
    for seat in theatre.seats:
        await seat.leave()


async def test_a_client_that_acknowledges_is_not_sent_more_than_it_may_be_behind(
    theatre: Theatre, settings: Any
) -> None:
    settings.READER_UNACKED_BYTES = 0
    seat, other = await theatre.sit_down(0), await theatre.sit_down(0)
    await theatre.commit([("text", "a")], "deliver")
    await seat.shows("a")
    seat.reader.ack(str(theatre.stream.pk), 1)
    # In the same turn of the loop: its task has had no time to hear of it.
    theatre.hub._take(theatre.message_at(2, "b"))
    assert seat.text == "a"
    theatre.seq = 2
    await theatre.deliver(theatre.message_at(3, "c"))
    await other.shows("abc")
    await seat.shows("ab")
    assert seat.text == "ab"
    seat.reader.ack(str(theatre.stream.pk), 2)
    await seat.shows("abc")
    for seat in theatre.seats:
        await seat.leave()


async def test_what_comes_does_not_overtake_what_the_readers_task_still_holds(theatre: Theatre) -> None:
    seat = await theatre.sit_down(0)
    await theatre.commit([("text", "a")], "deliver")
    await seat.shows("a")
    seat.awake.clear()
    await theatre.commit([("text", "b")], "deliver")
    async with asyncio.timeout(DEADLINE_S):
        while seat.reader._cursors[str(theatre.stream.pk)].seq < 2:
            await asyncio.sleep(0)
    seat.awake.set()  # It can be written to again before its task goes on.
    theatre.hub._take(theatre.message_at(3, "c"))
    await seat.shows("abc")
    await seat.leave()


async def test_a_gap_is_read_from_the_database_once_for_all_readers(theatre: Theatre, monkeypatch: Any) -> None:
    await theatre.commit([("text", "begun ")], "drop")
    for _ in range(10):
        await theatre.attach(0)
        await theatre.pull(*theatre.readers[-1], 1, DEADLINE_S)
    reads: list[Any] = []
    page = type(Chunk.objects.all()).page

    def counted(self: Any, *args: Any) -> Any:
        reads.append(args)
        return page(self.all(), *args)

    monkeypatch.setattr(type(Chunk.objects), "page", counted, raising=False)
    await theatre.commit([("text", "a")], "drop")
    await theatre.commit([("text", "b"), ("end", "")], "deliver", Outcome("done"))
    for reader, follower in theatre.readers:
        await theatre.to_the_end(reader, follower)
    assert len(reads) == 1


async def test_a_turn_that_no_message_told_of_is_found_by_the_tick(theatre: Theatre) -> None:
    await theatre.attach(0)
    later = await sync_to_async(new_stream)(theatre.stream.topic)
    await theatre.hub.tick()
    reader, _ = theatre.readers[0]
    assert await within(reader.next) == Opened(str(later.pk))


async def answered(topic: str) -> Stream:
    """A turn that was asked for, answered and ended, and none of whose messages came through."""
    stream = await sync_to_async(lambda: Stream.objects.claim(new_stream(topic).pk, "w", 600))()
    assert stream is not None
    await Theatre(get_hub(), stream).commit([("text", "short"), ("end", "")], "drop", Outcome("done"))
    return stream


async def test_a_turn_that_was_over_before_a_tick_looked_is_told_once(theatre: Theatre) -> None:
    await theatre.attach(0)
    reader, follower = theatre.readers[0]
    missed = str((await answered(theatre.stream.topic)).pk)
    await theatre.to_the_end(reader, follower, missed)
    assert follower.streams[missed].text == "short"
    watched = theatre.hub.watched_streams
    for _ in range(3):
        await theatre.hub.tick()
    await theatre.pull(reader, follower, 100, patience_s=0.02)
    assert theatre.hub.watched_streams < watched  # Nobody reads it again.


async def test_a_turn_that_a_fresh_page_shows_is_not_told_to_it(theatre: Theatre) -> None:
    await theatre.attach(0)
    turn = await answered(theatre.stream.topic)
    await theatre.attach(0)
    await theatre.hub.tick()
    (before, _), (after, _) = theatre.readers
    assert await within(before.next) == Opened(str(turn.pk))
    assert not after.follow(Tail(str(turn.pk)))


async def test_a_turn_begun_and_finished_while_away_is_sent_to_one_who_says_since(theatre: Theatre) -> None:
    missed = await sync_to_async(new_stream)(theatre.stream.topic)
    reader = Reader(theatre.stream.topic, hub=theatre.hub)
    async with reader:
        await reader.attach({str(theatre.stream.pk): 0}, since=str(theatre.stream.pk))
        assert await within(reader.next) == Opened(str(missed.pk))


async def test_a_deleted_stream_is_said_to_be_gone(theatre: Theatre) -> None:
    await theatre.commit([("text", "a")], "drop")
    await theatre.attach(0)
    reader, follower = theatre.readers[0]
    await theatre.pull(reader, follower, 1)
    await Stream.objects.filter(pk=theatre.stream.pk).adelete()
    for _ in range(2):
        await theatre.hub.tick()
    assert await within(reader.next) == Gone(str(theatre.stream.pk))


async def test_a_named_stream_that_is_not_there_any_more_is_said_to_be_gone(theatre: Theatre) -> None:
    missing = str(new_id())
    async with Reader(theatre.stream.topic, hub=theatre.hub) as reader:
        await reader.attach({missing: 3})
        assert await within(reader.next) == Gone(missing)


async def test_the_hub_forgets_a_finished_stream_that_was_read_to_its_end(theatre: Theatre) -> None:
    await theatre.commit([("text", "a"), ("end", "")], "drop", Outcome("done"))
    async with Reader(theatre.stream.topic, hub=theatre.hub) as reader:
        await reader.attach({str(theatre.stream.pk): 0})
        await within(reader.next)
        for _ in range(2):
            await theatre.hub.tick()
        assert theatre.hub.watched_streams == 0


async def test_a_position_behind_the_end_is_taken_as_the_end(theatre: Theatre) -> None:
    await theatre.commit([("text", "a"), ("end", "")], "drop", Outcome("done"))
    reader = Reader(theatre.stream.topic, hub=theatre.hub)
    async with reader:
        await reader.attach({str(theatre.stream.pk): 10**9})
        piece = await within(reader.next)
    assert [row.kind for row in piece.rows] == ["end"]


async def test_a_reader_behind_in_what_the_hub_keeps_reads_it_there_row_for_row(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    await theatre.attach(0)
    reader, follower = theatre.readers[0]
    await theatre.commit([("text", "0 ")], "deliver")
    await theatre.pull(reader, follower, 1)
    monkeypatch.delattr(type(Chunk.objects.all()), "page")
    said = [Row(seq, "reasoning" if seq % 50 == 0 else "text", f"{seq} ", None) for seq in range(1, 302)]
    for theatre.seq in range(300):  # Each tells again of the row before it.
        rows = tuple(said[theatre.seq : theatre.seq + 2])
        await theatre.deliver(theatre.message(rows))
    shown = follower.streams[str(theatre.stream.pk)]
    while shown.seq < said[-1].seq:
        await theatre.pull(reader, follower, 1)
    assert shown.text == "0 " + fold(said[1:]).text and shown.reasoning == fold(said[1:]).reasoning


async def test_a_reader_far_behind_what_the_hub_keeps_reads_the_database(theatre: Theatre, settings: Any) -> None:
    settings.HUB_RECENT_BYTES = 150
    await theatre.attach(0)
    reader, follower = theatre.readers[0]
    await theatre.commit([("text", "a")], "deliver")
    await theatre.pull(reader, follower, 1)
    for letter in "bcdefghijk":
        await theatre.commit([("text", letter)], "deliver")
    await theatre.commit([("end", "")], "deliver", Outcome("done"))
    await theatre.to_the_end(reader, follower)
    assert follower.streams[str(theatre.stream.pk)].text == "abcdefghijk"


def piece(after: int, *texts: str) -> Piece:
    return Piece("s", after, tuple(Row(seq, "text", text, None) for seq, text in enumerate(texts, after + 1)))


def test_a_tail_takes_only_what_it_lacks_and_refuses_what_leaves_a_gap() -> None:
    tail = Tail("s", 0)
    assert tail.add(piece(0, "a", "b"))
    assert tail.add(piece(0, "a", "b"))
    assert tail.add(piece(1, "b", "c"))
    assert not tail.add(piece(5, "f"))
    assert [tail.piece_after(seq) for seq in (0, 2, 3)] == [piece(0, "a", "b"), piece(2, "c"), None]
    assert tail.last == 3


def test_a_reader_inside_a_piece_gets_the_rest_of_it() -> None:
    tail = Tail("s", 0)
    tail.add(piece(0, "a", "b", "c"))
    assert tail.piece_after(1) == piece(1, "b", "c")


async def test_a_message_that_overtakes_a_healing_repeats_nothing(theatre: Theatre, monkeypatch: Any) -> None:
    await theatre.attach(0)
    reader, follower = theatre.readers[0]
    await theatre.commit([("text", "A")], "deliver")
    await theatre.pull(reader, follower, 1)
    for message in ("B", "C"):
        await theatre.commit([("text", message)], "late")
    for _ in range(2):
        await theatre.hub.tick()  # The second finds what no message told, and begins to heal.
    await theatre.deliver(theatre.late.pop(0))
    await theatre.pull(reader, follower, 5)
    await theatre.commit([("text", "D"), ("end", "")], "deliver", Outcome("done"))
    await theatre.to_the_end(reader, follower)
    assert follower.streams[str(theatre.stream.pk)].text == "ABCD"


class Away(LocalChannelLayer):
    """A layer that fails or hangs until `back` is set."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__()
        self.hangs = hangs
        self.back = asyncio.Event()
        self.asked = 0

    async def new_channel(self, prefix: str = "specific") -> str:
        self.asked += 1
        if self.hangs:
            await self.back.wait()
        elif not self.back.is_set():
            raise ConnectionError("the layer is away")
        return await super().new_channel(prefix)


@pytest.mark.parametrize("hangs", [False, True])
async def test_readers_are_served_from_the_database_while_the_layer_is_away(
    theatre: Theatre, monkeypatch: Any, hangs: bool
) -> None:
    monkeypatch.setattr("streaming.hub.LAYER_S", 0.2)
    layer = Away(hangs=hangs)
    hub = theatre.hub = Hub(layer)
    async with asyncio.timeout(2):  # One time-out, not one each.
        await asyncio.gather(*(Reader(f"other {n}", hub=hub).__aenter__() for n in range(20)))
        await theatre.attach(0)
    await theatre.commit([("text", "a")], "drop")
    reader, follower = theatre.readers[0]
    await theatre.pull(reader, follower, 1)
    layer.back.set()
    await theatre.commit([("text", "b"), ("end", "")], "drop", Outcome("done"))
    await theatre.to_the_end(reader, follower)
    assert follower.streams[str(theatre.stream.pk)].text == "ab"
    await hub.stop()


async def test_a_join_that_is_cancelled_leaves_nothing_behind(settings: Any) -> None:
    settings.HUB_TICK_S = 3600
    hub = Hub(layer := Away(hangs=True))
    join = asyncio.create_task(Reader("topic", hub=hub).__aenter__())
    while not layer.asked:
        await asyncio.sleep(0)
    join.cancel()
    await asyncio.gather(join, return_exceptions=True)
    layer.back.set()
    await hub.tick()
    assert hub.watched == 0
    await hub.stop()


async def test_one_who_joins_while_another_subscribes_waits_for_the_subscription(settings: Any) -> None:
    settings.HUB_TICK_S = 3600
    subscribing, subscribed = asyncio.Event(), asyncio.Event()

    class Slow(LocalChannelLayer):
        channels = 0

        async def new_channel(self, prefix: str = "specific") -> str:
            self.channels += 1
            await asyncio.sleep(0)
            return await super().new_channel(prefix)

        async def group_add(self, group: str, channel: str) -> None:
            subscribing.set()
            await subscribed.wait()
            await super().group_add(group, channel)

    layer = Slow()
    hub = Hub(layer)
    joins = [asyncio.create_task(Reader("topic", hub=hub).__aenter__()) for _ in range(3)]
    await subscribing.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(join.done() for join in joins)
    subscribed.set()
    await asyncio.gather(*joins)
    await hub.stop()
    assert layer.channels == 1


async def test_two_that_join_at_the_same_moment_both_hear(theatre: Theatre) -> None:
    await asyncio.gather(*(theatre.attach(0) for _ in range(20)))
    await asyncio.gather(*(theatre.pull(*reading, 1) for reading in theatre.readers))  # From here on messages tell.
    await theatre.commit([("text", "x"), ("end", "")], "deliver", Outcome("done"))
    await asyncio.gather(*(theatre.pull(*reading, 1, DEADLINE_S) for reading in theatre.readers))
    assert [follower.streams[str(theatre.stream.pk)].text for _, follower in theatre.readers] == ["x"] * 20


async def test_a_client_that_acknowledges_is_not_sent_more_than_its_budget(theatre: Theatre, settings: Any) -> None:
    settings.READER_UNACKED_BYTES, settings.READER_PAGE_BYTES = 1000, 250
    await theatre.attach(0)
    reader, follower = theatre.readers[0]
    reader.ack(str(theatre.stream.pk), 0)
    for _ in range(20):
        await theatre.commit([("text", "x" * 100)], "deliver")
    await theatre.pull(reader, follower, 100)
    sent = len(follower.streams[str(theatre.stream.pk)].text)
    assert 500 <= sent <= 1000
    reader.ack(str(theatre.stream.pk), follower.streams[str(theatre.stream.pk)].seq)
    await theatre.pull(reader, follower, 100)
    assert len(follower.streams[str(theatre.stream.pk)].text) > sent


async def test_readers_leave_nothing_behind(theatre: Theatre) -> None:
    for _ in range(5):
        await theatre.attach(0)
    for reader, _ in theatre.readers:
        await reader.__aexit__(None, None, None)
    await theatre.hub.tick()
    assert theatre.hub.watched == 0


async def test_a_turn_asked_for_on_one_connection_is_announced_to_the_others(theatre: Theatre) -> None:
    for _ in range(2):
        await theatre.attach(0)
    (asking, _), (idle, _) = theatre.readers
    later = await sync_to_async(new_stream)(theatre.stream.topic)
    asking.follow_new(str(later.pk))
    await theatre.hub.tick()
    assert await within(idle.next) == Opened(str(later.pk))


async def test_a_tail_that_moves_on_while_a_reader_looks_is_no_deletion(
    running_stream: Stream, hub_stopped: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.HUB_TICK_S = 3600
    stream, read = str(running_stream.pk), DatabaseThread.read

    async def late(self: DatabaseThread, function: Any, *args: Any) -> Any:
        found = await read(self, function, *args)
        if getattr(function, "__name__", "") == "page":
            monkeypatch.undo()  # Row 3's message is lost, and row 4's comes before the look is over.
            for seq in (3, 4):
                await sync_to_async(add)(running_stream, seq, str(seq))
            feed = get_hub()._feeds[running_stream.topic]
            feed.tail(stream).add(Piece(stream, 3, (Row(4, "text", "4", None),)))
            feed.wake()
        return found

    async with Reader(running_stream.topic) as reader:
        await reader.attach({stream: 2})
        monkeypatch.setattr(DatabaseThread, "read", late)
        item = await asyncio.wait_for(reader.next(), DEADLINE_S)
    assert isinstance(item, Piece) and item.rows[0].seq == 3


@pytest.mark.parametrize("second", ["04.000", "04.120"])
def test_an_answer_is_no_news_to_who_knows_it_and_the_next_is_whenever_it_began(second: str) -> None:
    known, later = (new_stream(topic="t") for _ in range(2))
    Stream.objects.update(status="done", finished_at=Now())
    with connection.cursor() as cursor:
        began = "UPDATE streaming_stream SET created_at = %s WHERE id = %s"
        cursor.execute(began, [f"2026-01-01 00:00:{second}", known.pk.hex])
        cursor.execute(began, [f"2026-01-01 00:00:{second[:-1]}1", later.pk.hex])
    found = standings("t", [], known.pk, 0)
    assert [standing.stream for standing in found if standing.news] == [str(later.pk)]
