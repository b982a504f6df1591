"""The dashboard shows what is going on and lately went on, of all processes, in pictures, and reads few rows for it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone

from conversations.models import Message, User
from streaming import dashboard, metrics, reporting
from streaming.models import Process, Stream
from streaming.pictures import bound, percentile, picture, time_text
from streaming.reporting import Reporter, readers
from tests.conftest import ended, engine_with, stream_of, until
from tests.scripted import ScriptedProvider

PAGE = "/admin/streaming/process/"


@pytest.fixture
def at_roots(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def past(status: str, error: str = "", took_s: float = 3, age_s: float = 60) -> Stream:
    begun = timezone.now() - timedelta(seconds=age_s)
    times = {"created_at": begun, "first_text_at": begun + timedelta(seconds=1)}
    told = {"code": error, "detail": "…"} if error else None
    finished = begun + timedelta(seconds=took_s)
    return Stream(topic="t", request={}, status=status, error=told, finished_at=finished, **times)


def process(name: str = "host:1", **figures: Any) -> Process:
    figures = {"generating": 3, "readers": 5, "topics": {"t": 5}, "cpu": 0.5, "lag_ms": 1.5} | figures
    return Process.objects.create(name=name, kind="web", seen_at=Now(), figures=figures)


@pytest.mark.django_db
def test_an_empty_site_has_a_dashboard(at_roots: Client) -> None:
    html = at_roots.get(PAGE).content.decode()
    assert "No process has reported" in html and html.count("<svg viewBox") >= 5


@pytest.mark.django_db
def test_outcomes_percentiles_and_errors_of_the_time_chosen_are_shown(at_roots: Client) -> None:
    lately = [past("done", took_s=took) for took in range(1, 101)]
    failed = [past("error", "rate_limited"), past("error", "rate_limited"), past("timeout")]
    Stream.objects.bulk_create([*lately, *failed, past("done", age_s=7200)])
    shown = at_roots.get(PAGE).context
    assert shown["pictures"][0].facts == [("done", "100"), ("stopped", "0"), ("failed", "3"), ("live", "0")]
    assert shown["pictures"][1].facts[0] == ("50%", "1.0 s")
    assert shown["pictures"][2].facts[1] == ("90%", "1.5 min")
    assert shown["errors"] == [("rate_limited", 2, 100.0), ("timeout", 1, 50.0)]
    assert at_roots.get(PAGE, {"hours": "24"}).context["pictures"][0].facts[0] == ("done", "101")
    assert at_roots.get(PAGE, {"hours": "9'"}).context["hours"] == "1"


@pytest.mark.django_db
def test_no_more_than_a_sample_of_the_newest_is_looked_at(at_roots: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "SAMPLE", 10)
    Stream.objects.bulk_create(past("done", age_s=age) for age in range(10, 30))
    response = at_roots.get(PAGE)
    assert response.context["pictures"][0].summary == "10 in all"
    assert "the newest 10" in response.content.decode()


@pytest.mark.django_db
def test_the_page_asks_the_database_a_few_questions_however_much_there_is(
    at_roots: Client, running_stream: Stream, django_assert_max_num_queries: Any
) -> None:
    process()
    with django_assert_max_num_queries(10) as queries:
        shown = at_roots.get(PAGE).context
    assert shown["now"] == {"pending": 0, "streaming": 1}
    assert shown["stored"]["bytes"] > 10_000
    assert not [query for query in queries if "count(*)" in query["sql"].lower() and "streaming_chunk" in query["sql"]]


@pytest.mark.embedded
@pytest.mark.django_db
def test_stored_rows_are_estimated(running_stream: Stream) -> None:
    assert dashboard.stored()[:2] == (1, 2)


@pytest.mark.django_db
def test_processes_are_listed_and_their_commits_added_up(at_roots: Client) -> None:
    times = [0] * (len(metrics.QUICK_S) + 1)
    process("host:1", commit_s=[7, *times[1:]])
    process("host:2", commit_s=[1, *times[1:-1], 2], readers=2)
    process("other version", commit_s=[1])
    response = at_roots.get(PAGE)
    assert response.context["pictures"][3].summary == "10 in all"
    assert response.context["readers"] == 12
    assert "host:2" in response.content.decode()


@pytest.mark.django_db
def test_who_may_see_streams_sees_the_dashboard_and_others_do_not(client: Client, alice: User) -> None:
    client.force_login(alice)
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    assert client.get(PAGE).status_code == 403
    alice.user_permissions.add(Permission.objects.get(codename="view_stream"))
    assert client.get(PAGE).status_code == 200


@pytest.mark.django_db
def test_the_page_needs_nothing_that_the_content_security_policy_refuses(at_roots: Client) -> None:
    Stream.objects.bulk_create([past("done"), past("error", "<script>alert(1)</script>")])
    process("<script>")
    html = at_roots.get(PAGE).content.decode()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*(?:\ssrc=|type=\"application/json\"))", html)


# ---------------------------------------------------------------------------------------------- reports


@pytest.mark.django_db(transaction=True)
async def test_a_process_reports_its_load_and_its_latest_commits(reply: Message) -> None:
    reporter = Reporter("host:1", "worker")
    await reporter.step()
    async with engine_with(ScriptedProvider(["Hello"])):
        await ended(stream_of(reply))
        await reporter.step()
    row = await Process.objects.aget()
    await reporter.stop()
    assert (row.name, row.kind, row.figures["readers"]) == ("host:1", "worker", 0)
    assert sum(row.figures["commit_s"]) == sum(row.figures["commit_rows"]) >= 1
    assert not await Process.objects.aexists()


@pytest.mark.django_db(transaction=True)
async def test_a_reporter_reports_at_once_and_by_itself() -> None:
    reporter = Reporter("host:1", "web")
    reporter.start()
    await until(Process.objects.aexists)
    await reporter.stop()


@pytest.mark.django_db
def test_readers_now_are_those_of_all_processes_that_are_alive() -> None:
    process("host:1")
    process("host:2", topics={"t": 2, "u": 1})
    dead = process("dead")
    Process.objects.filter(pk=dead.pk).update(seen_at=Now() - timedelta(minutes=1))
    assert readers() == {"t": 7, "u": 1}


@pytest.mark.django_db
def test_a_streams_page_and_the_list_tell_its_readers(at_roots: Client, running_stream: Stream) -> None:
    process(topics={running_stream.topic: 41})
    page = at_roots.get(f"/admin/streaming/stream/{running_stream.pk}/change/").content.decode()
    assert re.search(r"Readers:.*?<div class=\"readonly\">41</div>", page, re.DOTALL)
    assert 'class="field-readers">41<' in at_roots.get("/admin/streaming/stream/").content.decode()


@pytest.mark.django_db
def test_a_process_that_fell_silent_is_forgotten_by_the_next_report() -> None:
    dead = process("dead")
    Process.objects.filter(pk=dead.pk).update(seen_at=Now() - timedelta(minutes=1))
    reporting.report("host:1", "web", {})
    assert [row.name for row in Process.objects.all()] == ["host:1"]


# ---------------------------------------------------------------------------------------------- pictures


def test_columns_are_as_high_as_their_share_and_never_too_low_to_see() -> None:
    drawn = picture("t", "s", [{"a": 1000}, {"b": 500, "a": 500}, {"a": 1}, {}], list("wxyz"), "ab", ticks=["x"])
    heights = [[segment.height for segment in column.segments] for column in drawn.columns]
    assert heights == [[drawn.height], [drawn.height / 2, drawn.height / 2], [1.5], []]


def test_percentiles_are_of_values_or_of_buckets() -> None:
    assert [percentile(range(1, 101), part) for part in (0.5, 0.99)] == [51, 100]
    assert [bound((1, 2, 5), [10, 85, 4, 1], part) for part in (0.1, 0.5, 0.99, 1.0)] == [1, 2, 5, None]
    assert percentile([], 0.5) is None and bound((1, 2), [0, 0, 0], 0.5) is None


def test_times_are_written_in_a_unit_that_fits() -> None:
    times = [None, 0.0005, 0.25, 1.5, 90]
    assert [time_text(value) for value in times] == ["–", "0.5 ms", "250 ms", "1.5 s", "1.5 min"]
