"""A conversation read through its link: everything can be seen live, nothing can be done, and it ends with the link."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from conversations import sharing
from conversations.direct import EXTENSION, Direct
from conversations.models import Conversation, User
from conversations.routing import websocket_urlpatterns
from conversations.spectators import SharedConsumer
from streaming.frames import Row
from streaming.hub import get_hub
from streaming.messages import rows_message
from streaming.models import Stream
from tests.conftest import DEADLINE_S, engine_with
from tests.scripted import ScriptedProvider

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shared(conversation: Conversation) -> Conversation:
    sharing.begin(conversation)
    return conversation


def path(conversation: Conversation) -> str:
    return reverse("shared", args=[conversation.share])


@asynccontextmanager
async def connected(
    secret: str | None, query: str = "", direct: Direct | None = None
) -> AsyncIterator[WebsocketCommunicator]:
    communicator = WebsocketCommunicator(URLRouter(websocket_urlpatterns), f"/ws/share/{secret}/{query}")
    communicator.scope["extensions"] = {EXTENSION: direct}  # type: ignore[dict-item]  # ASGI's types know its own only.
    assert (await communicator.connect(DEADLINE_S))[0]
    yield communicator
    await communicator.disconnect()


async def hear(reader: WebsocketCommunicator, kind: str) -> dict[str, Any]:
    """The next frame of this kind."""
    async with asyncio.timeout(DEADLINE_S):
        while (frame := await reader.receive_json_from(DEADLINE_S))["type"] != kind:
            pass
    found: dict[str, Any] = frame
    return found


async def closed_with(reader: WebsocketCommunicator) -> int:
    async with asyncio.timeout(DEADLINE_S):
        while (message := await reader.receive_output(DEADLINE_S))["type"] != "websocket.close":
            pass
    return int(message["code"])


# The page


def test_anybody_with_the_link_reads_what_was_said(client: Client, running_stream: Stream) -> None:
    conversation = Conversation.objects.get()
    sharing.begin(conversation)
    page = client.get(path(conversation)).content.decode()
    assert f'data-stream="{running_stream.pk}" data-seq="2"' in page
    assert "Hello?" in page
    assert "<form" not in page and "<textarea" not in page


def test_neither_search_engines_nor_linked_sites_learn_the_address(client: Client, shared: Conversation) -> None:
    answer = client.get(path(shared))
    assert answer.headers["X-Robots-Tag"] == "noindex, nofollow"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "no-store" in answer.headers["Cache-Control"]
    assert '<meta name="robots" content="noindex, nofollow">' in answer.content.decode()


def test_instructions_and_model_are_not_shared(client: Client, shared: Conversation) -> None:
    Conversation.objects.update(system_prompt="You are a pirate.", model="large")
    page = client.get(path(shared)).content.decode()
    assert "pirate" not in page and "large" not in page


@pytest.mark.parametrize("end", [sharing.end, Conversation.discard, Conversation.remove])
def test_a_link_ends_when_revoked_or_its_conversation_deleted(client: Client, shared: Conversation, end: Any) -> None:
    link = path(shared)
    assert client.get(link).status_code == 200
    end(shared)
    assert client.get(link).status_code == 404


def test_a_link_ends_with_its_owners_account(client: Client, shared: Conversation) -> None:
    User.objects.update(is_active=False)
    assert client.get(path(shared)).status_code == 404


@pytest.mark.parametrize("secret", ["x", "None", "%00", "' OR 1=1"])
def test_a_made_up_link_leads_nowhere(client: Client, shared: Conversation, secret: str) -> None:
    assert client.get(f"/share/{secret}/").status_code == 404


def test_sharing_twice_keeps_the_link_and_sharing_anew_makes_another(shared: Conversation) -> None:
    first = shared.share
    sharing.begin(shared)
    assert shared.share == first
    sharing.end(shared)
    sharing.begin(shared)
    assert shared.share and shared.share != first and len(shared.share) == 32


def test_the_dialogue_shows_the_whole_address(at_alices: Client, conversation: Conversation) -> None:
    answer = at_alices.post(reverse("share", args=[conversation.pk]), headers={"HX-Request": "true"})
    conversation.refresh_from_db()
    assert f'value="http://testserver{path(conversation)}"' in answer.content.decode()
    answer = at_alices.post(reverse("revoke", args=[conversation.pk]), headers={"HX-Request": "true"})
    assert "Make a link" in answer.content.decode()


def test_the_api_shares_and_revokes(at_alices: Client, client: Client, conversation: Conversation) -> None:
    url = f"/api/conversations/{conversation.pk}/"
    link = at_alices.post(f"{url}share/").json()["url"]
    assert at_alices.get(url).json()["shared"] is True
    assert Client().get(link).status_code == 200
    at_alices.delete(f"{url}share/")
    assert at_alices.get(url).json()["shared"] is False
    assert Client().get(link).status_code == 404


# The socket


async def test_a_reader_sees_an_answer_live(shared: Conversation, hub_stopped: None) -> None:
    gate = asyncio.Event()
    async with engine_with(ScriptedProvider(["Hel", gate, "lo"])), connected(shared.share) as reader:
        await reader.send_json_to({"type": "attach"})
        await sync_to_async(shared.ask)("Hello?")
        assert (await hear(reader, "turn"))["prompt"]["text"] == "Hello?"
        assert (await hear(reader, "delta"))["text"] == "Hel"
        gate.set()
        assert (await hear(reader, "delta"))["text"] == "lo"
        assert (await hear(reader, "end"))["status"] == "done"


async def test_a_readers_page_is_sent_nothing_to_do(shared: Conversation, hub_stopped: None) -> None:
    async with (
        engine_with(ScriptedProvider(["Hi", asyncio.Event()])),
        connected(shared.share, "?render=html") as reader,
    ):
        await reader.send_json_to({"type": "attach"})
        await sync_to_async(shared.ask)("Hello?")
        turn = await hear(reader, "turn")
        for said in (turn["prompt"], turn["reply"]):
            assert "<li" in said["html"] and not re.search("form=|edit|branches", said["html"])


async def test_a_reader_can_do_nothing(shared: Conversation, hub_stopped: None) -> None:
    reply = await sync_to_async(shared.ask)("Hello?")
    message, stream = str(reply.pk), str(reply.stream_id)
    async with connected(shared.share) as reader:
        await reader.send_json_to({"type": "attach"})
        for command in (
            {"type": "ask", "text": "Mine", "key": str(uuid4())},
            {"type": "edit", "message": message, "text": "Mine", "key": str(uuid4())},
            {"type": "regenerate", "message": message, "key": str(uuid4())},
            {"type": "stop", "stream": stream},
        ):
            await reader.send_json_to(command)
            refused = await hear(reader, "error")
            assert (refused["code"], refused.get("key")) == ("read_only", command.get("key"))
    assert await shared.messages.acount() == 2
    assert (await Stream.objects.aget()).stop_requested_at is None


async def test_a_made_up_secret_is_told_4404(shared: Conversation, hub_stopped: None) -> None:
    async with connected("made-up") as reader:
        assert await closed_with(reader) == 4404


@pytest.mark.parametrize("end", [sharing.end, Conversation.discard])
async def test_an_open_connection_ends_with_its_link(
    shared: Conversation, settings: Settings, hub_stopped: None, end: Any
) -> None:
    settings.ACCESS_CHECK_S = 0.05
    async with connected(shared.share) as reader:
        await reader.send_json_to({"type": "attach"})
        await sync_to_async(end)(shared)
        assert await closed_with(reader) == 4404


async def test_nothing_is_written_behind_the_close(
    running_stream: Stream, settings: Settings, hub_stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ACCESS_CHECK_S, close = 0.05, SharedConsumer.close
    written: list[bytes] = []
    conversation = await Conversation.objects.aget()
    await sync_to_async(sharing.begin)(conversation)

    def write(frames: bytes) -> bool:
        written.append(frames)
        return True

    def speak() -> int:
        """How much was written of the next row, which is heard here and now."""
        tail = get_hub()._feeds[running_stream.topic].tail(str(running_stream.pk))
        rows, before = (Row((tail.last or 0) + 1, "text", "word ", None),), len(written)
        get_hub()._take(rows_message(running_stream.topic, tail.stream, tail.last or 0, rows))
        return len(written) - before

    async def speak_and_close(self: SharedConsumer, code: int) -> None:
        assert speak() == 0
        await close(self, code)

    monkeypatch.setattr(SharedConsumer, "close", speak_and_close)
    async with connected(conversation.share, direct=Direct(write)) as reader:
        await reader.send_json_to({"type": "attach"})
        async with asyncio.timeout(DEADLINE_S):
            await hear(reader, "delta")
            while not speak():
                await asyncio.sleep(0)
        await sync_to_async(sharing.end)(conversation)
        assert await closed_with(reader) == 4404


async def test_a_connection_ends_with_a_link_that_ends_right_behind_the_look_for_it(
    shared: Conversation, settings: Settings, hub_stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ACCESS_CHECK_S, find, looks = 0.05, SharedConsumer._find, []

    def find_and_revoke(self: SharedConsumer) -> Any:
        found = find(self)
        looks.append(found)
        if len(looks) == 2:  # The first only tells which conversation it is.
            sharing.end(shared)
        return found

    monkeypatch.setattr(SharedConsumer, "_find", find_and_revoke)
    async with connected(shared.share) as reader:
        assert await closed_with(reader) == 4404
    assert len(looks) == 3


async def test_the_link_of_one_conversation_shows_no_other(
    shared: Conversation, running_stream: Stream, alice: User, hub_stopped: None
) -> None:
    other = await Conversation.objects.acreate(owner=alice)
    await sync_to_async(sharing.begin)(other)
    async with connected(other.share) as reader:
        await reader.send_json_to({"type": "attach", "after": {str(running_stream.pk): 0}})
        assert (await hear(reader, "error"))["code"] == "gone"
