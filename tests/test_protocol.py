"""docs/protocol.md says what the code does: its examples, tables and numbers against real conversations and code."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.core.cache import cache
from django.db import OperationalError
from django.test import AsyncClient, override_settings
from django.urls import reverse
from drf_spectacular.generators import SchemaGenerator

from chatsite.settings import BASE_DIR
from conversations import commands, consumers, people
from conversations.api import events
from conversations.budgets import Budget
from conversations.consumers import ConversationConsumer
from conversations.models import Conversation, Token, User
from conversations.routing import websocket_urlpatterns
from conversations.watch import Watch
from streaming import frames
from streaming.completions import Delta, Finish
from streaming.frames import REASONING, Piece
from streaming.hub import Hub
from streaming.models import LIVE, Status, Stream
from streaming.reader import Opened, Reader
from tests.chatsite.test_settings import read_variables
from tests.conftest import DEADLINE_S, ended, engine_with
from tests.scripted import ScriptedProvider, cut

pytestmark = pytest.mark.django_db(transaction=True)

DOC = (BASE_DIR / "docs/protocol.md").read_text()
CLIENT_FRAMES: dict[str, type[commands.Command]] = {
    "attach": commands.Attach,
    "ask": commands.Ask,
    "edit": commands.Edit,
    "regenerate": commands.Regenerate,
    "stop": commands.Stop,
    "ack": commands.Ack,
}
KEYS = [f"5f0c5a54-7d5b-4b5c-9c5e-0d3f7c1f2a1{n}" for n in range(5)]
JSON = "application/json"


# ------------------------------------------------------------------------------------------ what the document says


def examples(label: str) -> list[Any]:
    """The JSON values in the document's ```json <label> blocks, one after the other."""
    found: list[Any] = []
    for block in re.findall(rf"^```json {label}\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL):
        while block := block.strip():
            value, end = json.JSONDecoder().raw_decode(block)
            found.append(value)
            block = block[end:]
    assert found
    return found


def section(heading: str) -> str:
    """What stands between a heading and the next one."""
    ((text),) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", DOC, re.MULTILINE | re.DOTALL)
    return str(text)


def cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip("|").split("|")] if line.startswith("|") else []


def table(text: str, *header: str) -> list[list[str]]:
    """The rows of the one table in `text` with this header, code marks taken off."""
    lines = [cells(line) for line in text.split("\n")]
    (at,) = [n for n, line in enumerate(lines) if line == list(header)]
    return list(takewhile(bool, lines[at + 2 :]))


def fields(kind: str) -> set[str]:
    return {row[0] for row in table(section(f"`{kind}`"), "field", "", "meaning")}


def events_of(text: str) -> list[dict[str, str]]:
    """The fields of server-sent events."""
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.strip().split("\n\n")]


# ------------------------------------------------------------------------------------------------ what really comes


@dataclass
class Socket:
    """A client in this process."""

    communicator: WebsocketCommunicator

    async def say(self, *frames: dict[str, Any]) -> None:
        for frame in frames:
            await self.communicator.send_json_to(frame)

    async def until(self, kind: str, **values: Any) -> list[dict[str, Any]]:
        """The frames up to the first of this kind with these values."""
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1] | values | {"type": kind} != heard[-1]:
            heard.append(await self.communicator.receive_json_from(DEADLINE_S))
        return heard


@asynccontextmanager
async def connected(conversation: Conversation, token: str, query: str = "") -> AsyncIterator[Socket]:
    path, headers = f"/ws/conversations/{conversation.pk}/{query}", [(b"authorization", f"Bearer {token}".encode())]
    communicator = WebsocketCommunicator(URLRouter(websocket_urlpatterns), path, headers=headers)
    assert (await communicator.connect(DEADLINE_S))[0]
    yield Socket(communicator)
    await communicator.disconnect()


def ask(n: int) -> dict[str, Any]:
    return {"type": "ask", "text": f"Question {n}", "key": KEYS[n]}


