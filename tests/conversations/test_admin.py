"""The admin: it shows the log without touching it, stops what is asked for, and stays quick with many rows."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from importlib import import_module
from typing import Any
from urllib.parse import urljoin

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from conversations.models import Conversation, Message, Token, User
from streaming import admin as stream_admin
from streaming import engine, feeding, streamadmin
from streaming.frames import Row
from streaming.models import Chunk, Entry, Stream
from streaming.recording import read
from tests.conftest import finish

pytestmark = pytest.mark.django_db
LISTS = {
    "streaming_stream": Stream,
    "streaming_chunk": Chunk,
    "conversations_conversation": Conversation,
    "conversations_message": Message,
    "conversations_token": Token,
    "conversations_user": User,
}
NAMES = pytest.mark.parametrize("name", LISTS)
roles = import_module("conversations.migrations.0007_support_role")


@pytest.fixture
def at_roots(client: Client, db: None) -> Client:
    """The browser of somebody who may do everything."""
    client.force_login(User.objects.create_superuser("root"))
    return client


def at_staffs(*permissions: str) -> Client:
    """The browser of somebody with these permissions only."""
    staff = User.objects.create_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(staff)
    return client


def listing(name: str) -> str:
    return reverse(f"admin:{name}_changelist")


def page_of(name: str, pk: Any, action: str = "change") -> str:
    return reverse(f"admin:{name}_{action}", args=[pk])


def shown_page(stream: Stream) -> str:
    """A stream's page with what people wrote."""
    return f"{page_of('streaming_stream', stream.pk)}?text=shown"


def stop(client: Client, *streams: Stream) -> Any:
    chosen = {"action": "stop", "_selected_action": [str(stream.pk) for stream in streams]}
    return client.post(listing("streaming_stream"), chosen, follow=True)


def ended_streams(count: int, topic: str = "elsewhere") -> list[Stream]:
    now = timezone.now()
    ended = {"status": "done", "finished_at": now, "first_text_at": now, "claimed_at": now, "text": "x" * 1234}
    return Stream.objects.bulk_create(Stream(topic=topic, request={"n": n}, **ended) for n in range(count))


@NAMES
def test_every_list_and_page_shows(name: str, running_stream: Stream, alices_token: str, at_roots: Client) -> None:
    assert at_roots.get(listing(name)).status_code == 200
    for row in LISTS[name]._default_manager.all():
        assert at_roots.get(page_of(name, row.pk)).status_code == 200


@NAMES
@pytest.mark.parametrize("words", ["hello", "019a0000-0000-7000-8000-000000000000", "'%_\\", "x" * 5000])
def test_every_search_answers(name: str, words: str, running_stream: Stream, at_roots: Client) -> None:
    assert at_roots.get(listing(name), {"q": words}).status_code == 200


@NAMES
def test_nobody_else_gets_in(name: str, running_stream: Stream, alice: User, client: Client) -> None:
    assert client.get(listing(name))["Location"].startswith("/admin/login/")
    client.force_login(alice)
    assert client.get(listing(name)).status_code == 302
    assert at_staffs().get(listing(name)).status_code == 403


@pytest.mark.parametrize("name", ["streaming_stream", "streaming_chunk", "conversations_message"])
def test_the_log_cannot_be_written_even_by_a_superuser(name: str, running_stream: Stream, at_roots: Client) -> None:
    row = LISTS[name]._default_manager.all()[:1].get()
    assert at_roots.get(reverse(f"admin:{name}_add")).status_code == 403
    assert at_roots.post(page_of(name, row.pk), {"text": "other"}).status_code == 403
    assert at_roots.post(page_of(name, row.pk, "delete"), {"post": "yes"}).status_code == 403
    assert "delete_selected" not in at_roots.get(listing(name)).content.decode()


# ---------------------------------------------------------------------------------------------- streams


