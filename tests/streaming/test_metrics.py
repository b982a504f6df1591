"""Metrics: what happens is counted once; what the database tells is read by its indexes and never breaks the rest."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from threading import Thread
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer
from django.db import OperationalError, connection
from prometheus_client import REGISTRY, generate_latest
from pytest_django import Settings

from conversations.models import Message
from streaming import feeding, hub, metrics
from streaming.journal import broadcast
from streaming.models import Outcome, Stream
from streaming.reader import Reader
from tests.conftest import add, ended, engine_with, new_stream, stream_of
from tests.ports import free_port
from tests.scripted import ScriptedProvider, cut

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("hub_stopped")]


def value(name: str, **labels: str) -> float:
    # Of this metric alone: the others may ask the database, which an async test must not.
    samples = [sample for metric in REGISTRY.restricted_registry([name]).collect() for sample in metric.samples]
    return next((sample.value for sample in samples if (sample.name, sample.labels) == (name, labels)), 0)


class Risen:
    """How far metrics rose since this was made."""

    def __init__(self, *names: str) -> None:
        self._before = {name: value(name) for name in names}

    def __call__(self) -> list[float]:
        return [value(name) - before for name, before in self._before.items()]


async def test_an_answer_is_timed_and_counted_once(reply: Message) -> None:
    times = "chatsite_first_token_seconds_count", "chatsite_stream_seconds_count"
    risen = Risen(*times, "chatsite_lease_takeovers_total")
    done = value("chatsite_streams_ended_total", status="done")
    async with engine_with(ScriptedProvider(["Hel", "lo"])):
        await ended(stream_of(reply))
    assert risen() == [1, 1, 0]
    assert value("chatsite_streams_ended_total", status="done") == done + 1


async def test_every_commit_tells_its_time_its_rows_and_the_longest_wait(reply: Message) -> None:
    times = "chatsite_commit_seconds_count", "chatsite_commit_rows_count", "chatsite_added_latency_seconds_count"
    risen, rows = Risen(*times), Risen("chatsite_commit_rows_sum")
    async with engine_with(ScriptedProvider(["Hello"])):
        stream = await ended(stream_of(reply))
    commits = risen()
    assert commits[0] == commits[1] == commits[2] >= 1
    assert rows() == [stream.seq]


def test_the_end_of_an_answer_that_a_program_writes_is_counted(running_stream: Stream) -> None:
    before = value("chatsite_streams_ended_total", status="done")
    assert running_stream.lease is not None
    feeding.add(running_stream.pk, running_stream.lease, feeding.Addition(2, outcome=Outcome("done")))
    assert value("chatsite_streams_ended_total", status="done") == before + 1


def test_a_histogram_that_sorts_late_loses_nothing_and_keeps_little() -> None:
    histogram = metrics.LateHistogram("told", "What threads tell while another asks.", buckets=(1,), registry=None)

    def tell() -> None:
        for n in range(9_000):
            histogram.observe(n % 3)

    threads = [Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        histogram.collect()
    histogram.observe(5)
    assert len(histogram._unsorted) <= metrics.MOST_UNSORTED + 1
    (found,) = histogram.collect()
    values = {sample.name: sample.value for sample in found.samples if sample.labels.get("le") != "1.0"}
    assert (values["told_bucket"], values["told_sum"]) == (36_001, 36_005)


async def test_a_failed_attempt_is_counted_by_its_reason(reply: Message, settings: Settings) -> None:
    settings.STREAM_BACKOFF_S = 0.01
    before = value("chatsite_retries_total", code="cut")
    async with engine_with(ScriptedProvider([cut()], ["Hello"])):
        await ended(stream_of(reply))
    assert value("chatsite_retries_total", code="cut") == before + 1


async def test_a_stream_that_a_dead_process_left_is_a_take_over(running_stream: Stream) -> None:
    risen = Risen("chatsite_lease_takeovers_total")
    await Stream.objects.aupdate(lease=None)
    async with engine_with(ScriptedProvider(["Hello"])):
        await ended(running_stream.pk)
    assert risen() == [1]


async def test_broadcasts_that_fail_and_those_not_tried_are_counted(
    layer: BaseChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr("streaming.journal.group_send_all", away)
    risen = Risen("chatsite_broadcast_failures_total")
    for _ in range(2):
        await broadcast(layer, [{"topic": "t"}])
    assert risen() == [2]


async def test_readers_their_catching_up_and_healed_gaps_are_counted(running_stream: Stream) -> None:
    risen = Risen("chatsite_catch_up_reads_total", "chatsite_healed_gaps_total")
    async with Reader(running_stream.topic) as reader:
        await reader.attach({})
        assert value("chatsite_readers") == 1
        assert hub.readers() == {running_stream.topic: 1}
        await first_piece(reader)
        await sync_to_async(add)(running_stream, 3, "!")
        for _ in range(2):
            await hub.get_hub().tick()
        await first_piece(reader)
    assert (risen(), value("chatsite_readers")) == ([1, 1], 0)


async def first_piece(reader: Reader) -> None:
    async with asyncio.timeout(10):
        while not hasattr(await reader.next(), "rows"):
            pass


async def test_a_process_that_writes_says_how_much(reply: Message) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(["Hel", gate])
    async with engine_with(provider):
        await provider.begun.wait()
        assert value("chatsite_generating") == 1
        gate.set()
        await ended(stream_of(reply))
    assert value("chatsite_generating") == 0


def test_the_database_tells_unfinished_streams_and_the_queue(running_stream: Stream) -> None:
    for _ in range(2):
        new_stream()
    assert value("chatsite_streams", status="pending") == 2
    assert value("chatsite_streams", status="streaming") == 1
    assert (value("chatsite_queue_depth"), value("chatsite_database_up")) == (2, 1)


@pytest.mark.parametrize("figure", [metrics.live_counts, metrics.queue_depth])
def test_figures_of_the_database_need_only_the_index_of_unfinished_streams(
    figure: Callable[[], Any], django_assert_num_queries: Any
) -> None:
    with connection.cursor() as cursor:  # A planner that may not read the table shows whether it has to.
        cursor.execute("SET enable_seqscan = off" if connection.vendor == "postgresql" else "SELECT 1")
    with django_assert_num_queries(1) as queries:
        figure()
    with connection.cursor() as cursor:
        explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
        cursor.execute(f"{explain} {queries[0]['sql']}")
        plan = str(cursor.fetchall())
    assert re.search("USING INDEX stream_(live|status)|(using|on) stream_(live|status)", plan)


def test_without_the_database_the_figures_of_the_process_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> int:
        raise OperationalError("gone")

    monkeypatch.setattr(metrics, "queue_depth", away)
    assert value("chatsite_database_up") == 0
    told = generate_latest().decode()
    assert "\nchatsite_queue_depth" not in told and "\nchatsite_readers 0.0" in told


def test_a_worker_tells_its_metrics_on_its_own_port(settings: Settings) -> None:
    settings.METRICS_PORT = free_port()
    with metrics.served():
        told = httpx.get(f"http://127.0.0.1:{settings.METRICS_PORT}/metrics").text
    assert "chatsite_generating 0.0" in told and "chatsite_database_up 1.0" in told


def test_a_port_that_is_taken_stops_no_worker(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.METRICS_PORT = free_port()
    with metrics.served(), metrics.served():
        pass
    assert "METRICS_PORT" in caplog.text