@pytest.fixture(autouse=True)
def _quick(settings: Any) -> None:
    settings.STREAM_BACKOFF_S, settings.STREAM_SWEEP_S, settings.HUB_TICK_S = 0.01, 0.02, 0.05
    settings.STREAM_PROGRESS_S = 0
    cache.clear()


@pytest.fixture
async def played(conversation: Conversation, alices_token: str, hub_stopped: None) -> list[dict[str, Any]]:
    """Every frame of a conversation in which everything happens: a retry, a failure, refusals, a deletion."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    provider = ScriptedProvider(
        [Delta(REASONING, "hm"), "Wrong", cut()],
        ["Ri", "ght", Finish("stop", usage)],
        ["Half", cut()],
        [cut()],
        [cut()],
        ["Unending", asyncio.Event()],
    )
    async with engine_with(provider), connected(conversation, alices_token) as socket:
        await socket.say({"type": "attach"}, {"type": "attach", "after": 5}, ask(0))
        heard = await socket.until("end")
        await socket.say(ask(1))
        heard += await socket.until("end")
        await socket.say(ask(2))
        heard += await socket.until("delta")
        await socket.say(ask(3))
        heard += await socket.until("error", code="busy")
        await sync_to_async(conversation.clear)()
        return heard + await socket.until("error", code="gone")


def shape(value: Any, name: str = "") -> Any:
    """The fields of a frame and their types; what a model's server puts in `usage` is its own affair."""
    if isinstance(value, dict) and name != "usage":
        return {key: shape(inner, key) for key, inner in value.items()}
    return type(value).__name__


