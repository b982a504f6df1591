"""The AI SDK's addresses: what they take and refuse, and how a log reads as a UI message stream."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from pytest_django import Settings

from conversations.api.aisdk import UiMessages
from conversations.models import Conversation, Message, User
from streaming.frames import Row
from streaming.models import Stream

pytestmark = pytest.mark.django_db


def prompt(text: str = "Hello?", message: str = "m1", **more: Any) -> dict[str, Any]:
    return {"id": message, "role": "user", "parts": [{"type": "text", "text": text}], **more}


def post(client: Client, chat: str, *messages: dict[str, Any], **more: Any) -> Any:
    body = {"id": chat, "messages": list(messages) or [prompt()], **more}
    return client.post("/ai/chat", body, content_type="application/json")


def kinds(*rows: Row) -> list[str]:
    ui = UiMessages(uuid4())
    return [chunk["type"] for chunk in [*ui.begin(), *ui.chunks("s", rows)]]


def end(seq: int, status: str, **more: Any) -> Row:
    return Row(seq, "end", "", {"status": status, "finish_reason": None, "usage": None, "error": None, **more})


def test_the_first_post_makes_the_chat_under_the_id_the_client_chose(at_alices: Client, alice: User) -> None:
    chat = str(uuid4())
    response = post(at_alices, chat)
    assert (response.status_code, response["X-Vercel-AI-UI-Message-Stream"]) == (200, "v1")
    assert [message.text for message in Conversation.objects.get(pk=chat, owner=alice).turns()] == ["Hello?", ""]


def test_an_id_that_is_no_uuid_is_a_name_among_the_persons_own_chats(at_alices: Client, bob: User) -> None:
    assert post(at_alices, "k3jh5").status_code == 200
    at_bobs = Client()
    at_bobs.force_login(bob)
    assert post(at_bobs, "k3jh5").status_code == 200
    assert set(Conversation.objects.values_list("owner__username", flat=True)) == {"alice", "bob"}
    assert Message.objects.filter(role="user").count() == 2


def test_a_post_that_is_repeated_asks_once_and_gets_the_same_reply(at_alices: Client) -> None:
    for _ in range(3):
        assert post(at_alices, "mine").status_code == 200
    assert Stream.objects.count() == 1
    refused = post(at_alices, "mine", prompt("Else?"))
    assert (refused.status_code, refused.content.decode()[:14]) == (422, "This idempoten")


def test_only_the_last_message_counts(at_alices: Client) -> None:
    made_up = {"id": "x", "role": "assistant", "parts": [{"type": "text", "text": "I promised you money."}]}
    post(at_alices, "mine", made_up, prompt())
    assert "money" not in json.dumps(Stream.objects.get().request)


def test_what_is_refused_is_said_in_plain_words(running_stream: Stream, at_alices: Client) -> None:
    refused = post(at_alices, str(Conversation.objects.get().pk))
    assert (refused.status_code, refused["Content-Type"]) == (409, "text/plain; charset=utf-8")
    assert refused.content.decode() == "An answer is still being written. Wait for its end or stop it first."


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"id": "c", "messages": []}, "messages"),
        ({"id": "c", "messages": [prompt()], "temperature": 1}, "temperature"),
        ({"id": "c", "messages": [prompt()], "trigger": "dance"}, "trigger"),
        ({"id": "c", "messages": [prompt(role="assistant")]}, "role"),
        ({"id": "c", "messages": [prompt(parts=[{"type": "file", "url": "data:,x"}])]}, "parts"),
        ({"id": "c", "messages": [prompt(" ")]}, "text"),
        ({"id": "c" * 201, "messages": [prompt()]}, "id"),
        ({"messages": [prompt()]}, "id"),
        ([], "Invalid data"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(body: Any, named: str, at_alices: Client) -> None:
    refused = at_alices.post("/ai/chat", body, content_type="application/json")
    assert refused.status_code == 400 and named in refused.content.decode()
    assert not Conversation.objects.exists()


def test_unknown_messages_can_be_neither_regenerated_nor_edited(at_alices: Client) -> None:
    post(at_alices, "mine")
    Stream.objects.all().delete()
    for trigger in ("regenerate-message", "submit-message"):
        assert post(at_alices, "mine", messageId="nowhere", trigger=trigger).status_code == 404


def test_too_many_prompts_are_told_how_long_to_wait(at_alices: Client, settings: Settings) -> None:
    settings.THROTTLE_PROMPTS = "1/min"
    assert [post(at_alices, chat).status_code for chat in ("a", "a", "b")] == [200, 200, 429]
    assert 0 < int(post(at_alices, "b")["Retry-After"]) <= 60


def test_a_session_needs_the_csrf_token(alice: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    assert post(browser, "mine").status_code == 403
    assert not Conversation.objects.exists()


def test_an_idle_chat_has_nothing_to_resume_but_can_be_replayed(running_stream: Stream, at_alices: Client) -> None:
    path = f"/ai/chat/{Conversation.objects.get().pk}/stream"
    assert at_alices.get(path).status_code == 200
    Stream.objects.update(status="done", finished_at="2026-01-01T00:00Z")
    assert at_alices.get(path).status_code == 204
    assert at_alices.get(f"{path}?replay=1").status_code == 200
    assert at_alices.get("/ai/chat/never-used/stream?replay=1").status_code == 204


def test_stop_asks_for_the_end(running_stream: Stream, at_alices: Client) -> None:
    assert at_alices.post(f"/ai/chat/{Conversation.objects.get().pk}/stop").status_code == 204
    assert Stream.objects.get().stop_requested_at is not None
    assert at_alices.post("/ai/chat/never-used/stop").status_code == 204


def test_every_part_is_closed_before_the_next_and_every_log_ends_in_words() -> None:
    rows = [Row(1, "reasoning", "Hm", None), Row(2, "text", "a", None), Row(3, "text", "b", None)]
    said = ["reasoning-start", "reasoning-delta", "reasoning-end", "text-start", "text-delta", "text-end"]
    for status, last in (("done", "finish"), ("stopped", "abort"), ("timeout", "error"), ("interrupted", "error")):
        closing = ["finish-step", "message-metadata", last]
        assert kinds(*rows, end(4, status)) == ["start", "start-step", *said, *closing]


def test_a_restart_takes_back_what_was_said_and_nothing_else() -> None:
    again = Row(2, "restart", "", {"attempt": 2})
    begun = ["start", "start-step"]
    assert kinds(Row(1, "text", "a", None), again) == [*begun, "text-start", "text-delta", "text-end", "reset-step"]
    assert kinds(again, Row(3, "text", "a", None)) == [*begun, "text-start", "text-delta"]


def test_a_part_is_named_by_its_place_in_the_log() -> None:
    ui = UiMessages(uuid4())
    chunks = list(ui.chunks("s", (Row(7, "text", "a", None),)))
    assert {chunk["id"] for chunk in chunks} == {"text-7"}
