"""The Python client and the terminal's commands, as processes and threads of their own, at the real server."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import psutil
import pytest

from chatsite.client import AsyncClient, Refused, Unreachable
from chatsite.client import Client as SiteClient
from tests.columns import ROOT, store_of
from tests.modelscript import expected_text
from tests.ports import free_port
from tests.processes import Client, Server, directive, server

pytestmark = pytest.mark.timeout(120)
CTRL_D = b"\x04"
LONG = {"words": 150, "delay_s": 0.02}
ENDLESS = {"words": 3000, "delay_s": 0.02}
DOC = (ROOT / "docs/clients.md").read_text()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, model_url: str) -> Iterator[Client]:
    """For tests that leave the site as it was."""
    with server(tmp_path_factory.mktemp("site"), model_url, STREAM_BACKOFF_S="0.1") as site, Client(site) as client:
        yield client


# ----------------------------------------------------------------------------------------------------------- the client


def test_a_blocking_client_outlives_the_server_and_has_it_exact(site: Server) -> None:
    with SiteClient(site.url) as chat:
        chat.visit()
        answer = chat.ask(chat.begin(title="Sky"), directive(**LONG))
        starting: Thread | None = None
        for frame in chat.follow(answer):
            if starting is None and frame["seq"] >= 10:
                site.kill()
                starting = Thread(target=site.start)
                starting.start()
        assert starting
        starting.join()
        assert (answer.status, answer.text) == ("done", expected_text(LONG))
        assert answer == chat.answer(answer.stream)


async def test_an_async_client_outlives_the_server_and_has_it_exact(site: Server) -> None:
    async with AsyncClient(site.url) as chat:
        await chat.visit()
        answer = await chat.ask(await chat.begin(), directive(**LONG))
        starting: asyncio.Task[None] | None = None
        async for frame in chat.follow(answer):
            if starting is None and frame["seq"] >= 10:
                await asyncio.to_thread(site.kill)
                starting = asyncio.create_task(asyncio.to_thread(site.start))
        assert starting
        await starting
        assert (answer.status, answer.text) == ("done", expected_text(LONG))
        assert answer == await chat.answer(answer.stream)


def test_what_is_asked_while_nobody_is_there_is_asked_once_when_somebody_is(site: Server) -> None:
    with SiteClient(site.url) as chat:
        chat.visit()
        conversation = chat.begin()
        site.kill()
        starting = Thread(target=site.start)
        starting.start()
        answer = chat.ask(conversation, directive(words=3))
        assert [frame["type"] for frame in chat.follow(answer)][-1] == "end"
        assert [message["role"] for message in chat.messages(conversation)] == ["user", "assistant"]
        starting.join()


def test_retries_reasoning_and_stop_are_told(shared: Client) -> None:
    with SiteClient(shared.site.url, shared.token) as chat:
        wanted: dict[str, Any] = {"words": 20, "reasoning": "Hm 🤔", "cut_after": 10, "fail_times": 1}
        answer = chat.ask(chat.begin(), directive(**wanted))
        kinds = [frame["type"] for frame in chat.follow(answer)]
        assert (answer.text, answer.reasoning) == (expected_text(wanted), "Hm 🤔")
        assert {"retry", "restart"} < set(kinds) and answer.usage
        stopped = chat.ask(chat.begin(), directive(**LONG))
        for _ in chat.follow(stopped):
            chat.stop(stopped)
        assert stopped.status == "stopped"


def test_what_the_site_refuses_is_raised_with_its_code(shared: Client) -> None:
    with SiteClient(shared.site.url, shared.token) as chat:
        with pytest.raises(Refused) as unknown:
            chat.ask(str(uuid4()), "Why?")
        with pytest.raises(Refused) as empty:
            chat.ask(chat.begin(), " ")
        with pytest.raises(Refused) as gone:
            list(chat.follow(chat.answer(str(uuid4()))))
    with SiteClient(shared.site.url, "wrong") as stranger, pytest.raises(Refused) as nobody:
        stranger.conversations()
    assert [each.value.code for each in (unknown, empty, gone, nobody)] == [
        *("not_found", "invalid", "not_found", "bad_token")
    ]


def test_patience_ends() -> None:
    with SiteClient(f"http://127.0.0.1:{free_port()}", patience_s=0.5) as chat, pytest.raises(Unreachable):
        chat.visit()


def test_both_clients_can_do_the_same() -> None:
    public = [
        {name: str(inspect.signature(value)).split("->")[0] for name, value in vars(kind).items() if name[0] != "_"}
        for kind in (SiteClient, AsyncClient)
    ]
    assert public[0] == public[1] and len(public[0]) > 7


@pytest.mark.parametrize("kind", ["client", "async client"])
def test_the_documents_programs_run(kind: str, shared: Client, tmp_path: Path) -> None:
    (code,) = re.findall(rf"^```python {kind}\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
    program = tmp_path / "program.py"
    program.write_text(code.replace("https://chat.example.org", shared.site.url).replace("cs_...", shared.token))
    done = subprocess.run(
        [sys.executable, str(program)], cwd=ROOT, env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True
    )
    assert (done.stderr, done.stdout.splitlines()[-1]) == ("", "Hello from the test model.")


# --------------------------------------------------------------------------------------------------------- the terminal


def manage(site: Server, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """A command of manage.py between pipes."""
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=site.environment, input=given, capture_output=True, text=True, timeout=60, check=False
    )


def at(client: Client) -> list[str]:
    return ["--url", client.site.url, "--token", client.token]


def test_a_piped_prompt_gets_its_answer_and_nothing_else(shared: Client) -> None:
    done = manage(shared.site, "chat", *at(shared), given=directive(words=12, cut_after=5, fail_times=1))
    assert (done.returncode, done.stdout) == (0, expected_text({"words": 12}) + "\n")
    failed = manage(shared.site, "chat", "--resume", *at(shared), given=directive(words=5, status=400))
    assert failed.returncode == 1 and "did not accept" in failed.stderr
    newest = shared.http.get("/conversations/").json()["results"][0]["id"]
    assert len(shared.http.get(f"/conversations/{newest}/messages/").json()["results"]) == 4


@pytest.fixture
def home(tmp_path: Path, model_url: str) -> Iterator[Server]:
    """A site whose database is there and which nobody runs."""
    store = store_of(tmp_path)
    store.make()
    yield Server(tmp_path, model_url)
    store.drop()


def test_without_a_url_the_command_brings_its_own_site(home: Server) -> None:
    done = manage(home, "chat", given=directive(words=12))
    assert (done.stdout, done.returncode) == (expected_text({"words": 12}) + "\n", 0), done.stderr
    again = manage(home, "chat", "--resume", given=directive(words=5))
    assert again.stdout == expected_text({"words": 5}) + "\n"


def test_tail_prints_what_is_written_from_the_database_and_from_elsewhere(shared: Client) -> None:
    wanted = {"words": 31, "delay_s": 0.02, "cut_after": 10, "fail_times": 1}
    stream = shared.ask(shared.new_conversation(), directive(**wanted))
    live = manage(shared.site, "tail", stream)
    away = manage(shared.site, "tail", stream, *at(shared))
    assert live.returncode == away.returncode == 0
    assert live.stdout == away.stdout and live.stdout.endswith(expected_text(wanted))
    assert "begins anew" in live.stderr and "(done)" in away.stderr
    frames = [json.loads(line) for line in manage(shared.site, "tail", "--frames", stream).stdout.splitlines()]
    assert frames[-1]["type"] == "end"
    rest = manage(shared.site, "tail", "--frames", "--after", str(frames[0]["seq"]), stream).stdout.splitlines()
    assert [json.loads(line) for line in rest] == frames[1:]
    assert manage(shared.site, "tail", str(uuid4())).returncode == 1


@contextmanager
def terminal(site: Server, *arguments: str) -> Iterator[Screen]:
    """A command of manage.py in a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "manage.py", *arguments]
    env = site.environment | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            yield Screen(ours, process)
        finally:
            process.kill()
            os.close(ours)


