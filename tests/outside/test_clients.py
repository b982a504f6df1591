"""The examples of docs/clients.md for the AI SDK, Durable Streams and own generators, run as they are written."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests import javascript
from tests.documents import example
from tests.modelscript import expected_text
from tests.processes import Client, Server, directive, server

pytestmark = pytest.mark.timeout(120)
WANTED = {"words": 120, "delay_s": 0.03}
WORDS = ["Good", " day", " to", " you"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model_url: str) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("site"), model_url) as site:
        yield site


def defined(code: str, name: str) -> Any:
    """A function that an example defines."""
    names: dict[str, Any] = {}
    exec(code, names)
    return names[name]


@pytest.mark.parametrize(("language", "kind"), [("jsx", "react"), ("js", "vue")])
def test_a_page_of_the_ai_sdk_closed_in_mid_answer_shows_it_all_when_opened_again(
    language: str, kind: str, client: Client
) -> None:
    given = {"kind": kind, "code": example(language, kind), "site": client.site.url, "token": client.token}
    given |= {"id": str(uuid4()), "prompt": directive(**WANTED)}
    came = json.loads(javascript.run(javascript.FOLDER / "pages.mjs", json.dumps(given)))
    assert 0 < came["partial"] < len(expected_text(WANTED))
    assert (came["text"], came["paragraphs"]) == (expected_text(WANTED), ["user", "assistant"])


def test_the_python_example_follows_a_durable_stream(client: Client) -> None:
    stream = client.ask(client.new_conversation(), directive(**WANTED))
    follow = defined(example("python", "durable"), "follow")
    assert follow(client.site.url, client.token, stream) == expected_text(WANTED)


def test_the_javascript_example_follows_a_durable_stream(client: Client) -> None:
    stream = client.ask(client.new_conversation(), directive(**WANTED))
    given = {"code": example("js", "durable"), "site": client.site.url, "token": client.token, "id": stream}
    came = json.loads(javascript.run(javascript.FOLDER / "follow.mjs", json.dumps(given)))
    assert came["text"] == came["shown"] == expected_text(WANTED)


def test_the_python_example_writes_an_answer(client: Client) -> None:
    conversation = client.new_conversation()
    answer = defined(example("python", "generator"), "answer")
    stream = answer(client.site.url, client.token, conversation, "Hello?", WORDS)
    found = client.stream(stream)
    assert (found["status"], found["text"]) == ("done", "".join(WORDS))
    assert client.messages(conversation)[0]["text"] == "Hello?"


def test_the_shell_example_writes_an_answer(client: Client) -> None:
    conversation = client.new_conversation()
    given = {"SITE": client.site.url, "TOKEN": client.token, "CONVERSATION": conversation}
    subprocess.run(["sh", "-euc", example("sh", "generator")], env=os.environ | given, check=True, capture_output=True)
    reply = client.messages(conversation)[1]
    assert (reply["status"], reply["text"]) == ("done", "Only one: README")