def test_a_streams_page_shows_its_text_its_request_and_its_rows(running_stream: Stream, at_roots: Client) -> None:
    html = at_roots.get(shown_page(running_stream)).content.decode()
    assert '<pre class="log">Hello</pre>' in html and "<p>Hello</p>" in html
    assert escape('  "stream": true') in html and escape('"content": "Hello?"') in html
    assert re.search(r"<td>2</td>\s*<td>text</td>\s*<td>[\d:.]+</td>\s*<td><code>&quot;lo&quot;</code>", html)
    rows = at_roots.get(f"{listing('streaming_chunk')}?stream__id__exact={running_stream.pk}&kind=text")
    assert "elsewhere" in html and rows.context["cl"].result_count == 2


def test_model_text_is_shown_as_text(running_stream: Stream, at_roots: Client) -> None:
    evil = "<script>alert(1)</script>"
    Chunk.objects.filter(seq=1).update(text=evil)
    for page in (shown_page(running_stream), listing("streaming_chunk")):
        html = at_roots.get(page).content.decode()
        assert evil not in html and escape(evil) in html


def test_a_long_log_shows_its_end_and_a_way_to_the_rest(running_stream: Stream, at_roots: Client) -> None:
    Chunk.objects.bulk_create(Chunk(stream=running_stream, seq=seq, kind="text", text=".") for seq in range(3, 500))
    html = at_roots.get(page_of("streaming_stream", running_stream.pk)).content.decode()
    assert html.count("<code>") == streamadmin.SHOWN_CHUNKS and "<td>499</td>" in html
    assert f"?stream__id__exact={running_stream.pk}" in html


def test_timings_are_computed(running_stream: Stream, at_roots: Client) -> None:
    finish(running_stream, 3)
    start = timezone.now()
    after = [start + timedelta(seconds=s) for s in (1, 2.5, 12.5)]
    Stream.objects.update(
        created_at=start, claimed_at=after[0], first_text_at=after[1], finished_at=after[2], text="x" * 200
    )
    html = at_roots.get(listing("streaming_stream")).content.decode()
    assert dict(re.findall(r'field-(first_text|duration|speed)">([^<]*)<', html)) == {
        "first_text": "2.50 s",
        "duration": "12.50 s",
        "speed": "20",
    }
    html = at_roots.get(page_of("streaming_stream", running_stream.pk)).content.decode()
    said = re.findall(r'<label[^>]*>([^<]*):</label>\s*<div class="readonly">([^<]*)<', html)
    assert {"Queued": "1.00 s", "First text": "2.50 s", "Characters": "200"}.items() <= dict(said).items()


@pytest.mark.parametrize("by", ["id", "topic", "text"])
def test_a_stream_is_found_by_id_topic_and_words(by: str, at_roots: Client) -> None:
    wanted, _ = ended_streams(2)
    Stream.objects.filter(pk=wanted.pk).update(topic="conversation-1", text="About trout.")
    words = {"id": str(wanted.pk), "topic": "conversation-1", "text": "trout"}[by]
    found = at_roots.get(listing("streaming_stream"), {"q": words}).context["cl"].result_list
    assert [stream.pk for stream in found] == [wanted.pk]


def test_streams_are_filtered_by_status(running_stream: Stream, at_roots: Client) -> None:
    ended_streams(2)
    found = at_roots.get(listing("streaming_stream"), {"status__exact": "streaming"}).context["cl"].result_list
    assert [stream.pk for stream in found] == [running_stream.pk]


