"""OpenAI's API: events as a function of the log, what is asked of the model, what is refused and how."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from conversations.api import openai
from conversations.api.openai_errors import ApiError
from conversations.api.openai_inputs import Asked, CompletionInput, ResponseInput
from conversations.api.responses import SLOTS, Answer, Transcript, number
from conversations.models import Conversation, Message, Token, User
from streaming.compaction import compact
from streaming.frames import REASONING, RESTART, RETRY, TEXT, Row
from streaming.models import Chunk, Entry, Outcome, Stream
from tests.conftest import stream_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("hub_stopped")]
JSON = "application/json"
TERMINAL = {"response.completed", "response.incomplete", "response.failed"}
ANSWER = Answer(uuid.uuid4(), "t", uuid.uuid4(), None, 0, {"model": "demo"}, waiting=False)
# A log in which everything happens.
LOG = (
    Row(1, REASONING, "Hm", None),
    Row(2, TEXT, "Wro", None),
    Row(3, TEXT, "ng", None),
    Row(4, RETRY, "", {"attempt": 2, "of": 3, "wait_s": 1, "reason": "cut"}),
    Row(5, RESTART, "", {"attempt": 2}),
    Row(6, REASONING, "Well", None),
    Row(7, TEXT, "Ri", None),
    Row(8, TEXT, "ght", None),
)
END = Outcome("done", "stop", {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})


class Program(AsyncClient):
    """Sends a token in each request, where Django's own would only show it in the wrong place."""

    secret = ""

    async def request(self, **request: Any) -> Any:
        headers = [*request.pop("headers", []), (b"authorization", f"Bearer {self.secret}".encode())]
        return await super().request(**request, headers=headers)


@pytest.fixture
def at_v1(alice: User) -> AsyncClient:
    program = Program(raise_request_exception=False)
    program.secret = Token.objects.issue(alice)
    return program


@pytest.fixture
def written(reply: Message) -> Stream:
    return write(stream_of(reply), LOG, END)


def write(pk: uuid.UUID, rows: Iterable[Row], outcome: Outcome | None = None) -> Stream:
    stream = Stream.objects.claim(pk, "elsewhere", 60)
    assert stream is not None and stream.lease is not None
    rows = tuple(rows)
    ended = (Row(rows[-1].seq + 1, "end", "", outcome.data()),) if outcome else ()
    Stream.objects.append([Entry(stream.pk, stream.lease, (*rows, *ended), outcome=outcome)])
    return stream


def read_sse(body: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]


async def events(client: AsyncClient, stream: Stream, after: int | None = None) -> list[dict[str, Any]]:
    query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    response = await client.get(f"/v1/responses/resp_{stream.pk.hex}", query)
    assert response.status_code == 200, response.content
    return read_sse(b"".join([part async for part in response]))  # type: ignore[attr-defined]


