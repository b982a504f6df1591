"""The official openai packages, unmodified, at the real server: cut off anywhere, killed, one site behind another."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest

from chatsite.settings import database
from tests import sdks
from tests.columns import ROOT
from tests.modelscript import expected_text
from tests.processes import Client, Server, directive, server

pytestmark = pytest.mark.timeout(120)
LINES = pytest.mark.parametrize("line", [sdks.CURRENT, sdks.OLDER])
DOC = (ROOT / "docs/clients.md").read_text()
TERMINAL = {"response.completed", "response.incomplete", "response.failed"}
WANTED = {"words": 40, "delay_s": 0.02, "reasoning": "Let me think 🤔 about it."}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, model_url: str) -> Iterator[Client]:
    """For tests that leave the site as it was."""
    with server(tmp_path_factory.mktemp("site"), model_url) as site, Client(site) as client:
        yield client


def sdk(client: Client) -> openai.OpenAI:
    """To be closed: what the garbage collector finds of one may be its open connection first."""
    return openai.OpenAI(base_url=f"{client.site.url}/v1", api_key=client.token, max_retries=0)


def begun(client: Client, **wanted: Any) -> str:
    """An answer that is being written."""
    with sdk(client) as caller:
        asked = caller.responses.create(model="test-model", input=directive(**wanted), background=True)
    assert asked.status in ("queued", "in_progress")
    return asked.id


def slowly(words: int) -> str:
    """A prompt that nobody else asks, for so many words."""
    return directive(text=f"{uuid4()} " * words, delay_s=0.02)


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def gone_of(model_url: str, prompt: str) -> list[Any]:
    """When the clients of the model's server hung up, for each request with this prompt."""
    asked = httpx.get(model_url.removesuffix("/v1") + "/requests").json()
    return [each["gone_at"] for each in asked if each["body"]["messages"][-1]["content"] == prompt]


# ------------------------------------------------------------------------------------------------------- both packages


@LINES
def test_cut_off_behind_every_event_and_resumed_it_is_exact(line: str, shared: Client) -> None:
    came = sdks.run("boundaries.py", line, shared.site.url, shared.token, directive(**WANTED))
    assert came["version"].startswith("1.") == (line == sdks.OLDER)
    assert came["cut"] == came["whole"] and len(came["cut"]) > 20
    assert came["wrong"] == []
    assert came["helped"] == [event["type"] for event in came["whole"]][4:]
    assert text_of(came["cut"]) == came["text"] == came["final"] == expected_text(WANTED)
    numbers = [event["sequence_number"] for event in came["whole"]]
    assert numbers == sorted(set(numbers)) and numbers[0] == 0


@LINES
def test_every_call_of_the_package_works(line: str, shared: Client, model_url: str) -> None:
    long = slowly(500)
    came = sdks.run("calls.py", line, shared.site.url, shared.token, directive(**WANTED), long)
    answer = expected_text(WANTED)
    assert came["plain"] == came["followed"] == came["completion"] == came["chunks"] == answer
    assert came["thoughts"] == WANTED["reasoning"]
    assert came["usage"] == came["completion_usage"] == came["chunks_usage"] == 47
    assert came["follow_up"] == came["previous"] and came["conversations"] == 1
    assert (came["cancelled"], came["deleted"]) == ("cancelled", "NotFoundError")
    assert (came["models"], came["model"]) == (["test-model"], "test-model")
    assert came["refusals"] == {
        "tools": ["BadRequestError", "unsupported_value", "tools"],
        "model": ["NotFoundError", "model_not_found", "model"],
        "key": ["AuthenticationError", "invalid_api_key", None],
    }
    (gone,) = gone_of(model_url, long)
    assert gone


# ---------------------------------------------------------------------------------------------- many readers, and none


async def test_readers_that_come_and_go_all_get_the_same_events(shared: Client) -> None:
    wanted = {"words": 150, "delay_s": 0.01}
    response = await asyncio.to_thread(begun, shared, **wanted)
    async with openai.AsyncOpenAI(base_url=f"{shared.site.url}/v1", api_key=shared.token, max_retries=0) as client:

        async def read(at_once: int) -> list[dict[str, Any]]:
            """Never more than so many events over one connection."""
            came: list[dict[str, Any]] = []
            while not came or came[-1]["type"] not in TERMINAL:
                after = {"starting_after": came[-1]["sequence_number"]} if came else {}
                stream = await client.responses.retrieve(response, stream=True, **after)
                for _ in range(at_once):
                    came.append((await anext(aiter(stream))).to_dict())
                    if came[-1]["type"] in TERMINAL:
                        break
                await stream.close()
            return came

        first, *others = await asyncio.gather(*(read(at_once) for at_once in (1000, 3, 7, 11, 20, 50)))
    assert text_of(first) == expected_text(wanted)
    assert all(came == first for came in others)