@pytest.mark.parametrize("count", [5, 45])
@pytest.mark.parametrize("name", ["streaming_stream", "streaming_chunk", "conversations_message"])
def test_a_list_takes_few_queries_whatever_its_length(
    name: str, count: int, conversation: Conversation, at_roots: Client, django_assert_max_num_queries: Any
) -> None:
    for stream in ended_streams(count, conversation.topic):
        Message.objects.create(conversation=conversation, role="assistant", stream=stream)
        Chunk.objects.create(stream=stream, seq=1, kind="text", text="x")
    with django_assert_max_num_queries(8) as queries:
        at_roots.get(listing(name))
    told = [query["sql"] for query in queries.captured_queries]
    if name == "streaming_chunk":
        # All rows come as their index has them; no other table has a say in their order.
        assert not any("streaming_chunk" in sql and "JOIN" in sql for sql in told)
    if name == "streaming_stream":
        assert not any('"request"' in sql for sql in told)
        # Chunks are looked up by their index, a row for each stream on the page, and counted or added up nowhere.
        assert ["LIMIT 1)" in sql for sql in told if "streaming_chunk" in sql] == [True]
        assert not any("COUNT" in sql and "LENGTH" in sql for sql in told)


def test_counting_ends_somewhere(at_roots: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_admin, "COUNTED_ROWS", 60)
    ended_streams(70)
    changes = at_roots.get(listing("streaming_stream")).context["cl"]
    assert (changes.result_count, len(changes.result_list)) == (60, 50)


# ---------------------------------------------------------------------------------------------- stop


