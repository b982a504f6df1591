"""`make cluster` is a whole site, heals itself, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest

from tests.cluster import Cluster, running
from tests.ports import free_port
from tests.servers import ROOT
from tests.test_servers import ended, wait_for

# Eight processes at once, most of them a second of work to start, on whatever machine this is.
pytestmark = [pytest.mark.scaled, pytest.mark.timeout(180)]


@pytest.fixture
def home() -> Iterator[Path]:
    """Not in pytest's own folders: PostgreSQL, which never runs as root, could not look into those of root."""
    with tempfile.TemporaryDirectory(prefix="chatsite-cluster-", ignore_cleanup_errors=True) as home:
        Path(home).chmod(0o755)
        yield Path(home)


@contextmanager
def command(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`make cluster` without a terminal, and what it said until all of it ran."""
    environment = os.environ | {"PORT": str(free_port(2)), "DATABASE_URL": "", "REDIS_URL": "", "LLM_MODELS": "demo"}
    command = [sys.executable, "-m", "tests.cluster", str(home)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, "".join(process.stdout.readline() for _ in range(10))
        finally:
            process.kill()


def answers(url: str) -> str:
    """The status of a prompt asked there, once a worker has answered it."""
    token = httpx.post(f"{url}api/visitors/").raise_for_status().json()["token"]
    with httpx.Client(base_url=f"{url}api", headers={"Authorization": f"Bearer {token}"}) as client:
        conversation = client.post("/conversations/", json={}).json()["id"]
        headers = {"Idempotency-Key": str(uuid4())}
        asked = client.post(f"/conversations/{conversation}/messages/", json={"text": "Hi"}, headers=headers).json()
        events = client.get(f"/streams/{asked['stream']}/events/", timeout=30).text
        return str(json.loads(events.strip().splitlines()[-1].removeprefix("data: "))["status"])


def test_the_command_serves_a_whole_site_and_ends_all_of_it_on_ctrl_c(home: Path) -> None:
    with command(home) as (cluster, said):
        processes = psutil.Process(cluster.pid).children(recursive=True)
        urls = re.findall(r"http://\S+", said)
        assert [answers(url) for url in urls] == ["done", "done"]
        cluster.send_signal(signal.SIGINT)
        assert cluster.wait(30) == 0
    assert len(urls) == 2
    assert len(processes) > 6
    wait_for(lambda: all(ended(process) for process in processes))


def test_the_command_leaves_nothing_behind_when_it_is_killed(home: Path) -> None:
    with command(home) as (cluster, said):
        processes = psutil.Process(cluster.pid).children(recursive=True)
        assert len(re.findall(r"pid \d+", said)) == 6
        cluster.kill()
    wait_for(lambda: all(ended(process) for process in processes))


def test_what_ends_in_a_cluster_is_started_again(home: Path) -> None:
    with running(Cluster(home, webs=1, workers=1)) as cluster:
        before = {service: service.pid for service in cluster.services}
        for service in cluster.services:
            service.kill()
        assert len(cluster.mend()) == 4
        cluster.wait_until_ready()
        assert all(service.pid != before[service] for service in cluster.services)