def test_an_answer_goes_on_without_its_client(shared: Client) -> None:
    wanted = {"words": 60, "delay_s": 0.02}
    with sdk(shared) as caller:
        stream = caller.responses.create(model="test-model", input=directive(**wanted), stream=True)
        created: Any = next(iter(stream))
        stream.close()
        came = [event.to_dict() for event in caller.responses.retrieve(created.response.id, stream=True)]
    assert text_of(came) == expected_text(wanted)


def test_a_completion_that_is_left_ends_unless_it_can_be_asked_for_again(shared: Client, model_url: str) -> None:
    asked: dict[str, Any] = {"model": "test-model", "stream": True}
    for key in (None, str(uuid4())):
        prompt = slowly(100)
        headers = {"Idempotency-Key": key} if key else {}
        messages: Any = [{"role": "user", "content": prompt}]
        with sdk(shared) as caller:
            stream = caller.chat.completions.create(messages=messages, extra_headers=headers, **asked)
            for _, _ in zip(range(3), stream, strict=False):
                pass
            stream.close()
            if key is None:
                assert ends(shared, prompt) == "stopped"
                assert gone_of(model_url, prompt)[0]
            else:
                again = caller.chat.completions.create(messages=messages, extra_headers=headers, **asked)
                said = "".join(chunk.choices[0].delta.content or "" for chunk in again)
                assert said == expected_text(json.loads(prompt))


def ends(client: Client, prompt: str) -> str:
    """How the answer to this prompt ended."""
    for conversation in client.http.get("/conversations/").json()["results"]:
        asked, reply = client.http.get(f"/conversations/{conversation['id']}/messages/").json()["results"][:2]
        if asked["text"] == prompt:
            with client.http.stream("GET", f"/streams/{reply['stream']}/events/") as response:
                *_, last = [line for line in response.iter_lines() if line.startswith("data: ")]
            return str(json.loads(last[6:])["status"])
    raise AssertionError("nobody asked that")


# --------------------------------------------------------------------------------------------------- what goes wrong


def test_an_attempt_that_broke_off_raises_and_reading_on_gives_the_right_text(shared: Client) -> None:
    wanted = {"words": 31, "cut_after": 10, "fail_times": 1, "delay_s": 0.02}
    response = begun(shared, **wanted)
    came: list[dict[str, Any]] = []
    with sdk(shared) as caller:
        with pytest.raises(openai.APIError) as told:
            came.extend(event.to_dict() for event in caller.responses.retrieve(response, stream=True))
        assert 0 < len(text_of(came)) < len(expected_text(wanted))
        assert (told.value.code, type(told.value)) == ("answer_restarted", openai.APIError)
        after = told.value.body["sequence_number"]  # type: ignore[index]
        rest = [event.to_dict() for event in caller.responses.retrieve(response, stream=True, starting_after=after)]
        assert text_of(rest) == expected_text(wanted) == caller.responses.retrieve(response).output_text


def test_a_failure_is_a_failed_response_and_a_refused_completion(shared: Client) -> None:
    prompt = directive(words=5, status=400)
    messages: Any = [{"role": "user", "content": prompt}]
    with sdk(shared) as caller:
        failed = caller.responses.create(model="test-model", input=prompt)
        assert failed.error and (failed.status, failed.error.code) == ("failed", "invalid_prompt")
        *_, last = caller.responses.create(model="test-model", input=prompt, stream=True)
        assert last.type == "response.failed"
        with pytest.raises(openai.BadRequestError):
            caller.chat.completions.create(model="test-model", messages=messages)
        with pytest.raises(openai.APIError, match="did not accept"):
            list(caller.chat.completions.create(model="test-model", messages=messages, stream=True))


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_server_that_goes_is_noticed_and_the_rest_is_read_from_the_next(
    how: str, client: Client, site: Server
) -> None:
    wanted = {"words": 120, "delay_s": 0.02}
    response, came = begun(client, **wanted), []
    with sdk(client) as caller:
        with pytest.raises((openai.APIConnectionError, openai.APIError)):
            for event in caller.responses.retrieve(response, stream=True):
                came.append(event.to_dict())
                if len(came) == 20:
                    getattr(site, how)()
        assert came[-1]["type"] not in TERMINAL
        site.start()
        assert read_on(caller, response, came) == expected_text(wanted)
        assert caller.responses.retrieve(response).output_text == expected_text(wanted)