def test_the_stop_action_stops_what_runs_and_says_how_many(
    running_stream: Stream, at_roots: Client, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    woken: list[None] = []
    monkeypatch.setattr(engine, "wake", lambda: woken.append(None))
    (ended,) = ended_streams(1)
    with django_capture_on_commit_callbacks(execute=True):
        html = stop(at_roots, running_stream, ended).content.decode()
    assert "Asked to stop: 1. Ended or asked before: 1." in html and woken
    stopped = Stream.objects.exclude(stop_requested_at=None).get()
    assert stopped.pk == running_stream.pk


def test_only_staff_who_may_change_streams_may_stop_them(running_stream: Stream) -> None:
    looking = at_staffs("view_stream")
    assert looking.get(listing("streaming_stream")).status_code == 200
    stop(looking, running_stream)
    assert Stream.objects.get().stop_requested_at is None
    User.objects.get(username="staff").user_permissions.add(Permission.objects.get(codename="change_stream"))
    stop(looking, running_stream)
    assert Stream.objects.get().stop_requested_at is not None


# ---------------------------------------------------------------------------------------------- people


def test_no_page_of_the_tokens_shows_a_digest(alices_token: str, at_roots: Client) -> None:
    token = Token.objects.get()
    for page in (listing("conversations_token"), page_of("conversations_token", token.pk)):
        html = at_roots.get(page).content.decode()
        assert "phone" in html and token.digest not in html and alices_token not in html


def test_a_token_can_be_revoked(alices_token: str, at_roots: Client) -> None:
    at_roots.post(page_of("conversations_token", Token.objects.get().pk, "delete"), {"post": "yes"})
    assert Token.objects.user_of(alices_token) is None


@pytest.mark.parametrize("name", ["conversations_conversation", "conversations_user"])
@pytest.mark.parametrize("way", ["page", "action"])
def test_what_is_deleted_takes_its_streams_along(
    name: str, way: str, running_stream: Stream, alice: User, alices_token: str, at_roots: Client
) -> None:
    pk = alice.pk if name == "conversations_user" else Conversation.objects.get().pk
    path, data = page_of(name, pk, "delete"), {"post": "yes"}
    if way == "action":
        path, data = listing(name), {"action": "delete_selected", "_selected_action": str(pk), "post": "yes"}
    assert at_roots.post(path, data).status_code == 302
    assert not Stream.objects.exists() and not Chunk.objects.exists() and not Conversation.objects.exists()
    assert User.objects.filter(username="alice").exists() == (name == "conversations_conversation")


@pytest.mark.parametrize("name", ["conversations_conversation", "conversations_user"])
def test_a_long_conversation_is_counted_before_it_is_deleted(
    name: str, conversation: Conversation, alice: User, at_roots: Client, django_assert_max_num_queries: Any
) -> None:
    before: Message | None = None
    chain = [Message(conversation=conversation, role="user", text="And?") for _ in range(1500)]
    for message in chain:
        message.parent, before = before, message
        message.created_at = timezone.now()
    Message.objects.bulk_create(chain)
    pk = alice.pk if name == "conversations_user" else conversation.pk
    with django_assert_max_num_queries(12):
        response = at_roots.get(page_of(name, pk, "delete"))
    assert "1500" in response.content.decode()
    assert at_roots.post(page_of(name, pk, "delete"), {"post": "yes"}).status_code == 302
    assert not Message.objects.exists()


def test_staff_who_may_not_delete_conversations_cannot(conversation: Conversation) -> None:
    staff = at_staffs("view_conversation", "change_conversation")
    assert (
        staff.post(page_of("conversations_conversation", conversation.pk, "delete"), {"post": "yes"}).status_code == 403
    )
    assert Conversation.objects.exists()


def test_a_conversation_can_be_renamed_and_keeps_its_owner(
    conversation: Conversation, bob: User, alice: User, at_roots: Client
) -> None:
    said = {"title": "Fish", "model": "", "system_prompt": "", "owner": bob.pk}
    assert at_roots.post(page_of("conversations_conversation", conversation.pk), said).status_code == 302
    conversation.refresh_from_db()
    assert (conversation.title, conversation.owner) == ("Fish", alice)


@NAMES
def test_no_page_needs_what_the_content_security_policy_refuses(
    name: str, running_stream: Stream, alices_token: str, at_roots: Client
) -> None:
    row = LISTS[name]._default_manager.all()[:1].get()
    for page in (listing(name), page_of(name, row.pk)):
        response = at_roots.get(page)
        html = response.content.decode()
        assert "default-src 'self'" in response["Content-Security-Policy"]
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*(?:\ssrc=|type=\"application/json\"))", html)


def test_a_running_streams_page_has_a_button_that_stops_it(at_roots: Client, running_stream: Stream) -> None:
    url = f"/admin/streaming/stream/{running_stream.pk}/change/"
    assert "Stop this answer" in at_roots.get(url).content.decode()
    finish(running_stream, 3)
    assert "Stop this answer" not in at_roots.get(url).content.decode()


# ---------------------------------------------------------------------------------------------- what support may


def support() -> Client:
    """The browser of somebody in the role that the migration makes."""
    roles.make(apps, None)
    client = at_staffs()
    User.objects.get(username="staff").groups.set(Group.objects.filter(name=roles.SUPPORT))
    return client


def test_support_sees_how_a_stream_does_and_nothing_that_was_said(running_stream: Stream) -> None:
    client = support()
    for page in (listing("streaming_stream"), shown_page(running_stream), listing("streaming_chunk")):
        html = client.get(page).content.decode()
        assert "elsewhere" in html or "[3 characters]" in html
        assert "Hel" not in html.replace("Help", "") and "Show personal text" not in html
    chunk = Chunk.objects.get(stream=running_stream, seq=1)
    assert "[3 characters]" in client.get(page_of("streaming_chunk", chunk.pk)).content.decode()
    html = client.get(page_of("streaming_stream", running_stream.pk)).content.decode()
    assert escape('"content": "[6 characters]"') in html and "<svg" in html


@pytest.mark.parametrize("way", ["search", "export", "retry", "stop"])
def test_support_neither_reads_nor_changes_by_another_way(way: str, running_stream: Stream) -> None:
    client = support()
    finish(running_stream, 3)
    if way == "search":
        found = client.get(listing("streaming_stream"), {"q": "Hello"})
        assert found.status_code == 200 and not found.context["cl"].result_list
    elif way == "export":
        assert client.get(page_of("streaming_stream", running_stream.pk, "export")).status_code == 403
    elif way == "retry":
        assert client.post(page_of("streaming_stream", running_stream.pk, "retry")).status_code == 403
    else:
        Stream.objects.update(status="streaming", finished_at=None)
        assert "Stop this answer" not in client.get(shown_page(running_stream)).content.decode()
        stop(client, running_stream)
        assert not Stream.objects.exclude(stop_requested_at=None).exists()
    assert Stream.objects.count() == 1


@pytest.fixture
def failed(running_stream: Stream) -> Stream:
    """A stream that was tried again and then given up, both for a reason in words."""
    assert running_stream.lease
    retry = Row(3, "retry", "", {"attempt": 2, "of": 3, "wait_s": 1.0, "reason": "No trout."})
    gave_up = feeding.gave_up("No trout either.", None)
    end = Row(4, "end", "", gave_up.data())
    Stream.objects.append([Entry(running_stream.pk, running_stream.lease, (retry, end), outcome=gave_up)])
    return running_stream


@pytest.mark.parametrize("fed", [True, False])
def test_support_sees_why_a_stream_failed_but_not_in_a_programs_words(
    fed: bool, failed: Stream, at_roots: Client
) -> None:
    Stream.objects.update(fed=fed)
    rows = [page_of("streaming_chunk", row.pk) for row in Chunk.objects.filter(seq__gt=2)]
    supports = support()
    for page in (shown_page(failed), f"{page_of('streaming_stream', failed.pk, 'live')}?text=shown", *rows):
        assert "trout" in at_roots.get(page).text and ("trout" in supports.get(page).text) != fed
    html = supports.get(listing("streaming_chunk")).text
    assert ("trout" in html) != fed and "gave_up" in html and "trout" in at_roots.get(listing("streaming_chunk")).text
    assert "gave_up" in supports.get(page_of("streaming_stream", failed.pk)).text


GUESSES = [
    ("streaming_stream", "text__startswith"),
    ("streaming_stream", "reasoning__regex"),
    ("streaming_stream", "request__icontains"),
    ("streaming_stream", "request__messages__0__content"),
    ("streaming_stream", "error__icontains"),
    ("streaming_stream", "topic__startswith"),
    ("streaming_stream", "chunk__text__startswith"),
    ("streaming_stream", "message__conversation__title"),
    ("streaming_chunk", "text"),
    ("streaming_chunk", "text__icontains"),
    ("streaming_chunk", "data__icontains"),
    ("streaming_chunk", "stream__text__startswith"),
    ("conversations_message", "text__regex"),
    ("conversations_message", "context__icontains"),
    ("conversations_conversation", "title__startswith"),
    ("conversations_conversation", "share__startswith"),
    ("conversations_token", "digest__startswith"),
]


@pytest.mark.parametrize(("name", "lookup"), GUESSES)
def test_nobody_finds_out_a_text_by_the_filters_of_an_address(
    name: str, lookup: str, running_stream: Stream, at_roots: Client
) -> None:
    finish(running_stream, 3)
    assert at_roots.get(listing(name), {lookup: "Hel"}).status_code == 400
    if name.startswith("streaming"):
        assert support().get(listing(name), {lookup: "Hel"}).status_code == 400


def offered(client: Client, pages: set[str]) -> set[str]:
    """The lists that these pages lead to, each filtered or sorted."""
    links = {
        urljoin(page, unescape(link)) for page in pages for link in re.findall(r'href="([^"]+)"', client.get(page).text)
    }
    return {link for link in links if re.match(r"/admin/\w+/\w+/\?", link)}


def test_every_filter_and_link_that_a_page_offers_is_taken(
    running_stream: Stream, alices_token: str, at_roots: Client
) -> None:
    pages = {page_of(name, model._default_manager.all()[:1].get().pk) for name, model in LISTS.items()}
    links = offered(at_roots, pages | {listing(name) for name in LISTS})
    links |= offered(at_roots, {link for link in links if "stream__id__exact" in link})
    told = " ".join(links)
    for name in ("stream__id", "conversation__id", "owner__id", "topic=", "owner=", "within=", "kind=", "role__exact"):
        assert name in told
    assert {at_roots.get(link).status_code for link in links} == {200}


@pytest.mark.parametrize("name", ["live", "export", "retry"])
def test_the_pages_beside_a_streams_page_are_as_closed_as_it_is(
    name: str, running_stream: Stream, alice: User, client: Client
) -> None:
    page = page_of("streaming_stream", running_stream.pk, name)
    assert client.post(page)["Location"].startswith("/admin/login/")
    client.force_login(alice)
    assert client.post(page).status_code == 302
    assert at_staffs("view_message").post(page).status_code == 403


# ---------------------------------------------------------------------------------------------- one stream's page


def test_personal_text_is_shown_to_who_may_see_it_when_asked_for(running_stream: Stream, at_roots: Client) -> None:
    hidden = at_roots.get(page_of("streaming_stream", running_stream.pk)).content.decode()
    assert "5 characters" in hidden and "Hello" not in hidden and "?text=shown" in hidden
    assert "Hello" in at_roots.get(shown_page(running_stream)).content.decode()


def test_each_look_at_personal_text_is_logged_and_one_that_follows_is_one(
    running_stream: Stream, at_roots: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def looks(page: str, **said: str) -> int:
        caplog.clear()
        assert at_roots.get(page, said).status_code == 200
        return caplog.messages.count(f"root looks at what stream {running_stream.pk} says")

    caplog.set_level("INFO", logger="streaming.admin")
    page, live = (page_of("streaming_stream", running_stream.pk, name) for name in ("change", "live"))
    assert (looks(page), looks(live, follow="1")) == (0, 0)
    assert [looks(live, text="shown", follow="1") for _ in range(2)] == [1, 0]
    assert [looks(page, text="shown") for _ in range(2)] == [1, 1]
    assert looks(live, text="shown", follow="1") == 0


def test_a_look_at_rows_is_logged_for_who_may_see_what_they_say(
    running_stream: Stream, at_roots: Client, caplog: pytest.LogCaptureFixture
) -> None:
    supports = support()
    rows = f"{listing('streaming_chunk')}?stream__id__exact={running_stream.pk}"
    row = page_of("streaming_chunk", Chunk.objects.filter(seq=1).values_list("pk", flat=True).get())
    caplog.set_level("INFO", logger="streaming.admin")
    for client in (supports, at_roots):
        for page in (listing("streaming_chunk"), rows, row):
            assert client.get(page).status_code == 200
    User.objects.filter(username="staff").delete()
    unseeing = at_staffs("see_text")
    assert [unseeing.get(page).status_code for page in (listing("streaming_chunk"), row)] == [403, 403]
    assert [record.getMessage() for record in caplog.records if record.name == "streaming.admin"] == [
        "root looks at what rows of the log say: all",
        f"root looks at what rows of the log say: stream__id__exact={running_stream.pk}",
        f"root looks at what stream {running_stream.pk} says",
    ]


def test_a_page_that_follows_asks_again_until_the_answer_has_ended(running_stream: Stream, at_roots: Client) -> None:
    page = page_of("streaming_stream", running_stream.pk)
    live = page_of("streaming_stream", running_stream.pk, "live")
    assert "hx-get" not in at_roots.get(page).content.decode()
    assert f'hx-get="{live}?follow=1"' in at_roots.get(page, {"follow": "1"}).content.decode()
    part = at_roots.get(live, {"follow": "1", "text": "shown"})
    assert "Hello" in part.content.decode() and "hx-get" in part.content.decode() and "HX-Refresh" not in part
    finish(running_stream, 3)
    part = at_roots.get(live, {"follow": "1"})
    assert part["HX-Refresh"] == "true" and "hx-get" not in part.content.decode()


def test_a_stream_is_exported_for_the_replay(running_stream: Stream, at_roots: Client) -> None:
    file = at_roots.get(page_of("streaming_stream", running_stream.pk, "export"))
    assert f"{running_stream.pk}.jsonl" in file["Content-Disposition"]
    assert [row.text for _, row in read(file.content.splitlines()).rows] == ["Hel", "lo"]


def test_a_prompt_is_asked_again_beside_its_answer(running_stream: Stream, at_roots: Client) -> None:
    page = page_of("streaming_stream", running_stream.pk, "retry")
    busy = at_roots.post(page, follow=True).content.decode()
    assert "An answer is still being written" in busy and Stream.objects.count() == 1
    finish(running_stream, 3)
    assert at_roots.get(page).status_code == 405
    again = at_roots.post(page)
    new = Stream.objects.exclude(pk=running_stream.pk).get()
    assert again["Location"] == page_of("streaming_stream", new.pk) + "?follow=1"
    assert new.topic == running_stream.topic and new.request["messages"] == running_stream.request["messages"]


def test_nothing_is_asked_again_in_a_deleted_conversation(running_stream: Stream, at_roots: Client) -> None:
    finish(running_stream, 3)
    page = page_of("streaming_stream", running_stream.pk)
    assert "Ask again" in at_roots.get(page).content.decode()
    Conversation.objects.get().discard()
    assert "Ask again" not in at_roots.get(page).content.decode()
    assert at_roots.post(page_of("streaming_stream", running_stream.pk, "retry")).status_code == 404
    assert Stream.objects.count() == 1


def test_an_unforeseen_failure_is_found_in_the_log_by_what_the_page_says(
    running_stream: Stream, at_roots: Client
) -> None:
    finish(running_stream, 3, "error")
    Stream.objects.update(error={"code": "internal", "detail": "Something went wrong on this server."})
    html = at_roots.get(page_of("streaming_stream", running_stream.pk)).content.decode()
    assert f"generation of stream {running_stream.pk} failed" in html


# ---------------------------------------------------------------------------------------------- finding streams


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ({"model": "m"}, 1),
        ({"model": "other"}, 0),
        ({"owner": "alice"}, 1),
        ({"owner": "bob"}, 0),
        ({"within": "1h"}, 2),
        ({"within": "no"}, 3),
        ({"status__exact": "done"}, 2),
        ({}, 3),
    ],
)
def test_streams_are_filtered_by_model_owner_and_time(
    chosen: dict[str, str], count: int, running_stream: Stream, at_roots: Client
) -> None:
    Stream.objects.filter(pk=running_stream.pk).update(model="m")
    old, _ = ended_streams(2)
    Stream.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(hours=2))
    assert len(at_roots.get(listing("streaming_stream"), chosen).context["cl"].result_list) == count


