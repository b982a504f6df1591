"""Durable Streams at the real server: its conformance suite, and both of its clients as they are on npm and PyPI."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from durable_streams import astream

from tests import javascript
from tests.modelscript import expected_text
from tests.processes import Client, Server, directive, server

pytestmark = pytest.mark.timeout(120)
# Forks and subscriptions are other products; the suite has no switch for the first.
WITHOUT_FORKS = "^(?!.*Fork)"
TESTS = 250


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model_url: str) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("site"), model_url, SSE_HEARTBEAT_S="0.2") as site:
        yield site


@pytest.mark.timeout(600)
def test_the_conformance_suite_passes_but_for_forks_and_subscriptions(tmp_path: Path, model_url: str) -> None:
    report = tmp_path / "report.json"
    open_to_all = {"DJANGO_SETTINGS_MODULE": "tests.durable_settings", "BODY_MAX_BYTES": "20000000"}
    with server(tmp_path, model_url, **open_to_all) as site:
        javascript.install()
        vitest = [*javascript.commands()[0], "node_modules/vitest/vitest.mjs", "run", "conformance.test.mjs"]
        # Some of the suite's tests live by the clock, within a second, which a busy machine may miss once.
        patience = ["--testTimeout=60000", "--retry=2"]
        options = ["--reporter=json", f"--outputFile={report}", *patience, "-t", WITHOUT_FORKS]
        environment = os.environ | {"CONFORMANCE_URL": f"{site.url}/durable-test"}
        subprocess.run([*vitest, *options], cwd=javascript.FOLDER, env=environment, capture_output=True, check=False)
    found = json.loads(report.read_text())
    failed = [test["fullName"] for file in found["testResults"] for test in file["assertionResults"]
              if test["status"] == "failed"]  # fmt: skip
    assert failed == []
    assert found["numPassedTests"] == TESTS


def texts(messages: list[dict[str, Any]]) -> str:
    return "".join(message["text"] for message in messages if message["kind"] == "text")


def seqs(messages: list[dict[str, Any]]) -> list[int]:
    return [message["seq"] for message in messages]


@pytest.mark.parametrize("live", ["sse", "long-poll"])
async def test_the_python_client_resumes_where_it_was_cut_off(live: Any, client: Client) -> None:
    wanted = {"words": 120, "delay_s": 0.02, "first_delay_s": 0.5}
    stream = await asyncio.to_thread(client.ask, client.new_conversation(), directive(**wanted))
    url = f"{client.site.url}/durable/streams/{stream}"
    messages: list[dict[str, Any]] = []
    headers: Any = client.headers
    offset, cuts = "-1", 0
    while not (messages and messages[-1]["kind"] == "end"):
        async with astream(url, live=live, offset=offset, headers=headers) as response:
            async for event in response.iter_events(mode="json"):
                messages += event.data
                offset = event.next_offset
                if messages and (len(messages) // 10 > cuts or messages[-1]["kind"] == "end"):
                    cuts = len(messages) // 10
                    break
    assert cuts >= 2 and seqs(messages) == list(range(1, len(messages) + 1))
    assert texts(messages) == expected_text(wanted)


def test_the_javascript_client_resumes_where_it_was_cut_off(client: Client) -> None:
    wanted = {"words": 120, "delay_s": 0.02, "first_delay_s": 0.5}
    for live in ("sse", "long-poll"):
        stream = client.ask(client.new_conversation(), directive(**wanted))
        given = {"url": f"{client.site.url}/durable/streams/{stream}", "token": client.token, "live": live}
        came = json.loads(javascript.run(javascript.FOLDER / "durable.mjs", json.dumps(given)))
        assert came["connections"] >= 2 and came["closed"]
        assert seqs(came["messages"]) == list(range(1, len(came["messages"]) + 1))
        assert texts(came["messages"]) == expected_text(wanted)


def test_a_client_that_asks_on_and_on_for_what_is_over_is_slowed_down(client: Client) -> None:
    stream = client.ask(client.new_conversation(), directive(words=3))
    url = f"{client.site.url}/durable/streams/{stream}"
    with client.http.stream("GET", url, params={"offset": "-1", "live": "sse"}) as response:
        assert "streamClosed" in response.read().decode()
    tail = httpx.head(url, headers=client.headers).headers["Stream-Next-Offset"]
    before = time.monotonic()
    for _ in range(2):
        again = client.http.get(url, params={"offset": tail, "live": "long-poll"})
        assert (again.status_code, again.headers["Stream-Closed"]) == (204, "true")
    assert time.monotonic() - before > 1.5


def test_a_read_says_where_it_is_and_what_has_not_changed(client: Client, site: Server) -> None:
    stream = client.ask(client.new_conversation(), directive(words=30))
    url = f"{site.url}/durable/streams/{stream}"
    client.http.get(f"/streams/{stream}/events/").raise_for_status()
    whole = client.http.get(url)
    assert (whole.headers["Stream-Up-To-Date"], whole.headers["Stream-Closed"]) == ("true", "true")
    assert client.http.get(url, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    middle = whole.json()[len(whole.json()) // 2]["seq"]
    rest = client.http.get(url, params={"offset": f"{middle:016d}"})
    assert seqs(rest.json()) == [seq for seq in seqs(whole.json()) if seq > middle]
    head = client.http.head(url)
    assert (head.headers["Stream-Next-Offset"], head.content) == (whole.headers["Stream-Next-Offset"], b"")
    assert client.http.get(url, params={"offset": "12"}).json()["code"] == "bad_position"


def test_streams_are_read_by_their_owner_and_written_by_nobody(client: Client, site: Server) -> None:
    stream = client.ask(client.new_conversation(), directive(words=3))
    url = f"{site.url}/durable/streams/{stream}"
    with Client(site) as stranger:
        assert stranger.http.get(url).status_code == 404
    assert httpx.get(url).status_code == 401
    for method in ("POST", "PUT", "DELETE"):
        refused = client.http.request(method, url)
        assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    assert client.http.put(f"{site.url}/durable-test/v1/stream/x").status_code == 404