def text_of(found: Iterable[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")


async def ask(client: AsyncClient, path: str = "responses", key: str = "", **body: Any) -> Any:
    wanted = {"messages" if path.startswith("chat") else "input": [{"role": "user", "content": "Why?"}], **body}
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post(f"/v1/{path}", json.dumps(wanted), content_type=JSON, headers=headers)


async def asked(client: AsyncClient, **body: Any) -> dict[str, Any]:
    response = await ask(client, background=True, **body)
    assert response.status_code == 200, response.content
    said: dict[str, Any] = response.json()
    return said


async def request_of(response: dict[str, Any]) -> dict[str, Any]:
    """The exact JSON sent to the model."""
    stream = await Stream.objects.aget(pk=uuid.UUID(response["id"].removeprefix("resp_")))
    found: dict[str, Any] = stream.request
    return found


# ------------------------------------------------------------------------------------------------------- the mapping


def test_numbers_are_a_function_of_the_rows_and_grow() -> None:
    transcript = Transcript(ANSWER)
    numbers = [event["sequence_number"] for event in transcript.preamble()]
    for row in (*LOG, Row(9, "end", "", END.data())):
        found = [event["sequence_number"] for event in transcript.events(row)]
        assert all(number(row.seq) < each < number(row.seq + 1) for each in found)
        numbers += found
    assert numbers == sorted(set(numbers))


async def test_from_every_number_come_the_events_behind_it(written: Stream, at_v1: AsyncClient) -> None:
    whole = await events(at_v1, written)
    assert text_of(whole) == "Right"
    assert [event["type"] for event in whole if event["type"] in TERMINAL] == ["response.completed"]
    assert whole[-1]["response"] == (await at_v1.get(f"/v1/responses/resp_{written.pk.hex}")).json()
    for position, event in enumerate(whole):
        assert await events(at_v1, written, event["sequence_number"]) == whole[position + 1 :]


async def test_who_has_words_that_were_taken_back_is_told_and_reads_on(written: Stream, at_v1: AsyncClient) -> None:
    whole = await events(at_v1, written)
    for seen in (SLOTS, number(1, 10), number(3, 20), number(4), number(5) - 1):
        (told,) = await events(at_v1, written, seen)
        assert (told["type"], told["error"]["code"]) == ("error", "answer_restarted")
        assert await events(at_v1, written, told["sequence_number"]) == whole[2:]


async def test_a_restart_ends_the_events_of_who_has_words_and_of_nobody_else(
    reply: Message, at_v1: AsyncClient
) -> None:
    stream = await sync_to_async(write)(stream_of(reply), LOG[:3])
    following = await at_v1.get(f"/v1/responses/resp_{stream.pk.hex}", {"stream": "true"})
    parts = aiter(following.streaming_content)  # type: ignore[attr-defined]
    heard = [await anext(parts), await anext(parts)]
    assert stream.lease is not None
    end = Row(9, "end", "", END.data())
    await sync_to_async(Stream.objects.append)([Entry(stream.pk, stream.lease, (*LOG[3:], end), outcome=END)])
    found = read_sse(b"".join(heard + [part async for part in parts]))
    assert text_of(found) == "Wrong"
    assert (found[-1]["type"], found[-1]["sequence_number"]) == ("error", number(5))


async def test_positions_stay_valid_after_compaction(written: Stream, at_v1: AsyncClient) -> None:
    before = await events(at_v1, written)
    shown = {event["sequence_number"]: text_of(before[: n + 1]) for n, event in enumerate(before)}
    await sync_to_async(compact)(written.pk)
    assert await Chunk.objects.filter(stream=written).acount() < len(LOG)
    for after, text in shown.items():
        rest = await events(at_v1, written, after)
        assert text + text_of(rest) == "Right"
        assert after == before[-1]["sequence_number"] or rest[-1]["type"] == "response.completed"


@pytest.mark.parametrize("after", ["900", "99999999999", "999999999999999999999", "-1", "x", "1.5", "٣"])
async def test_a_position_that_nobody_can_have_is_refused(after: str, written: Stream, at_v1: AsyncClient) -> None:
    query = {"stream": "true", "starting_after": after}
    response = await at_v1.get(f"/v1/responses/resp_{written.pk.hex}", query)
    if after == "900":  # Inside the last row.
        assert response.status_code == 200
    else:
        assert (response.status_code, response.json()["error"]["param"]) == (400, "starting_after")


@pytest.mark.parametrize(
    ("outcome", "event", "status", "more"),
    [
        (Outcome("done", "stop"), "completed", "completed", {}),
        (
            Outcome("done", "length"),
            "incomplete",
            "incomplete",
            {"incomplete_details": {"reason": "max_output_tokens"}},
        ),
        (
            Outcome("done", "content_filter"),
            "incomplete",
            "incomplete",
            {"incomplete_details": {"reason": "content_filter"}},
        ),
        (Outcome("stopped"), "incomplete", "cancelled", {"error": None}),
        (
            Outcome("timeout", error={"code": "silence", "detail": "Silent."}),
            *("failed", "failed", {"error": {"code": "server_error", "message": "Silent."}}),
        ),
        (
            Outcome("error", error={"code": "rate_limited", "detail": "Busy."}),
            *("failed", "failed", {"error": {"code": "rate_limit_exceeded", "message": "Busy."}}),
        ),
        (
            Outcome("interrupted", error={"code": "interrupted", "detail": "Too often."}),
            *("failed", "failed", {"error": {"code": "server_error", "message": "Too often."}}),
        ),
    ],
)
def test_an_end_is_told_in_openais_words(outcome: Outcome, event: str, status: str, more: dict[str, Any]) -> None:
    transcript = Transcript(ANSWER)
    transcript.add(Row(1, TEXT, "So", None))
    *_, last = transcript.events(Row(2, "end", "", outcome.data()))
    assert (last["type"], last["response"]["status"]) == (f"response.{event}", status)
    assert last["response"] | more == last["response"]
    assert last["response"]["output"][0]["status"] == ("completed" if status == "completed" else "incomplete")
    assert last["response"]["output"][0]["content"][0]["text"] == "So"


# -------------------------------------------------------------------------------------------- what the model is asked


async def test_a_string_is_a_prompt_in_a_new_conversation(at_v1: AsyncClient, settings: Settings) -> None:
    settings.LLM_SYSTEM_PROMPT = "Be kind."
    said = await asked(at_v1, input="Why?", temperature=0.5, max_output_tokens=9, reasoning={"effort": "low"})
    request = await request_of(said)
    system, prompt = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}
    assert (said["status"], said["model"], request["messages"]) == ("queued", "demo", [system, prompt])
    assert (request["temperature"], request["max_completion_tokens"], request["reasoning_effort"]) == (0.5, 9, "low")
    assert (said["temperature"], said["max_output_tokens"], said["reasoning"]["effort"]) == (0.5, 9, "low")


async def test_a_conversation_goes_on_behind_a_response_with_what_was_said_elsewhere(at_v1: AsyncClient) -> None:
    items = [
        {"role": "developer", "content": "Rhyme."},
        {"role": "user", "content": [{"type": "input_text", "text": "One"}, {"type": "input_text", "text": "two"}]},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
         "content": [{"type": "output_text", "text": "Three", "annotations": [], "logprobs": None}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "user", "content": "And?"},
    ]  # fmt: skip
    first = await asked(at_v1, input=items)
    stream = await Stream.objects.aget()
    await sync_to_async(write)(stream.pk, [Row(1, TEXT, "Four", None)], END)
    second = await asked(at_v1, previous_response_id=first["id"], instructions="Be brief.")
    assert (second["previous_response_id"], second["conversation"]) == (first["id"], first["conversation"])
    assert [(each["role"], each["content"]) for each in (await request_of(second))["messages"]] == [
        *[("system", "Be brief."), ("system", "Rhyme."), ("user", "One\ntwo"), ("assistant", "Three")],
        *[("user", "And?"), ("assistant", "Four"), ("user", "Why?")],
    ]


async def test_an_edited_prompt_keeps_what_was_said_before_it(at_v1: AsyncClient, alice: User) -> None:
    first = await asked(at_v1, input=[{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Why?"}])
    await sync_to_async(write)((await Stream.objects.aget()).pk, [Row(1, TEXT, "So", None)], END)
    conversation = await Conversation.objects.aget(pk=uuid.UUID(first["conversation"]["id"][5:]))
    prompt = await conversation.messages.aget(role="user")
    reply = await sync_to_async(conversation.edit)(prompt.pk, "Where?")
    sent = (await Stream.objects.aget(message=reply)).request["messages"]
    assert sent == [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Where?"}]


async def test_a_response_can_be_asked_for_in_a_conversation(
    conversation: Conversation, at_v1: AsyncClient, bob: User
) -> None:
    for named in (f"conv_{conversation.pk.hex}", {"id": str(conversation.pk)}):
        said = await asked(at_v1, conversation=named)
        assert said["conversation"]["id"] == f"conv_{conversation.pk.hex}"
        await sync_to_async(conversation.clear)()
    foreign = await Conversation.objects.acreate(owner=bob)
    for unknown in (f"conv_{foreign.pk.hex}", "conv_1"):
        assert (await ask(at_v1, conversation=unknown)).status_code == 404
    busy = await ask(at_v1, previous_response_id=said["id"])
    assert (busy.status_code, busy.json()["error"]["code"]) == (400, "previous_response_not_found")


async def test_while_an_answer_is_written_its_conversation_takes_no_other(at_v1: AsyncClient) -> None:
    said = await asked(at_v1)
    busy = await ask(at_v1, previous_response_id=said["id"])
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "busy")


@pytest.mark.parametrize("key", ["0b2f1f5e-5c0a-4a53-9a58-0c9c8f1f6a10", "stainless-python-retry-1"])
async def test_asking_twice_with_one_key_asks_once(key: str, at_v1: AsyncClient, settings: Settings) -> None:
    settings.THROTTLE_PROMPTS = "1/min"
    first, second = [await ask(at_v1, key=key, background=True) for _ in range(2)]
    assert first.json() == second.json() and first.status_code == second.status_code == 200
    assert "Idempotent-Replayed" not in first and second["Idempotent-Replayed"] == "true"
    other = await ask(at_v1, key=key, input="Something else", background=True)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "key_reused")
    often = await ask(at_v1, background=True)
    assert (often.status_code, often.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(often["Retry-After"]) <= 60


async def test_a_deleted_response_is_gone_and_what_followed_moves_up(at_v1: AsyncClient) -> None:
    said = [await asked(at_v1)]
    for n in range(2):
        pk = uuid.UUID(said[-1]["id"][5:])
        await sync_to_async(write)(pk, [Row(1, TEXT, f"Answer {n}", None)], END)
        said.append(await asked(at_v1, previous_response_id=said[-1]["id"]))
    path = f"/v1/responses/{said[1]['id']}"
    assert (await at_v1.delete(path)).json() == {"id": said[1]["id"], "object": "response", "deleted": True}
    assert (await at_v1.get(path)).status_code == (await at_v1.delete(path)).status_code == 404
    last = (await at_v1.get(f"/v1/responses/{said[2]['id']}")).json()
    assert last["previous_response_id"] == said[0]["id"] and last["status"] == "queued"
    for each in (said[2], said[0]):
        await at_v1.delete(f"/v1/responses/{each['id']}")
    assert not await Conversation.objects.aexists() and not await Stream.objects.aexists()


# ----------------------------------------------------------------------------------------------------- what is refused

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "tools": ({"tools": [{"type": "web_search"}]}, "tools"),
    "a tool": ({"tool_choice": "required"}, "tool_choice"),
    "no storing": ({"store": False}, "store"),
    "metadata": ({"metadata": {"a": "b"}}, "metadata"),
    "an image": ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.type"),
    "a call": ({"input": [{"type": "function_call_output", "call_id": "1", "output": ""}]}, "input.0.role"),
    "a typing error": ({"temprature": 1}, "temprature"),
    "heat": ({"temperature": 3}, "temperature"),
    "heat in words": ({"temperature": "hot"}, "temperature"),
    "a number for a flag": ({"stream": 1}, "stream"),
    "no input": ({"input": None}, "input"),
    "empty input": ({"input": []}, "input"),
    "blank input": ({"input": " "}, "input"),
    "input of numbers": ({"input": [1]}, "input.0"),
    "long input": ({"input": "x" * 100_001}, "input"),
    "an answer last": ({"input": [{"role": "assistant", "content": "So."}]}, "input"),
    "prompt": ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    "include": ({"include": ["reasoning.encrypted_content"]}, "include"),
    "truncation": ({"truncation": "disabled"}, "truncation"),
    "summaries": ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
    "a grammar": ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    "no model of ours": ({"model": "gpt-9"}, "model"),
    "two places": ({"previous_response_id": "resp_1", "conversation": "conv_1"}, "conversation"),
    "an unknown response": ({"previous_response_id": "resp_1"}, "previous_response_id"),
}  # fmt: skip
COMPLETIONS: dict[str, tuple[dict[str, Any], str]] = {
    "several": ({"n": 2}, "n"),
    "logprobs": ({"logprobs": True}, "logprobs"),
    "functions": ({"functions": [{"name": "f"}]}, "functions"),
    "audio": ({"modalities": ["text", "audio"]}, "modalities.1"),
    "a tool's message": ({"messages": [{"role": "tool", "content": "1", "tool_call_id": "x"}]}, "messages.0.role"),
    "a schema that is none": ({"response_format": {"type": "json_schema"}}, "response_format"),
    "input": ({"input": "Why?"}, "input"),
    "penalty": ({"presence_penalty": 5}, "presence_penalty"),
}
CASES = [("responses", *case) for case in REFUSED.values()] + [
    ("chat/completions", *case) for case in COMPLETIONS.values()
]


@pytest.mark.parametrize(("path", "body", "param"), CASES, ids=[*REFUSED, *COMPLETIONS])
async def test_what_is_not_supported_is_refused_by_name(
    path: str, body: dict[str, Any], param: str, at_v1: AsyncClient
) -> None:
    response = await ask(at_v1, path, **body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (404 if param == "model" else 400, param), error
    assert set(error) == {"message", "type", "param", "code"} and error["message"] and error["code"]
    assert not await Stream.objects.aexists()


async def test_what_asks_for_nothing_special_is_taken(at_v1: AsyncClient) -> None:
    usual = {"tools": [], "tool_choice": "auto", "store": True, "metadata": {}, "parallel_tool_calls": False}
    nulls = dict.fromkeys(
        ("temperature", "top_p", "instructions", "user", "max_output_tokens", "text", "previous_response_id")
    )
    said = await asked(at_v1, **usual, **nulls)
    assert set(await request_of(said)) == {"model", "messages", "stream", "stream_options"}


KINDS: list[type[Asked]] = [ResponseInput, CompletionInput]
NAMES = sorted(
    {field.alias or name for kind in KINDS for name, field in kind.model_fields.items()} | {"content", "type"}
)
BODIES = {
    "nothing": b"",
    "no json": b"input=Why",
    "half": b'{"input": "Wh',
    "a list": b"[]",
    "a string": b'"Why?"',
    "null": b"null",
    "deep": b'{"input":' + b"[" * 500 + b"]" * 500 + b"}",
    "very deep": b"[" * 200_000,
    "nan": b'{"input": "a", "temperature": NaN}',
    "infinity": b'{"input": "a", "temperature": 1e999}',
    "a huge number": b'{"input": "a", "max_output_tokens": ' + b"9" * 5000 + b"}",
    "nul": b'{"input": "a\\u0000b"}',
    "nul in a name": b'{"input": "a", "text": {"format": {"type": "json_schema", "schema": {"\\u0000": 1}}}}',
    "a surrogate": b'{"input": "\\ud83d"}',
    "latin-1": b'{"input": "caf\xe9"}',
}


@pytest.mark.parametrize("path", ["responses", "chat/completions"])
@pytest.mark.parametrize("what", BODIES)
async def test_a_body_that_is_no_request_is_refused(path: str, what: str, at_v1: AsyncClient) -> None:
    response = await at_v1.post(f"/v1/{path}", BODIES[what], content_type=JSON)
    assert response.status_code == 400 and response.json()["error"]["message"]
    assert not await Message.objects.aexists()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("Why?"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(NAMES), inner),
    max_leaves=8,
)
MESSAGES = st.just([{"role": "user", "content": "Why?"}]) | VALUES


@given(kind=st.sampled_from(KINDS), body=st.dictionaries(st.sampled_from(NAMES), VALUES), messages=MESSAGES)
def test_whatever_is_sent_is_refused_or_can_be_sent_on(kind: type[Asked], body: dict[str, Any], messages: Any) -> None:
    name = "messages" if kind is CompletionInput else "input"
    try:
        taken = kind.parse(json.dumps(body | {name: messages}).encode())
    except ApiError as refused:
        assert 400 <= refused.status < 500 and refused.body["message"] and refused.body["code"]
    else:
        assert taken.prompt.strip() and "\0" not in json.dumps(taken.wish().context)
        assert orjson.loads(orjson.dumps(taken.parameters())) == taken.parameters()


async def test_a_huge_body_is_refused(at_v1: AsyncClient) -> None:
    response = await at_v1.post("/v1/responses", json.dumps({"input": "x" * 1_000_001}), content_type=JSON)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


async def test_nobody_but_who_may_see_an_answer_cancels_it(written: Stream, at_v1: AsyncClient, bob: User) -> None:
    path = f"/v1/responses/resp_{written.pk.hex}/cancel"
    stranger = Program(raise_request_exception=False)
    stranger.secret = await sync_to_async(Token.objects.issue)(bob)
    assert [(await each.post(path)).status_code for each in (at_v1, stranger, AsyncClient())] == [200, 404, 401]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "/v1/", 404),
        ("post", "/v1/embeddings", 404),
        ("get", "/v1/responses/", 404),
        ("put", "/v1/responses", 405),
        ("get", "/v1/chat/completions", 405),
        ("get", "/v1/responses/resp_1", 404),
        ("get", "/v1/responses/%00", 404),
        ("post", "/v1/responses/x/cancel", 404),
        ("get", "/v1/models/a/b", 404),
        ("get", "/v1/responses/resp_1?include=x", 400),
        ("get", "/v1/responses/resp_1?stream=maybe", 400),
        ("get", "/v1/responses/resp_1?starting_after=1", 400),
    ],
)
async def test_every_refusal_has_openais_shape(method: str, path: str, status: int, at_v1: AsyncClient) -> None:
    response = await getattr(at_v1, method)(path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_failure_of_this_site_has_the_shape_too(at_v1: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(openai, "model", fail)
    response = await at_v1.get("/v1/models")
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
    assert "secret" not in response.content.decode()


async def test_models_are_those_of_the_site(at_v1: AsyncClient, settings: Settings) -> None:
    settings.LLM_MODELS = ["small", "org/large"]
    listed = (await at_v1.get("/v1/models")).json()
    assert [each["id"] for each in listed["data"]] == ["small", "org/large"]
    assert (await at_v1.get("/v1/models/org/large")).json() == listed["data"][1]
