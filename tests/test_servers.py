"""The servers that tests are run on come back as what they were, and leave nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import psycopg

from tests.servers import ROOT, postgres, redis

PARENT = """
import sys
from tests.servers import postgres, redis
with postgres() as database, redis() as layer:
    print(database.pid, layer.pid, flush=True)
    sys.stdin.read()
"""


def ended(process: psutil.Process) -> bool:
    """Also when nobody has asked for its exit status yet, as in a container whose first process never does."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(condition: Callable[[], bool], deadline_s: float = 10) -> None:
    """Ask again and again until `condition` holds; fails at the deadline."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_postgres_keeps_its_port_and_data_when_it_is_killed_and_started_again() -> None:
    with postgres() as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("create table kept as select 7 as number")
        assert server.kill() == -signal.SIGKILL
        server.start()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("select number from kept").fetchone() == (7,)


def test_a_paused_server_stops_when_it_is_told_to() -> None:
    with redis() as server:
        process = psutil.Process(server.pid)
        server.pause()
    assert not process.is_running()


def test_servers_end_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        servers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(servers) == 2
        assert all(server.is_running() for server in servers)
        parent.kill()
    wait_for(lambda: all(ended(server) for server in servers))