def kinds(frames: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    """The type of each frame and its fields; their order is the database's, if it was read there."""
    return {(frame["type"], *sorted(frame)) for frame in frames}


def shapes(values: list[Any]) -> set[str]:
    return {json.dumps({"type": value["type"], "shape": shape(value)}, sort_keys=True) for value in values}


# ----------------------------------------------------------------------------------------------------- the websocket


def test_every_example_of_a_client_is_understood() -> None:
    found = examples("client")
    for example in found:
        assert commands.parse(json.dumps(example)).type == example["type"]
    assert {example["type"] for example in found} == set(CLIENT_FRAMES)


@pytest.mark.parametrize("kind", CLIENT_FRAMES)
def test_every_field_a_client_may_send_is_described(kind: str) -> None:
    assert fields(kind) == set(CLIENT_FRAMES[kind].model_fields) - {"type"}


async def test_every_example_has_the_shape_of_a_frame_that_came(played: list[dict[str, Any]]) -> None:
    assert shapes(examples("server")) - shapes(played) == set()


async def test_every_kind_of_frame_that_came_has_an_example(played: list[dict[str, Any]]) -> None:
    assert kinds(played) == kinds(examples("server"))


async def test_every_field_that_comes_is_described(played: list[dict[str, Any]]) -> None:
    for kind in {frame["type"] for frame in played}:
        assert fields(kind) == {name for frame in played if frame["type"] == kind for name in frame} - {"type"}


async def test_pages_get_what_is_described_in_place_of_text(
    conversation: Conversation, alices_token: str, hub_stopped: None
) -> None:
    provider = ScriptedProvider([Delta(REASONING, "hm"), "- one\n", "- two"])
    async with engine_with(provider), connected(conversation, alices_token, "?render=html") as socket:
        await socket.say({"type": "attach"}, ask(0))
        heard = await socket.until("end")
    page = [frame for frame in heard if frame["type"] in ("html", "note")]
    assert shapes(page) == shapes(examples("page"))
    assert [fields(frame["type"]) == set(frame) - {"type"} for frame in page] == [True] * len(page)
    assert [frame["type"] for frame in heard[-2:]] == ["note", "end"]
    assert [frame["kind"] for frame in heard if frame["type"] == "delta"] == [REASONING]


@pytest.mark.parametrize("place", ["prompt", "reply"])
async def test_pages_get_the_messages_of_a_turn_as_html_in_place_of_text(
    conversation: Conversation, alices_token: str, hub_stopped: None, place: str
) -> None:
    turns = []
    async with engine_with(ScriptedProvider(["<b>Hi"])):
        for query in ("", "?render=html"):
            async with connected(conversation, alices_token, query) as socket:
                await socket.say({"type": "attach"}, ask(0))
                turns.append((await socket.until("end"))[0])
    native, page = (turn[place] for turn in turns)
    assert set(page) == set(native) - {"text", "reasoning"} | {"html"}
    assert page["html"].startswith('<li class="message') and f'id="message-{native["id"]}"' in page["html"]
    assert native["text"] in page["html"] and "Hi" not in page["html"]


async def test_a_page_loaded_while_a_retry_is_waited_for_has_the_note_that_an_open_one_has(
    conversation: Conversation, alices_token: str, alice: User, hub_stopped: None, settings: Any
) -> None:
    settings.STREAM_BACKOFF_S = settings.STREAM_BACKOFF_MAX_S = 3600
    client = AsyncClient()
    await client.aforce_login(alice)
    async with engine_with(ScriptedProvider([cut()])), connected(conversation, alices_token, "?render=html") as page:
        await page.say({"type": "attach"}, ask(0))
        told = (await page.until("note"))[-1]["html"]
        fresh = await client.get(reverse("conversation", args=[conversation.pk]))
        assert "follows in" in told
        assert told in fresh.content.decode()


async def test_a_client_that_does_what_the_document_says_shows_what_is_stored(
    played: list[dict[str, Any]], alices_token: str
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
    client: dict[str, Any] = {}
    exec(code, client)
    shown: dict[str, dict[str, Any]] = {}
    for frame in (frame for frame in played for _ in range(2)):
        if "stream" in frame and frame["type"] not in ("turn", "error"):
            begun = {"seq": 0, "text": "", "reasoning": "", "status": "pending"}
            client["apply"](shown.setdefault(frame["stream"], begun), frame)
    said = [(one["text"], one["reasoning"], one["status"]) for one in shown.values()]
    assert said == [("Right", "", "done"), ("Half", "", "error"), ("Unending", "", "pending")]


async def test_a_finished_stream_that_is_named_is_completed_by_its_end(
    conversation: Conversation, alices_token: str, hub_stopped: None
) -> None:
    async with engine_with(ScriptedProvider(["Hi"])):
        async with connected(conversation, alices_token) as socket:
            await socket.say({"type": "attach"}, ask(0))
            end = (await socket.until("end"))[-1]
        async with connected(conversation, alices_token) as socket:
            await socket.say({"type": "attach", "after": {end["stream"]: end["seq"]}, "since": end["stream"]})
            assert await socket.until("end") == [end]


async def test_a_repeated_ask_is_answered_with_the_first_answer(
    conversation: Conversation, alices_token: str, hub_stopped: None
) -> None:
    async with engine_with(ScriptedProvider(["Hi"])):
        for _ in range(2):
            async with connected(conversation, alices_token) as socket:
                await socket.say({"type": "attach"}, ask(0))
                heard = [frame for frame in await socket.until("end") if frame["type"] != "progress"]
                assert [frame["type"] for frame in heard] == ["turn", "delta", "end"]
                assert heard[0]["prompt"]["key"] == KEYS[0]
    assert await Stream.objects.acount() == 1


async def test_an_ask_right_behind_the_attach_is_obeyed_however_long_joining_takes(
    conversation: Conversation, alices_token: str, hub_stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining, join = asyncio.Event(), Hub.join

    async def slow(self: Hub, *arguments: Any) -> Any:
        await joining.wait()
        return await join(self, *arguments)

    monkeypatch.setattr(Hub, "join", slow)
    async with engine_with(ScriptedProvider(["Hi"])), connected(conversation, alices_token) as socket:
        await socket.say({"type": "attach"}, ask(0))
        asyncio.get_running_loop().call_later(0.2, joining.set)
        assert (await socket.until("end"))[0]["type"] == "turn"


async def test_no_row_overtakes_the_turn_of_its_stream(
    conversation: Conversation, alices_token: str, hub_stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked and whoever forwards find the new stream at the same moment; the turn is slow to be read."""
    reading, row_sent, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()
    turn, send_item = Conversation.turn, ConversationConsumer._send_item

    def slow_turn(self: Conversation, stream: str) -> Any:
        loop.call_soon_threadsafe(reading.set)
        row_sent.wait(0.3)
        return turn(self, stream)

    async def send_late(self: ConversationConsumer, item: Any) -> None:
        if isinstance(item, Opened):
            await reading.wait()
        await send_item(self, item)
        if isinstance(item, Piece):
            row_sent.set()

    monkeypatch.setattr(Conversation, "turn", slow_turn)
    monkeypatch.setattr(ConversationConsumer, "_send_item", send_late)
    # The reader hears of the stream before the asker does.
    monkeypatch.setattr(Reader, "follow_new", lambda self, stream: self.follow(self._feed.tail(stream)) and False)
    async with engine_with(ScriptedProvider(["Hi"])), connected(conversation, alices_token) as socket:
        await socket.say({"type": "attach"}, ask(0))
        heard = await socket.until("end")
    assert [frame["type"] for frame in heard if frame["type"] != "progress"] == ["turn", "delta", "end"]


async def test_a_turn_that_could_not_be_read_is_announced_when_it_is_asked_for_again(
    conversation: Conversation, alices_token: str, hub_stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, failures = Conversation.turn, [OperationalError("away")] * 2

    def failing_once(self: Conversation, stream: str) -> Any:
        if failures:
            raise failures.pop()
        return turn(self, stream)

    monkeypatch.setattr(Conversation, "turn", failing_once)
    # The asker announces the stream, not the forwarder, nor does a tick.
    monkeypatch.setattr(Reader, "follow_new", lambda self, stream: False)
    monkeypatch.setattr(Reader, "missed", lambda self, stream: False)
    async with connected(conversation, alices_token) as socket:
        await socket.say({"type": "attach"}, ask(0))
        await socket.until("error", code="unavailable", key=KEYS[0])
        await socket.say(ask(0))
        assert (await socket.until("turn"))[-1]["prompt"]["key"] == KEYS[0]


async def test_permission_that_ends_right_behind_the_first_look_at_it_closes_the_connection(
    conversation: Conversation, alices_token: str, hub_stopped: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ACCESS_CHECK_S, find = 0.05, ConversationConsumer._find

    def find_and_revoke(self: ConversationConsumer) -> Any:
        found = find(self)
        Token.objects.all().delete()
        return found

    monkeypatch.setattr(ConversationConsumer, "_find", find_and_revoke)
    async with connected(conversation, alices_token) as socket:
        closed = {"type": "websocket.close", "code": consumers.FORBIDDEN}
        assert await socket.communicator.receive_output(DEADLINE_S) == closed


async def test_as_long_as_nothing_changes_permission_is_asked_for_once(
    conversation: Conversation, alices_token: str, hub_stopped: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ACCESS_CHECK_S, find, look = 0.01, ConversationConsumer._find, Watch.look
    done: list[str] = []

    def counted_find(self: ConversationConsumer) -> Any:
        done.append("permission")
        return find(self)

    async def counted_look(self: Watch) -> None:
        await look(self)
        done.append("look")

    monkeypatch.setattr(ConversationConsumer, "_find", counted_find)
    monkeypatch.setattr(Watch, "look", counted_look)
    async with connected(conversation, alices_token) as socket:
        await socket.say({"type": "attach"})
        async with asyncio.timeout(DEADLINE_S):
            while done.count("look") < 5:
                await asyncio.sleep(0.01)
    assert done.count("permission") == 1


async def test_a_new_turn_is_looked_up_once_for_a_crowd(
    conversation: Conversation, alices_token: str, hub_stopped: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ACCESS_CHECK_S = 3600
    turn, read_once, looks, askers, go = Conversation.turn, Hub.read_once, [], [], threading.Event()

    def looked_up(self: Conversation, stream: str) -> Any:
        looks.append(stream)
        assert go.wait(DEADLINE_S)
        return turn(self, stream)

    def asked(self: Hub, *arguments: Any) -> Any:
        askers.append(arguments)
        return read_once(self, *arguments)

    await sync_to_async(conversation.ask)("Hello")
    first = await Stream.objects.aget()
    async with engine_with(ScriptedProvider(["Hi"])):
        await ended(first.pk)
    async with AsyncExitStack() as stack:
        kinds = ["", "?render=html"] * 5
        crowd = [await stack.enter_async_context(connected(conversation, alices_token, kind)) for kind in kinds]
        for socket in crowd:
            await socket.say({"type": "attach", "after": {str(first.pk): 0}})
            await socket.until("end")
        monkeypatch.setattr(Conversation, "turn", looked_up)
        monkeypatch.setattr(Hub, "read_once", asked)
        await crowd[0].say(ask(0))
        async with asyncio.timeout(DEADLINE_S):
            while len(askers) < len(crowd):
                await asyncio.sleep(0.01)
        go.set()
        for socket in crowd:
            assert (await socket.until("turn"))[-1]["prompt"]["key"] == KEYS[0]
    assert len(looks) == 2


@pytest.mark.parametrize(("what", "code"), [("token", consumers.FORBIDDEN), ("conversation", consumers.NOT_FOUND)])
@pytest.mark.parametrize("when", ["at once, by a command", "later, without one"])
async def test_permission_that_ends_closes_the_connection_with_its_code(
    what: str, code: int, when: str, conversation: Conversation, alices_token: str, hub_stopped: None, settings: Any
) -> None:
    settings.ACCESS_CHECK_S = 3600 if "command" in when else 0.1
    async with connected(conversation, alices_token) as socket:
        await socket.say({"type": "attach"})
        rows = Token.objects.all() if what == "token" else Conversation.objects.all()
        await sync_to_async(rows.delete)()
        if "command" in when:
            await socket.say(ask(0))
        assert await socket.communicator.receive_output(DEADLINE_S) == {"type": "websocket.close", "code": code}
    assert await Stream.objects.acount() == 0


def test_no_frame_is_larger_than_the_limit() -> None:
    rows = [frames.Row(n, "text", "\1" * frames.ROW_CHARS, None) for n in range(1, 6)]
    sent = Piece("01a1fcba-f9b5-735e-9f13-81f029314cee", 0, tuple(rows)).native
    assert max(map(len, sent)) <= limits()["bytes in one frame"]
    assert max(len(json.loads(frame)["text"]) for frame in sent) == frames.FRAME_CHARS


# ------------------------------------------------------------------------------------------------- codes and numbers


def strings_in(path: str, call: str) -> set[str]:
    """The first arguments of all calls of `call` (or `x.call`) in a module that are strings."""
    nodes = [node for node in ast.walk(ast.parse((BASE_DIR / path).read_text())) if isinstance(node, ast.Call)]
    return {
        first.value
        for node in nodes
        if node.args and isinstance(first := node.args[0], ast.Constant) and isinstance(first.value, str)
        if call == (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None))
    }


def codes_of_failures() -> set[str]:
    """Every `code` that a failed stream can have: said with its sentence for people in the engine's modules."""
    found: set[str] = set()
    for path in sorted((BASE_DIR / "streaming").glob("*.py")):
        found |= strings_in(f"streaming/{path.name}", "ProviderError")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Tuple) and len(node.elts) == 2:
                code, sentence = (getattr(part, "value", None) for part in node.elts)
                if isinstance(code, str) and isinstance(sentence, str) and sentence.endswith("."):
                    found.add(code)
            elif isinstance(node, ast.Dict):
                names = [getattr(key, "value", None) for key in node.keys]
                if names == ["code", "detail"] and isinstance(node.values[0], ast.Constant):
                    found.add(str(node.values[0].value))
    return found


def first_cells(heading: str, *header: str) -> set[str]:
    return {row[0] for row in table(section(heading), *header)}


def test_the_codes_of_refusals_are_all_there() -> None:
    refused = strings_in("conversations/consumers.py", "_refuse") | strings_in("conversations/models.py", "Refused")
    refused |= strings_in("conversations/spectators.py", "_refuse") | strings_in("conversations/budgets.py", "Refused")
    assert first_cells("`error`", "code", "meaning") == refused


def test_the_codes_of_failed_streams_are_all_there() -> None:
    assert first_cells("`end`", "code", "the model's server") == codes_of_failures()


def test_the_codes_of_event_streams_are_all_there() -> None:
    rows = table(section("Server-sent events"), "status", "meaning")
    said = {int(status): meaning.split("`")[0] for status, meaning in rows}
    assert {status: code for status, code in said.items() if status >= 400} == {
        status: code for status, (code, _) in events.REFUSALS.items()
    }
    assert first_cells("Server-sent events", "code", "meaning") == strings_in(
        "conversations/api/following.py", "BrokenOff"
    )


def test_the_close_codes_are_those_of_the_code() -> None:
    said = first_cells("Credentials", "close code", "meaning", "what the client does")
    assert said == {str(code) for code in (consumers.FORBIDDEN, consumers.NOT_FOUND, consumers.BROKEN, 1009)}


def test_the_statuses_and_kinds_are_those_of_the_code() -> None:
    said = {status: final for status, final, _ in table(section("The log"), "status", "final", "meaning")}
    assert said == {status: "no" if status in LIVE else "yes" for status in Status.values}
    kinds = {*frames.SPOKEN, frames.RETRY, frames.RESTART, frames.END}
    assert first_cells("The log", "kind", "what it is") == kinds


def limits() -> dict[str, int]:
    return {row[0]: int(row[1].replace(",", "")) for row in table(section("Limits"), "limit", "value", "")}


def test_the_limits_are_those_of_the_code() -> None:
    constants = {
        "streams named in one `attach": commands.ATTACH_STREAMS,
        "characters in one row": frames.ROW_CHARS,
        "characters in one delta": frames.FRAME_CHARS,
        "bytes in one frame": 2**20,
    }
    defaults = read_variables()
    assert limits() == {
        name: constants[name] if name in constants else int(defaults.get(name, "-1")) for name in limits()
    }


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    said = dict(re.findall(r"`([A-Z_]+(?:_S|_BYTES))`\s\(([\d,]+)(?: s)?\)", DOC))
    assert set(said) >= {"ACCESS_CHECK_S", "READER_UNACKED_BYTES", "SSE_HEARTBEAT_S"}
    assert {name: number.replace(",", "") for name, number in said.items()} == {
        name: read_variables()[name] for name in said
    }
    assert f"at most {frames.FRAME_CHARS:,} characters" in DOC
    assert f"at most {commands.ATTACH_STREAMS} streams" in DOC


# ------------------------------------------------------------------------------------- event streams and the JSON API


async def test_the_example_of_events_is_what_comes(
    conversation: Conversation, alices_token: str, hub_stopped: None
) -> None:
    gate = asyncio.Event()
    headers = {"Authorization": f"Bearer {alices_token}"}
    async with engine_with(ScriptedProvider(["Hi", gate, Finish("stop", None)])):
        stream = (await sync_to_async(conversation.ask)("Hello?")).stream_id
        response = await AsyncClient().get(f"/api/streams/{stream}/events/", headers=headers)
        came = ""
        async for part in response.streaming_content:  # type: ignore[attr-defined]
            came += part.decode()
            if "delta" in came:
                gate.set()
    said, error = (events_of(block) for block in re.findall(r"^```events\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL))
    retry, delta, end = events_of(came)
    assert retry == said[0] == {"retry": str(events.RETRY_MS)}
    for here, there in ((delta, said[1]), (end, said[2])):
        assert shape(json.loads(here["data"])) == shape(json.loads(there["data"]))
        assert here["id"] == str(json.loads(here["data"])["seq"])
        assert there["id"] == str(json.loads(there["data"])["seq"])
    assert shape(json.loads(error[0]["data"])) == shape(json.loads(events.failure("x", "y").removeprefix(b"data: ")))


def test_the_calls_of_the_api_are_those_of_the_schema() -> None:
    generator: Any = SchemaGenerator
    schema = generator().get_schema(public=True)
    calls = {f"{method.upper()} {path}" for path, item in schema["paths"].items() for method in item}
    assert first_cells("The JSON API", "call", "what it does") == calls - {"GET /api/schema/"}


async def test_the_codes_of_the_api_are_those_that_come(
    conversation: Conversation, alices_token: str, settings: Any
) -> None:
    alices = {"Authorization": f"Bearer {alices_token}"}
    client = AsyncClient(raise_request_exception=False)
    settings.THROTTLE_VISITORS = "1/min"
    responses = [response async for response in refusals(client, conversation, alices)]
    said = {(int(status), code) for status, code, _ in table(section("What is refused"), "status", "code", "meaning")}
    assert {(response.status_code, response.json()["code"]) for response in responses} == said
    (example,) = examples("error")
    assert responses[0].json() == example
    assert all(set(response.json()) <= set(example) for response in responses)


async def refusals(client: AsyncClient, conversation: Conversation, alices: dict[str, str]) -> AsyncIterator[Any]:
    """The responses to calls that are refused, each for another reason."""
    stream = (await sync_to_async(conversation.ask)("Hello?", UUID(KEYS[0]))).stream_id
    messages = f"/api/conversations/{conversation.pk}/messages/"

    async def post(body: Any, **headers: str) -> Any:
        return await client.post(messages, body, content_type=JSON, headers=alices | headers)

    yield await post({})
    yield await post("nonsense")
    yield await post({"text": "x" * 1_000_000})
    yield await post({"text": "More?"})
    yield await post({"text": "Else?"}, **{"Idempotency-Key": KEYS[0]})
    yield await post({"text": "More?", "parent": KEYS[0]})
    yield await post("", **{"Transfer-Encoding": "chunked"})
    yield await client.post(messages, "text", content_type="text/plain", headers=alices)
    yield await client.put("/api/me/", headers=alices)
    yield await client.get("/api/me/")
    yield await client.get("/api/me/", headers={"Authorization": "Bearer no"})
    yield await client.get(f"/api/streams/{UUID(KEYS[0])}/", headers=alices)
    yield await client.get(f"/api/streams/{stream}/events/?after=x", headers=alices)
    other = await Conversation.objects.acreate(owner_id=conversation.owner_id)
    opening = f"/api/conversations/{other.pk}/streams/"
    fed = (await client.post(opening, {"text": "Hi"}, content_type=JSON, headers=alices)).json()
    for lease, after in ((KEYS[0], 0), (fed["lease"], 3)):
        words = {"lease": lease, "after": after, "chunks": [{"text": "Hello"}]}
        yield await client.post(f"/api/streams/{fed['stream']}/chunks/", words, content_type=JSON, headers=alices)
    yield [await client.post("/api/visitors/") for _ in range(2)][1]
    strict = AsyncClient(enforce_csrf_checks=True)
    await strict.aforce_login(await User.objects.aget(username="alice"))
    yield await strict.post("/api/conversations/", {}, content_type=JSON)
    with patch.object(people, "MOST_TOKENS", 0):
        yield await client.post("/api/tokens/", {"name": "phone"}, content_type=JSON, headers=alices)
    with override_settings(USER_STREAMS=1):
        yield await post({"text": "More?"})
    await Budget.objects.aupdate(chars_regained_at=datetime.now(UTC) + timedelta(days=1))
    with override_settings(USER_DAY_CHARS=1):
        yield await post({"text": "More?"})
    with patch.object(Conversation, "ask", side_effect=ZeroDivisionError):
        yield await post({"text": "More?"})
