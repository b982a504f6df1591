"""The scaled-out column's engine: streams come as jobs, workers that end or lose their queue lose no answer."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import timedelta
from typing import Any

import attr
import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from conversations.models import Conversation, Message
from streaming.background import DatabaseThread
from streaming.models import Stream
from tests.conftest import DEADLINE_S, ended, new_stream, stream_of, until, worker_with
from tests.scripted import ScriptedProvider

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.scaled]


@pytest.fixture(autouse=True)
def _no_jobs_yet(settings: Any, db: None) -> None:
    """Flushing leaves Procrastinate's tables alone: Django does not manage them."""
    settings.STREAM_ENGINE = "worker"
    settings.STREAM_SWEEP_S = 0.02
    execute("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")


def execute(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def jobs() -> list[str]:
    """The streams that jobs wait for."""
    wanted = "status = 'todo' AND task_name = 'streaming.generate'"
    return [pk for (pk,) in execute(f"SELECT args->>'stream' FROM procrastinate_jobs WHERE {wanted}")]


def test_a_prompt_and_its_job_are_stored_together_or_not_at_all(conversation: Conversation) -> None:
    with transaction.atomic():
        conversation.ask("Hello?")
        transaction.set_rollback(True)
    assert jobs() == []
    reply = conversation.ask("Hello?")
    assert jobs() == [str(reply.stream_id)]


@pytest.mark.parametrize(("installed", "loop"), [(True, "uvloop"), (False, "asyncio.unix_events")])
def test_a_worker_runs_on_uvloop_where_it_is_installed(
    installed: bool, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    async def main() -> None:
        found.append(type(asyncio.get_running_loop()).__module__)

    monkeypatch.setattr("streaming.worker.main", main)
    if not installed:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    call_command("worker")
    assert found == [loop]


async def test_a_worker_generates_what_a_job_names(reply: Message) -> None:
    async with worker_with(ScriptedProvider(["Hel", "lo"])):
        stream = await ended(stream_of(reply))
    assert (stream.status, stream.text) == ("done", "Hello")


async def test_a_worker_that_ends_hands_its_streams_to_another_at_once(reply: Message, settings: Any) -> None:
    settings.STREAM_LEASE_S = 600
    async with worker_with(ScriptedProvider(["Hel", asyncio.Event()])) as first:
        await until(sync_to_async(lambda: Stream.objects.get().worker == first.worker))
    assert await sync_to_async(jobs)() == [str(reply.stream_id)]
    async with worker_with(ScriptedProvider(["Hello"])):
        stream = await ended(stream_of(reply))
    assert (stream.text, stream.attempt) == ("Hello", 1)


async def test_a_job_too_many_changes_nothing(reply: Message) -> None:
    from streaming import tasks

    provider = ScriptedProvider(["Hello"])
    async with worker_with(provider) as worker:
        await ended(stream_of(reply))
        await sync_to_async(tasks.defer)([stream_of(reply)])
        await until(sync_to_async(lambda: not jobs()))
        await worker.generate(stream_of(reply))
    assert len(provider.asked) == 1


async def test_a_stream_whose_job_is_lost_is_found_by_the_sweep(reply: Message) -> None:
    await sync_to_async(execute)("TRUNCATE procrastinate_jobs CASCADE")
    async with worker_with(ScriptedProvider(["Hello"])):
        assert (await ended(stream_of(reply))).text == "Hello"


def test_the_sweep_queues_what_nobody_has_and_nothing_twice(reply: Message) -> None:
    from streaming import tasks

    held, abandoned = new_stream(), new_stream()
    Stream.objects.claim(held.pk, "alive", 60)
    Stream.objects.claim(abandoned.pk, "dead", -1)
    tasks.defer_abandoned()
    tasks.defer_abandoned()
    assert sorted(jobs()) == sorted([str(reply.stream_id), str(abandoned.pk)])


async def test_a_stop_ends_a_stream_that_waits_for_a_place(conversation: Conversation, settings: Any) -> None:
    settings.STREAM_CONCURRENCY = 1
    async with worker_with(ScriptedProvider(["Hel", asyncio.Event()])):
        await sync_to_async(conversation.ask)("First?")
        await until(sync_to_async(lambda: Stream.objects.get().worker != ""))
        waiting = await sync_to_async(new_stream)()
        await sync_to_async(Stream.objects.filter(pk=waiting.pk).request_stop)()
        assert (await ended(waiting.pk)).status == "stopped"


async def test_a_worker_that_loses_its_queue_keeps_its_answers_and_takes_jobs_again(
    reply: Message, conversation: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streaming import worker as module

    monkeypatch.setattr(module, "RESTART_S", 0.05)
    gate = asyncio.Event()
    async with worker_with(ScriptedProvider(["Hel", gate, "lo"], ["Again"])):
        await until(sync_to_async(lambda: Stream.objects.get().worker != ""))
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%%procrastinate%%'"
        await sync_to_async(execute)(f"{cut} AND pid <> pg_backend_pid() AND datname = current_database()")
        gate.set()
        assert (await ended(stream_of(reply))).text == "Hello"
        second = await sync_to_async(conversation.ask)("And now?")
        assert (await ended(stream_of(second))).text == "Again"


async def test_a_worker_whose_periodic_tasks_lost_their_connection_goes_on_with_them(
    reply: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    from procrastinate.contrib.django import app

    from streaming import worker as module

    monkeypatch.setattr(module, "RESTART_S", 0.05)
    periodic = app.periodic_registry.periodic_tasks
    each_second = {key: attr.evolve(task, cron="* * * * * *") for key, task in periodic.items()}
    monkeypatch.setattr(app.periodic_registry, "periodic_tasks", each_second)
    others = DatabaseThread("others")
    async with worker_with(ScriptedProvider(["Hello"])):
        await ended(stream_of(reply))
        await others.run(execute, "SELECT 1")  # So that the pool does not give it the one that is to be cut.
        # Procrastinate's Django connector speaks in the thread that this speaks in, and on its connection.
        await until(sync_to_async(lambda: connection.connection))
        ((lost,),) = await sync_to_async(execute)("SELECT pg_backend_pid()")
        cut = f"SELECT extract(epoch FROM now()) FROM pg_terminate_backend({lost})"
        ((cut_at,),) = await others.run(execute, cut)
        later = f"SELECT 1 FROM procrastinate_periodic_defers WHERE defer_timestamp > {cut_at} + 1"
        await until(lambda: others.run(lambda: bool(execute(later))))
    await others.close()


async def test_a_job_that_a_hung_worker_was_taking_is_taken_by_another(
    reply: Message, conversation: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streaming import worker as module

    monkeypatch.setattr(module, "POLL_S", 0.1)
    async with worker_with(ScriptedProvider(["Hello"], ["Again"])):
        await ended(stream_of(reply))
        second = await sync_to_async(new_stream)()
        # The transaction in which it was taken is rolled back: it waits again, and no notification says so.
        await sync_to_async(execute)(
            "SET session_replication_role = replica; "
            "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, args) VALUES "
            f"('answers', 'streaming.generate', '{second.pk}', '{{\"stream\": \"{second.pk}\"}}'); "
            "RESET session_replication_role"
        )
        async with asyncio.timeout(4.5):  # Less than the 5 s after which Procrastinate looks by itself.
            assert (await ended(second.pk)).text == "Again"


async def test_a_worker_whose_queue_ended_comes_back_to_it(reply: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    from streaming import worker as module

    take, ends = module._take_jobs_once, [OSError("The queue is away."), None]

    async def ending(*args: Any) -> None:
        if ends:
            if (error := ends.pop(0)) is not None:
                raise error
            return
        await take(*args)

    monkeypatch.setattr(module, "RESTART_S", 0.01)
    monkeypatch.setattr(module, "_take_jobs_once", ending)
    async with worker_with(ScriptedProvider(["Hello"])):
        assert (await ended(stream_of(reply))).text == "Hello"


async def test_a_worker_that_stops_while_it_claims_hands_that_back_too(reply: Message, monkeypatch: Any) -> None:
    from streaming import engine as module

    claimed, gate = threading.Event(), threading.Event()
    claim = module.claim

    def slow(*args: Any) -> Any:
        found = claim(*args)
        claimed.set()
        assert gate.wait(DEADLINE_S)
        return found

    monkeypatch.setattr("streaming.worker.claim", slow)
    async with worker_with(ScriptedProvider(["Hel", asyncio.Event()])):
        await asyncio.to_thread(claimed.wait, DEADLINE_S)
        asyncio.get_running_loop().call_later(0.1, gate.set)
    stream = await Stream.objects.aget()
    assert (stream.lease, stream.attempt, await sync_to_async(jobs)()) == (None, 0, [str(stream.pk)])


async def test_a_worker_whose_queue_is_away_still_finds_what_another_one_left(
    reply: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streaming import tasks

    async def away(*args: Any) -> None:
        raise OSError("The queue is away.")

    monkeypatch.setattr("streaming.worker._take_jobs_once", away)
    monkeypatch.setattr(tasks, "SWEEP_S", 0.05)
    left = await sync_to_async(new_stream)()
    async with worker_with(ScriptedProvider()):
        await sync_to_async(Stream.objects.claim)(left.pk, "dead", -1)
        await until(sync_to_async(lambda: str(left.pk) in jobs()))


async def test_a_full_worker_still_finds_what_another_one_left(conversation: Conversation, settings: Any) -> None:
    settings.STREAM_CONCURRENCY = 1
    async with worker_with(ScriptedProvider(["Hel", asyncio.Event()])):
        await sync_to_async(conversation.ask)("First?")
        await until(sync_to_async(lambda: Stream.objects.get().worker != ""))
        left = await sync_to_async(new_stream)()
        await sync_to_async(Stream.objects.claim)(left.pk, "dead", -1)
        await until(sync_to_async(lambda: str(left.pk) in jobs()))


async def test_jobs_of_workers_that_died_are_cleared_away(reply: Message) -> None:
    def die() -> None:
        execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')")
        execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM procrastinate_workers)")

    await sync_to_async(die)()
    async with worker_with(ScriptedProvider(["Hello"])):
        await ended(stream_of(reply))
        rows = "SELECT 1 FROM procrastinate_jobs WHERE task_name = 'streaming.generate'"
        await until(sync_to_async(lambda: not execute(rows)))


async def test_a_worker_does_the_chores_that_its_queue_tells_it(conversation: Conversation) -> None:
    from streaming import tasks

    await Conversation.objects.aupdate(deleted_at=timezone.now() - timedelta(days=1))
    async with worker_with(ScriptedProvider(["Hello"])):
        await tasks.look_after.configure(queue=tasks.UPKEEP).defer_async(timestamp=0)
        await until(sync_to_async(lambda: not Conversation.objects.exists()))


async def test_chores_that_a_worker_died_at_are_done_by_another(conversation: Conversation) -> None:
    from streaming import tasks

    def die() -> None:
        execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')")
        execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM procrastinate_workers)")

    await Conversation.objects.aupdate(deleted_at=timezone.now() - timedelta(days=1))
    await tasks.look_after.configure(queue=tasks.UPKEEP).defer_async(timestamp=0)
    await sync_to_async(die)()
    async with worker_with(ScriptedProvider(["Hello"])):
        await until(sync_to_async(lambda: not Conversation.objects.exists()))


async def test_a_sweep_that_hangs_keeps_no_worker_from_ending(
    reply: Message, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    from streaming import background, tasks

    hangs, gate, went_on = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        gate.wait(DEADLINE_S)
        went_on.set()

    settings.STREAM_LEASE_S = 600
    monkeypatch.setattr(background, "CLOSE_S", 0.1)
    monkeypatch.setattr(tasks, "SWEEP_S", 0)
    monkeypatch.setattr(tasks, "defer_abandoned", hang)
    async with worker_with(ScriptedProvider(["Hel", asyncio.Event()])):
        await until(sync_to_async(lambda: Stream.objects.get().worker != ""))
        assert await asyncio.to_thread(hangs.wait, DEADLINE_S)
    assert not went_on.is_set()
    stream = await Stream.objects.aget()
    assert (stream.lease, stream.status) == (None, "streaming")
    gate.set()
    await until(lambda: asyncio.to_thread(lambda: all(each.name != "sweep" for each in threading.enumerate())))


async def test_a_job_whose_conversation_was_deleted_ends_and_is_gone(reply: Message) -> None:
    await sync_to_async(reply.conversation.remove)()
    assert str(reply.stream_id) in await sync_to_async(jobs)()
    provider = ScriptedProvider(["Hello"])
    async with worker_with(provider):
        await until(sync_to_async(lambda: str(reply.stream_id) not in jobs()))
    assert provider.asked == []