class Screen:
    """What a program wrote to its terminal, and the keys it is sent."""

    def __init__(self, device: int, process: subprocess.Popen[bytes]) -> None:
        self._device = device
        self.process = process
        self.shown = ""

    def type(self, text: str) -> None:
        self.press(f"{text}\n".encode())

    def press(self, keys: bytes) -> None:
        os.write(self._device, keys)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ended(self) -> int:
        """The exit status; a program waits until what it wrote has been read."""
        with suppress(OSError):
            while os.read(self._device, 65536):
                pass
        return self.process.wait(30)

    def until(self, pattern: str) -> str:
        """What was shown up to this pattern, which must come."""
        deadline = time.monotonic() + 45
        while not (found := re.search(pattern, self.shown, re.DOTALL)):
            assert time.monotonic() < deadline, self.shown
            if select.select([self._device], [], [], 0.1)[0]:
                self.shown += os.read(self._device, 65536).decode(errors="replace")
        seen, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return seen


def test_a_person_asks_stops_leaves_and_comes_back(shared: Client) -> None:
    with terminal(shared.site, "chat", *at(shared)) as screen:
        screen.until("> ")
        screen.type(directive(text="Some **bold** words \x1b[2J and a red \x1b[31mtrick."))
        screen.until('trick."}')  # The echo.
        seen = screen.until("trick")
        assert "\x1b[1mbold" in seen and "\x1b[2J" not in seen and "\x1b[31m" not in seen
        screen.until("> ")
        screen.type(directive(**ENDLESS))
        screen.until("alpha0.*Ctrl-C stops")
        screen.interrupt()
        screen.until(r"\(stopped\)")
    newest = shared.http.get("/conversations/").json()["results"][0]["id"]
    stream = shared.ask(newest, directive(**LONG))
    with terminal(shared.site, "chat", "--resume", *at(shared)) as screen:
        screen.until("bold.*stopped.*lambda130")
    assert shared.stream(stream)["text"]


def test_a_site_that_is_away_is_waited_for_at_a_terminal(client: Client, site: Server) -> None:
    with terminal(site, "chat", *at(client)) as screen:
        screen.until("> ")
        screen.type(directive(**LONG))
        screen.until("alpha0")
        site.kill()
        site.start()
        screen.until("kappa141 lambda142.*> ")


def test_the_site_of_ones_own_goes_with_the_command(home: Server) -> None:
    with terminal(home, "chat") as screen:
        screen.until("> ")
        (site,) = psutil.Process(screen.process.pid).children()
        screen.press(CTRL_D)
        assert screen.ended() == 0
    assert psutil.wait_procs([site], 10)[1] == []
