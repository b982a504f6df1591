"""Bring your own generator: programs that write an answer themselves, repeat themselves, fall silent or are stopped."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db.models.functions import Now
from django.test import Client
from pytest_django import Settings

from conversations.models import Conversation
from conversations.wish import Wish
from streaming.engine import survey
from streaming.feeding import Addition, Conflict, add
from streaming.frames import RESTART
from streaming.models import Chunk, Stream
from streaming.reader import Opened, Reader
from tests.conftest import ended, engine_with, stored_text
from tests.scripted import ScriptedProvider

pytestmark = pytest.mark.django_db
JSON = "application/json"


def open_stream(client: Client, conversation: Conversation, key: uuid.UUID | None = None) -> dict[str, Any]:
    headers = {"Idempotency-Key": str(key)} if key else {}
    path = f"/api/conversations/{conversation.pk}/streams/"
    opened: dict[str, Any] = client.post(path, {"text": "Hello?"}, content_type=JSON, headers=headers).json()
    return opened


def send(client: Client, opened: dict[str, Any], what: str, after: int, **body: Any) -> tuple[int, Any]:
    path = f"/api/streams/{opened['stream']}/{what}/"
    response = client.post(path, {"lease": opened["lease"], "after": after, **body}, content_type=JSON)
    return response.status_code, response.json().get("seq", response.json().get("code"))


def words(client: Client, opened: dict[str, Any], after: int, *texts: str) -> tuple[int, Any]:
    return send(client, opened, "chunks", after, chunks=[{"text": text} for text in texts])


def test_a_program_writes_an_answer_to_its_end(conversation: Conversation, at_alices: Client) -> None:
    opened = open_stream(at_alices, conversation)
    assert (opened["reply"]["status"], opened["prompt"]["text"], opened["lease_s"]) == ("streaming", "Hello?", 60)
    thought = [{"kind": "reasoning", "text": "Hm"}, {"text": "Good "}]
    assert send(at_alices, opened, "chunks", 0, chunks=thought) == (200, 2)
    assert words(at_alices, opened, 2, "day") == (200, 3)
    assert send(at_alices, opened, "end", 3, usage={"total_tokens": 7}) == (200, 4)
    said = at_alices.get(f"/api/streams/{opened['stream']}/").json()
    assert (said["status"], said["text"], said["reasoning"], said["seq"]) == ("done", "Good day", "Hm", 4)
    assert (said["finish_reason"], said["usage"]) == ("stop", {"total_tokens": 7})
    assert said["timings"]["first_text_at"]


def test_a_program_that_gives_up_says_why(conversation: Conversation, at_alices: Client) -> None:
    opened = open_stream(at_alices, conversation)
    assert send(at_alices, opened, "end", 0, error="The tool broke.") == (200, 1)
    said = at_alices.get(f"/api/streams/{opened['stream']}/").json()
    assert (said["status"], said["error"]) == ("error", {"code": "gave_up", "detail": "The tool broke."})


def test_what_is_repeated_changes_nothing(conversation: Conversation, at_alices: Client) -> None:
    opened = open_stream(at_alices, conversation)
    for _ in range(3):
        assert words(at_alices, opened, 0, "a", "b") == (200, 2)
    for _ in range(3):
        assert send(at_alices, opened, "end", 2) == (200, 3)
    assert words(at_alices, opened, 0, "a", "b") == (200, 2)
    assert [row.kind for row in Chunk.objects.rows(uuid.UUID(opened["stream"]))] == ["text", "text", "end"]


def test_what_does_not_follow_on_is_refused(conversation: Conversation, at_alices: Client) -> None:
    opened = open_stream(at_alices, conversation)
    words(at_alices, opened, 0, "a")
    for after, text in ((0, "b"), (2, "b"), (1000, "b")):
        assert words(at_alices, opened, after, text) == (409, "seq_conflict")
    assert words(at_alices, opened, 0, "a", "b") == (409, "seq_conflict")
    assert stored_text(uuid.UUID(opened["stream"])) == "a"


def test_only_the_lease_writes(conversation: Conversation, running_stream: Stream, at_alices: Client) -> None:
    theirs = {"stream": str(running_stream.pk), "lease": str(uuid.uuid4())}
    assert words(at_alices, theirs, 2, "x") == (409, "lease_lost")
    assert send(at_alices, theirs, "end", 2) == (409, "lease_lost")
    assert Stream.objects.get().is_live


def test_opening_twice_with_one_key_opens_once(conversation: Conversation, at_alices: Client) -> None:
    key = uuid.uuid4()
    first, second = (open_stream(at_alices, conversation, key) for _ in range(2))
    assert first == second and first["lease"]
    send(at_alices, first, "end", 0)
    assert open_stream(at_alices, conversation, key)["lease"] is None


def test_the_lease_of_an_engine_is_told_to_nobody(conversation: Conversation, at_alices: Client) -> None:
    key = uuid.uuid4()
    reply = conversation.ask("Hello?", key)
    assert reply.stream_id and Stream.objects.claim(reply.stream_id, "engine", 60)
    assert open_stream(at_alices, conversation, key)["code"] == "key_reused"


def test_a_stop_takes_the_lease_away(conversation: Conversation, at_alices: Client) -> None:
    opened = open_stream(at_alices, conversation)
    words(at_alices, opened, 0, "a")
    at_alices.post(f"/api/streams/{opened['stream']}/stop/")
    assert words(at_alices, opened, 1, "b") == (409, "lease_lost")
    assert [claim.stream.fed for claim in survey([], renew=False, room=0, worker="w").claims] == [True]


def test_an_empty_addition_renews_the_lease(conversation: Conversation, at_alices: Client, settings: Settings) -> None:
    opened = open_stream(at_alices, conversation)
    begun = Stream.objects.get().lease_until
    settings.FEED_LEASE_S = 600
    assert words(at_alices, opened, 0) == (200, 0)
    assert begun and Stream.objects.filter(lease_until__gt=begun + timedelta(seconds=500)).exists()


def test_no_engine_takes_a_stream_while_its_program_lives(conversation: Conversation, at_alices: Client) -> None:
    open_stream(at_alices, conversation)
    assert survey([], renew=False, room=10, worker="w").claims == []
    Stream.objects.update(lease_until=Now() - timedelta(seconds=1))
    assert len(survey([], renew=False, room=10, worker="w").claims) == 1


def begin(conversation: Conversation) -> tuple[uuid.UUID, uuid.UUID]:
    """A stream that its program has said "Hello" on, and the program's lease."""
    reply = conversation.ask("Hello?", wish=Wish(fed=True))
    assert reply.stream is not None and reply.stream.lease is not None
    add(reply.stream.pk, reply.stream.lease, Addition(0, (("text", "Hel"), ("text", "lo"))))
    return reply.stream.pk, reply.stream.lease


