"""The AI SDK as it is on npm, versions 5, 6 and 7, unmodified, at the real server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests import javascript
from tests.modelscript import expected_text
from tests.processes import Client, Server, directive, server

pytestmark = pytest.mark.timeout(120)
VERSIONS = pytest.mark.parametrize("version", [5, 6, 7])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model_url: str) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("site"), model_url, STREAM_BACKOFF_S="0.2", SSE_HEARTBEAT_S="0.2") as site:
        yield site


def played(script: str, client: Client, **given: Any) -> dict[str, Any]:
    """What a script of tests/node prints, run as this client's."""
    told = {"site": client.site.url, "token": client.token, **given}
    said: dict[str, Any] = json.loads(javascript.run(javascript.FOLDER / script, json.dumps(told)))
    return said


@VERSIONS
def test_three_tabs_one_of_them_reloaded_in_mid_answer_show_what_is_stored(version: int, client: Client) -> None:
    wanted = {"words": 120, "delay_s": 0.02, "first_delay_s": 0.5, "reasoning": "Let me think about it."}
    came = played("tabs.mjs", client, version=version, id=str(uuid4()), prompt=directive(**wanted))
    reply = came["stored"][1]
    assert 0 < came["partial"] < len(expected_text(wanted)) and came["idle"] is None
    for tab in came["tabs"]:
        assert (tab["status"], tab["error"], tab["ids"][1:]) == ("ready", None, [reply["id"]])
        assert (tab["text"], tab["reasoning"]) == (expected_text(wanted), wanted["reasoning"])
        assert tab["metadata"]["status"] == "done"
    assert reply["parts"][0]["text"] == expected_text(wanted)


@VERSIONS
def test_an_attempt_that_broke_off_leaves_no_wrong_text(version: int, client: Client) -> None:
    wanted = {"words": 30 + version, "cut_after": 10, "fail_times": 1}
    steps = [["begin", directive(**wanted)], ["said", 1], ["settle"]]
    came = played("play.mjs", client, version=version, id=str(uuid4()), mends=True, steps=steps)
    assert came["last"]["text"] == expected_text(wanted)
    assert len(came["last"]["ids"]) == 2 and came["last"]["metadata"]["status"] == "done"
    # Version 7 can be told to discard; the older ones fail at that, and resume.
    assert len(came["errors"]) == (0 if version == 7 else 1)
    assert [part["type"] for part in came["data"]][:1] == ["data-retry"]


@pytest.mark.parametrize("version", [5, 6])
def test_a_page_that_does_not_resume_is_told_that_its_text_is_wrong(version: int, client: Client) -> None:
    steps = [["begin", directive(words=40 + version, cut_after=10, fail_times=1)], ["said", 1], ["settle"]]
    came = played("play.mjs", client, version=version, id=str(uuid4()), steps=steps)
    assert came["last"]["status"] == "error" and came["last"]["error"]


@VERSIONS
def test_stop_ends_the_answer_for_the_tab_and_says_so(version: int, client: Client) -> None:
    steps = [["begin", directive(words=2000, delay_s=0.01)], ["said", 20], ["stop"], ["settle"]]
    chat = str(uuid4())
    last = played("play.mjs", client, version=version, id=chat, steps=steps)["last"]
    assert (last["status"], last["metadata"]["status"]) == ("ready", "stopped")
    assert last["text"] == client.messages(chat)[-1]["text"]


@VERSIONS
def test_an_answer_that_failed_is_an_error_and_not_an_end(version: int, client: Client) -> None:
    steps = [["begin", directive(words=30, status=400)], ["settle"]]
    last = played("play.mjs", client, version=version, id=str(uuid4()), steps=steps)["last"]
    assert (last["status"], last["metadata"]["status"]) == ("error", "error")
    assert last["error"] == last["metadata"]["error"]["detail"]


@VERSIONS
def test_an_answer_is_regenerated_and_a_prompt_edited(version: int, client: Client) -> None:
    chat = str(uuid4())
    steps = [["ask", directive(words=3)], ["regenerate"], ["edit", directive(words=5)], ["ask", "And?"]]
    after = played("play.mjs", client, version=version, id=chat, steps=steps)["after"]
    assert [shown["error"] for shown in after] == [None] * 4
    assert after[0]["text"] == after[1]["text"] and after[0]["ids"][1] != after[1]["ids"][1]
    assert after[2]["text"] == expected_text({"words": 5})
    stored = client.messages(chat)
    assert [message["role"] for message in stored] == after[3]["roles"] == ["user", "assistant"] * 2
    assert [message["id"] for message in stored][1::2] == after[3]["ids"][1::2]
    assert stored[3]["text"] == after[3]["text"]


@pytest.mark.parametrize(
    ("version", "end"), [(5, Server.kill), (6, Server.kill), (7, Server.kill), (7, Server.terminate)]
)
def test_a_tab_survives_the_end_of_the_server(version: int, end: Any, tmp_path: Path, model_url: str) -> None:
    wanted = {"words": 60, "delay_s": 0.03}
    with server(tmp_path, model_url) as site, Client(site) as client:
        chat = str(uuid4())
        steps = [["begin", directive(**wanted)], ["said", 1], ["settle"]]
        told = {"site": site.url, "token": client.token, "version": version, "id": chat, "mends": True, "steps": steps}
        with javascript.start(javascript.FOLDER / "play.mjs", json.dumps(told)) as playing:
            try:
                wait_for_words(client, chat)
                end(site)
                site.start()
                said, complained = playing.communicate(timeout=60)
            finally:
                playing.kill()
    assert playing.returncode == 0, complained
    came = json.loads(said)
    assert came["errors"] and came["last"]["text"] == expected_text(wanted)


def wait_for_words(client: Client, chat: str) -> None:
    deadline = time.monotonic() + 20
    while not any(message["text"] for message in found_messages(client, chat) if message["role"] == "assistant"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def found_messages(client: Client, chat: str) -> list[dict[str, Any]]:
    """The messages of a chat that may not have been made yet."""
    response = client.http.get(f"/conversations/{chat}/messages/")
    return response.json()["results"] if response.status_code == 200 else []