def read_on(caller: openai.OpenAI, response: str, came: list[dict[str, Any]]) -> str:
    """Follow to the end as docs/clients.md says, from what came so far."""
    after = came[-1]["sequence_number"]
    try:
        rest = caller.responses.retrieve(response, stream=True, starting_after=after)
        came.extend(event.to_dict() for event in rest)
    except openai.APIError as told:
        assert told.code == "answer_restarted"
        came[:] = [{"type": "restart", "sequence_number": told.body["sequence_number"]}]  # type: ignore[index]
        return read_on(caller, response, came)
    assert came[-1]["type"] == "response.completed"
    return text_of(came)


# ------------------------------------------------------------------------------------- one site behind another


@pytest.fixture
def front(tmp_path: Path, shared: Client) -> Iterator[Client]:
    """A site whose model's server is another site."""
    key = {"OPENAI_API_KEY": shared.token, "STREAM_BACKOFF_S": "0.1"}
    with server(tmp_path, f"{shared.site.url}/v1", **key) as site, Client(site) as client:
        yield client


def test_a_site_can_be_the_models_server_of_another(front: Client, shared: Client, model_url: str) -> None:
    conversation = front.new_conversation()
    for wanted in (WANTED, {"words": 33, "cut_after": 10, "fail_times": 1}):
        stream = front.ask(conversation, directive(**wanted))
        with front.http.stream("GET", f"/streams/{stream}/events/") as response:
            assert response.read()
        said = front.stream(stream)
        assert (said["status"], said["text"]) == ("done", expected_text(wanted))
        assert said["reasoning"] == wanted.get("reasoning", "")
        assert said["usage"]["completion_tokens"] == wanted["words"]


def test_stop_at_the_front_ends_the_answer_behind_and_its_request(
    front: Client, shared: Client, model_url: str
) -> None:
    prompt = slowly(1000)
    stream = front.ask(front.new_conversation(), prompt)
    with front.http.stream("GET", f"/streams/{stream}/events/") as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                front.http.post(f"/streams/{stream}/stop/")
    assert front.stream(stream)["status"] == "stopped"
    assert ends(shared, prompt) == "stopped"
    assert gone_of(model_url, prompt)[0]


# ------------------------------------------------------------------------------------------------------- the document


def test_the_documents_program_reads_to_the_end_whatever_happens(client: Client, site: Server, tmp_path: Path) -> None:
    wanted = {"words": 150, "delay_s": 0.02}
    (code,) = re.findall(r"^```python openai\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
    program = tmp_path / "program.py"
    program.write_text(code.replace("Why is the sky blue?", directive(**wanted).replace('"', '\\"')))
    known = {"OPENAI_BASE_URL": f"{site.url}/v1", "OPENAI_API_KEY": client.token}
    command = [sys.executable, str(program)]
    with subprocess.Popen(command, env=os.environ | known, stdout=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 20
        while not half_written(client):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        site.kill()
        site.start()
        said, _ = running.communicate(timeout=60)
    assert (running.returncode, said) == (0, expected_text(wanted) + "\n")


def half_written(client: Client) -> bool:
    """Whether the one answer of the site has begun to speak."""
    for conversation in client.http.get("/conversations/").json()["results"]:
        messages = client.http.get(f"/conversations/{conversation['id']}/messages/").json()["results"]
        return any(len(message["text"]) > 20 for message in messages if message["role"] == "assistant")
    return False


def test_readers_of_long_answers_keep_no_connection_from_the_others(client: Client) -> None:
    many = database("postgresql://db/chat")["OPTIONS"]["pool"]["max_size"] + 2
    with sdk(client) as caller, ExitStack() as streams:
        for _ in range(many):
            streams.enter_context(caller.responses.create(input=directive(words=300, delay_s=0.2), stream=True))
        assert client.http.get("/me/").status_code == 200