def test_the_list_says_how_streams_do_and_what_they_cost(running_stream: Stream, at_roots: Client) -> None:
    def row() -> dict[str, str]:
        html = at_roots.get(listing("streaming_stream")).content.decode()
        cells = re.findall(r'field-(state|owner|age|rows|worker|model)"[^>]*>(.*?)</t[dh]>', html)
        return {name: re.sub(r"<[^>]*>", "", cell) for name, cell in cells}

    Stream.objects.update(created_at=timezone.now() - timedelta(minutes=3))
    expected = {"state": "streaming", "owner": "alice", "age": "3 min", "rows": "2", "worker": "elsewhere"}
    assert expected.items() <= row().items() and row()["model"] == running_stream.request["model"]
    Stream.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert row()["state"] == "left by its worker"
    Stream.objects.filter(pk=running_stream.pk).request_stop()
    assert row()["state"] == "stopping"
    finish(running_stream, 3)
    assert (row()["state"], row()["rows"]) == ("done", "3")


def test_streams_of_before_get_their_models(running_stream: Stream) -> None:
    told = import_module("streaming.migrations.0004_models_of_earlier_streams")
    for request in ({}, {"model": None}, {"model": ""}, {"model": "old"}):
        Stream.objects.create(topic="t", request=request)
    Stream.objects.update(model="")
    told.fill(apps, connection.schema_editor())
    assert sorted(Stream.objects.values_list("model", flat=True)) == ["", "", "", running_stream.model or "demo", "old"]