@pytest.mark.django_db(transaction=True)
async def test_a_program_that_fell_silent_is_not_written_on(conversation: Conversation) -> None:
    stream, lease = await sync_to_async(begin)(conversation)
    await Stream.objects.aupdate(lease_until=Now() - timedelta(seconds=1))
    provider = ScriptedProvider(["never asked"])
    async with engine_with(provider):
        found = await ended(stream)
    assert (found.status, found.text) == ("interrupted", "Hello")
    assert found.error and found.error["code"] == "abandoned"
    assert provider.asked == [] and not await Chunk.objects.filter(kind=RESTART).aexists()
    with pytest.raises(Conflict, match="no longer"):
        await sync_to_async(add)(stream, lease, Addition(2, (("text", "!"),)))


@pytest.mark.django_db(transaction=True)
async def test_a_program_that_is_stopped_is_ended_at_once(conversation: Conversation) -> None:
    stream, _ = await sync_to_async(begin)(conversation)
    async with engine_with(ScriptedProvider(["never asked"])):
        assert await sync_to_async(conversation.stop)(stream)
        assert ((found := await ended(stream)).status, found.text) == ("stopped", "Hello")


@pytest.mark.django_db(transaction=True)
async def test_readers_hear_of_it_as_of_any_other(
    conversation: Conversation, hub_stopped: None, settings: Settings
) -> None:
    settings.HUB_TICK_S = 1000
    async with Reader(conversation.topic) as reader:
        await reader.attach({})
        stream, lease = await sync_to_async(begin)(conversation)
        heard: list[str] = []
        items = reader.items()
        while "".join(heard) != "Hello":
            item = await anext(items)
            if not isinstance(item, Opened):
                heard += [row.text for row in item.rows]  # type: ignore[union-attr]
        await sync_to_async(add)(stream, lease, Addition(2, (("text", "!"),)))
        assert (await anext(items)).rows[0].text == "!"  # type: ignore[union-attr]
