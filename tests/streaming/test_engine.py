"""The engine with a scripted provider: claims, retries, stop, silence, recovery, hand-over, and the fence."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.utils import timezone

from conversations.models import Conversation, Message
from streaming import engine as engine_module
from streaming.completions import Delta, Finish, ProviderError
from streaming.frames import Row
from streaming.models import Chunk, Entry, Outcome, Status, Stream, StreamQuerySet
from streaming.pace import Rest
from tests.conftest import DEADLINE_S, add, ended, engine_with, new_stream, stream_of, until
from tests.scripted import ScriptedProvider, cut
from tests.streaming.conftest import go_by_the_thread

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quick(settings: Any) -> None:
    settings.STREAM_BACKOFF_S = 0.01
    settings.STREAM_SWEEP_S = 0.02


def kinds(stream: Stream) -> list[str]:
    return [row.kind for row in Chunk.objects.rows(stream.pk)]


def expire(stream: Stream) -> None:
    Stream.objects.filter(pk=stream.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


async def test_an_answer_is_stored_whole_and_its_stream_is_done(reply: Message) -> None:
    async with engine_with(ScriptedProvider(["Hel", "lo", " there", Finish("stop", {"total_tokens": 3})])):
        stream = await ended(stream_of(reply))
    assert (stream.status, stream.text, stream.usage) == ("done", "Hello there", {"total_tokens": 3})


async def test_a_prompt_wakes_the_engine_without_waiting_for_a_sweep(conversation: Conversation, settings: Any) -> None:
    settings.STREAM_SWEEP_S = 60
    async with engine_with(ScriptedProvider(["Hi"])):
        reply = await sync_to_async(conversation.ask)("Hello?")
        assert (await ended(stream_of(reply))).status == "done"


async def test_what_waits_for_room_begins_as_soon_as_there_is_some(settings: Any) -> None:
    settings.STREAM_SWEEP_S, settings.STREAM_CONCURRENCY = 60, 1
    gate = asyncio.Event()
    streams = [await sync_to_async(new_stream)() for _ in range(2)]
    async with engine_with(ScriptedProvider([gate, "first"], ["second"])) as engine:
        await engine.step()
        gate.set()
        assert [(await ended(stream.pk)).text for stream in streams] == ["first", "second"]


async def test_room_that_is_made_while_a_sweep_looks_is_not_overlooked(settings: Any, monkeypatch: Any) -> None:
    settings.STREAM_SWEEP_S, settings.STREAM_CONCURRENCY = 60, 2
    ends, ending, goes_on = asyncio.Event(), threading.Event(), threading.Event()
    append = StreamQuerySet.append

    def slow(queryset: Any, entries: Any, **kwargs: Any) -> Any:
        if entries[0].outcome:
            ending.set()
            assert goes_on.wait(DEADLINE_S)
        return append(queryset, entries, **kwargs)

    async def begun(count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(provider.asked) < count:
                await asyncio.sleep(0.01)

    go_by_the_thread(monkeypatch, slow)
    provider = ScriptedProvider([ends, "first"], [asyncio.Event()])
    await sync_to_async(new_stream)()
    async with engine_with(provider) as engine:
        await begun(1)
        for _ in range(2):
            await sync_to_async(new_stream)()
        ends.set()
        assert await asyncio.to_thread(ending.wait, DEADLINE_S)
        sweep = asyncio.create_task(engine.step())  # For one place; what it asks waits behind the commit of the end.
        await asyncio.sleep(0)
        goes_on.set()
        await sweep
        await begun(3)


async def test_a_failed_attempt_is_retried_and_its_words_are_discarded(reply: Message) -> None:
    async with engine_with(ScriptedProvider(["Wrong", cut()], ["Right"])):
        stream = await ended(stream_of(reply))
    rows = await sync_to_async(Chunk.objects.rows)(stream.pk)
    assert stream.text == "Right"
    assert [row.kind for row in rows] == ["text", "retry", "restart", "text", "end"]
    assert rows[1].data is not None and rows[1].data["attempt"] == 2 and rows[1].data["of"] == 3


async def test_a_failed_retry_costs_no_reader_the_partial_answer(reply: Message) -> None:
    async with engine_with(ScriptedProvider(["Half an ans", cut()], [cut()])):
        stream = await ended(stream_of(reply))
    assert (stream.status, stream.text) == ("error", "Half an ans")
    assert stream.error == {"code": "cut", "detail": "The model's answer broke off."}


async def test_what_may_not_be_repeated_is_not(reply: Message) -> None:
    provider = ScriptedProvider([ProviderError("unauthorized", "No.", retriable=False)])
    async with engine_with(provider):
        stream = await ended(stream_of(reply))
    assert (stream.status, len(provider.asked)) == ("error", 1)


class Breaking(ScriptedProvider):
    """Ends without having said that it finished."""

    async def stream(self, request: dict[str, Any], rest: Rest) -> AsyncGenerator[Delta | Finish, None]:
        yield Delta("text", "Half an ans")


async def test_an_answer_that_just_ends_is_never_done(reply: Message) -> None:
    async with engine_with(Breaking()):
        stream = await ended(stream_of(reply))
    assert (stream.status, stream.text) == ("error", "Half an ans")


async def test_an_unforeseen_failure_ends_the_stream_and_not_the_engine(conversation: Conversation) -> None:
    async with engine_with(ScriptedProvider([ZeroDivisionError("bug")], ["fine"])):
        first = await sync_to_async(conversation.ask)("a")
        assert (await ended(stream_of(first))).error == {
            "code": "internal",
            "detail": "Something went wrong on this server.",
        }
        second = await sync_to_async(conversation.ask)("b")
        assert (await ended(stream_of(second))).text == "fine"


async def test_silence_is_a_timeout(reply: Message, settings: Any) -> None:
    settings.STREAM_SILENCE_S, settings.STREAM_ATTEMPTS = 0.05, 1
    provider = ScriptedProvider(["so far", asyncio.Event()])
    async with engine_with(provider):
        stream = await ended(stream_of(reply))
    assert (stream.status, stream.text, provider.closed) == ("timeout", "so far", 1)


async def test_a_healthy_answer_may_take_longer_than_the_time_out(reply: Message, settings: Any) -> None:
    settings.STREAM_SILENCE_S, settings.STREAM_ATTEMPTS = 0.2, 1
    gates = [asyncio.Event() for _ in range(6)]
    steps: list[Any] = [step for gate in gates for step in (gate, "x")]
    async with engine_with(ScriptedProvider(steps)):
        for n, gate in enumerate(gates):
            asyncio.get_running_loop().call_later(0.1 * n, gate.set)
        stream = await ended(stream_of(reply))
    assert (stream.status, stream.text) == ("done", "xxxxxx")


async def test_stop_closes_the_request_and_keeps_the_text(conversation: Conversation) -> None:
    provider = ScriptedProvider(["some", " text", asyncio.Event()])
    async with engine_with(provider):
        reply = await sync_to_async(conversation.ask)("go")
        await until(lambda: sync_to_async(Chunk.objects.filter(stream=stream_of(reply)).exists)())
        assert await sync_to_async(conversation.stop)(stream_of(reply))
        stream = await ended(stream_of(reply))
    assert (stream.status, stream.text, provider.closed) == ("stopped", "some text", 1)


class BreaksWhenCancelled(ScriptedProvider):
    """Its connection fails in the very moment it is closed."""

    async def stream(self, request: dict[str, Any], rest: Rest) -> AsyncGenerator[Delta | Finish, None]:
        self.asked.append(request)
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise cut() from None
        yield Delta("text", "never")


async def test_a_stop_that_breaks_the_connection_is_a_stop_and_no_failure(reply: Message) -> None:
    provider = BreaksWhenCancelled()
    async with engine_with(provider):
        await provider.begun.wait()
        await sync_to_async(Stream.objects.filter(pk=stream_of(reply)).request_stop)()
        assert (await ended(stream_of(reply))).status == "stopped"
    assert len(provider.asked) == 1


async def test_a_time_out_of_the_providers_own_is_no_stop(reply: Message) -> None:
    async with engine_with(ScriptedProvider([TimeoutError("its own")])):
        assert (await ended(stream_of(reply))).status == "error"


async def test_an_engine_ends_in_bounded_time_while_the_database_is_away(
    reply: Message, settings: Any, monkeypatch: Any
) -> None:
    settings.STREAM_LEASE_S = 1
    gate = asyncio.Event()
    provider = ScriptedProvider([gate, "never stored", asyncio.Event()])

    def away(*_: Any, **__: Any) -> Any:
        raise OperationalError("the database is away")

    async with asyncio.timeout(5), engine_with(provider):
        await provider.begun.wait()
        go_by_the_thread(monkeypatch, away)
        gate.set()


async def test_a_stop_written_by_another_process_is_found_by_the_sweep(reply: Message) -> None:
    provider = ScriptedProvider([asyncio.Event()])
    async with engine_with(provider):
        await provider.begun.wait()
        await sync_to_async(Stream.objects.filter(pk=stream_of(reply)).request_stop)()
        assert (await ended(stream_of(reply))).status == "stopped"


async def test_a_stop_before_the_first_token_asks_no_model(reply: Message, conversation: Conversation) -> None:
    await sync_to_async(conversation.stop)(stream_of(reply))
    provider = ScriptedProvider(["never"])
    async with engine_with(provider):
        assert (await ended(stream_of(reply))).status == "stopped"
    assert provider.asked == []


async def test_what_does_not_fit_waits_and_a_waiting_one_can_be_stopped(settings: Any) -> None:
    settings.STREAM_CONCURRENCY = 1
    gate = asyncio.Event()
    first, second, third = [await sync_to_async(new_stream)(f"t{n}") for n in range(3)]
    provider = ScriptedProvider([gate, "x"])
    async with engine_with(provider):
        await provider.begun.wait()
        await sync_to_async(Stream.objects.filter(pk=third.pk).request_stop)()
        assert (await ended(third.pk)).status == "stopped"
        assert (await Stream.objects.aget(pk=second.pk)).status == Status.PENDING
        gate.set()
        assert [(await ended(s.pk)).status for s in (first, second)] == ["done", "done"]


async def test_a_stream_left_by_a_dead_process_is_begun_again(running_stream: Stream) -> None:
    await sync_to_async(expire)(running_stream)
    async with engine_with(ScriptedProvider(["Hello again"])):
        stream = await ended(running_stream.pk)
    assert (stream.status, stream.text, stream.attempt) == ("done", "Hello again", 2)
    assert await sync_to_async(kinds)(stream) == ["text", "text", "restart", "text", "end"]


async def test_a_stream_left_too_often_is_interrupted_with_its_text(running_stream: Stream) -> None:
    await Stream.objects.filter(pk=running_stream.pk).aupdate(attempt=3)
    await sync_to_async(expire)(running_stream)
    provider = ScriptedProvider(["never"])
    async with engine_with(provider):
        stream = await ended(running_stream.pk)
    assert (stream.status, stream.text, provider.asked) == ("interrupted", "Hello", [])


async def test_a_living_lease_is_left_alone(running_stream: Stream) -> None:
    async with engine_with(ScriptedProvider(["never"])) as engine:
        await engine.step()
        assert engine.running == 0


async def test_an_answer_that_ends_as_its_engine_stops_is_logged_and_counted(
    reply: Message, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    heard = asyncio.Event()
    async with engine_with(ScriptedProvider(["Hello"])) as engine:
        commit, stop = engine.journal._commit, engine.journal.stop

        async def late(entries: list[Entry]) -> set[Any]:
            lost = await commit(entries)
            if any(entry.outcome for entry in entries):
                await heard.wait()
            return lost

        async def stopping() -> None:
            heard.set()  # Not before the engine has cancelled what it cancels.
            await stop()

        monkeypatch.setattr(engine.journal, "_commit", late)
        monkeypatch.setattr(engine.journal, "stop", stopping)
        stream = await ended(stream_of(reply))
    (line,) = [record for record in caplog.records if record.message == "stream ended"]
    assert line.__dict__["stream"] == str(stream.pk)


async def test_a_sweep_that_finds_the_lease_of_an_end_just_committed_gone_takes_nothing_for_lost(
    reply: Message, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with engine_with(ScriptedProvider(["Hello"])) as engine:
        commit = engine.journal._commit

        async def swept(entries: list[Entry]) -> set[Any]:
            lost = await commit(entries)
            if any(entry.outcome for entry in entries):
                await engine.step()
            return lost

        monkeypatch.setattr(engine.journal, "_commit", swept)
        await ended(stream_of(reply))
    assert [record.message for record in caplog.records if "over or deleted" in record.message] == []
    assert len([record for record in caplog.records if record.message == "stream ended"]) == 1


async def test_a_clean_end_keeps_the_text_and_hands_the_stream_over_at_no_cost(reply: Message) -> None:
    async with engine_with(ScriptedProvider(["so far", asyncio.Event()])):
        await until(lambda: sync_to_async(Chunk.objects.filter(stream=stream_of(reply)).exists)())
    left = await Stream.objects.aget(pk=stream_of(reply))
    assert (left.status, left.lease, left.attempt) == (Status.STREAMING, None, 0)
    async with engine_with(ScriptedProvider(["whole"])):
        stream = await ended(stream_of(reply))
    assert (stream.text, stream.attempt) == ("whole", 1)


async def test_two_engines_share_streams_without_doing_one_twice() -> None:
    streams = [await sync_to_async(new_stream)(f"t{n}") for n in range(20)]
    provider = ScriptedProvider(["once"])
    async with engine_with(provider), engine_with(provider):
        texts = [(await ended(stream.pk)).text for stream in streams]
    assert texts == ["once"] * 20
    assert len(provider.asked) == 20


async def test_an_engine_that_lost_its_lease_adds_nothing_more(reply: Message) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(["old ", gate, "never seen"])
    async with engine_with(provider) as engine:
        await until(lambda: sync_to_async(Chunk.objects.filter(stream=stream_of(reply)).exists)())
        thief = await sync_to_async(steal)(stream_of(reply))
        gate.set()
        await until(lambda: sync_to_async(lambda: engine.running == 0)())
        await sync_to_async(add)(thief, 2, "new")
    rows = await sync_to_async(Chunk.objects.rows)(stream_of(reply))
    assert [row.text for row in rows] == ["old ", "new"]
    assert provider.closed == 1


def steal(pk: Any) -> Stream:
    """Claim the stream as another process would after its lease ran out."""
    Stream.objects.filter(pk=pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    stolen = Stream.objects.claim(pk, "thief", 60)
    assert stolen is not None
    return stolen


async def test_a_deleted_conversation_ends_its_generation(conversation: Conversation, reply: Message) -> None:
    provider = ScriptedProvider(["x", asyncio.Event()])
    async with engine_with(provider) as engine:
        await until(lambda: sync_to_async(Chunk.objects.filter(stream=stream_of(reply)).exists)())
        await sync_to_async(conversation.clear)()
        await until(lambda: sync_to_async(lambda: engine.running == 0)())
    assert provider.closed == 1


async def test_leases_are_renewed_while_the_model_is_silent(reply: Message, settings: Any) -> None:
    settings.STREAM_LEASE_S = 0.3
    gate = asyncio.Event()
    provider = ScriptedProvider([gate, "late"])
    async with engine_with(provider), engine_with(provider):
        asyncio.get_running_loop().call_later(1, gate.set)
        stream = await ended(stream_of(reply))
    assert (stream.text, len(provider.asked)) == ("late", 1)


def test_an_expired_holder_cannot_add_once_another_claimed(running_stream: Stream) -> None:
    thief = steal(running_stream.pk)
    assert running_stream.lease is not None
    late = Entry(running_stream.pk, running_stream.lease, (Row(3, "text", "late", None),))
    assert Stream.objects.append([late]) == {running_stream.pk}
    add(thief, 3, "new")
    assert [row.text for row in Chunk.objects.rows(thief.pk)] == ["Hel", "lo", "new"]


def test_a_commit_whose_answer_was_lost_is_not_added_twice(running_stream: Stream) -> None:
    assert running_stream.lease is not None
    outcome = Outcome("done")
    rows = (Row(2, "text", "lo", None), Row(3, "end", "", outcome.data()))
    entry = Entry(running_stream.pk, running_stream.lease, rows, outcome=outcome)
    assert Stream.objects.append([entry], again=True) == set()
    assert Stream.objects.get(pk=running_stream.pk).text == "Hello"


def test_waking_without_an_engine_does_nothing() -> None:
    engine_module.wake()
