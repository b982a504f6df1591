"""Django's development server, which everybody tries first: the whole site, websockets and engine included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.follower import Follower
from tests.modelscript import expected_text
from tests.processes import Client, Server, directive, running

WANTED = {"words": 20, "delay_s": 0.02}


class Runserver(Server):
    @property
    def command(self) -> tuple[str, ...]:
        return ("manage.py", "runserver", "--noreload", f"127.0.0.1:{self.port}")


@pytest.fixture
def site(tmp_path: Path, model_url: str) -> Iterator[Server]:
    with running(Runserver(tmp_path, model_url)) as site:
        yield site


async def test_djangos_own_server_writes_answers_and_sends_them(client: Client) -> None:
    conversation = client.new_conversation()
    stream = client.ask(conversation, directive(**WANTED))
    follower = Follower()
    await client.follow(conversation, stream, follower)
    assert follower.streams[stream].text == expected_text(WANTED)
