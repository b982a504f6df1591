"""Chatsite scaled out, on one machine and without docker: PostgreSQL, Redis, web processes, workers.

`make cluster` (python -m tests.cluster [home]) runs it until Ctrl-C, its data in var/cluster; the fault suite and the
benchmarks run their own. The two servers come from the pip packages unless DATABASE_URL and REDIS_URL name others.
Every process writes a log file, is started again when it ends, and ends with this one (tests/servers.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from environs import Env

from tests.ports import free_port, is_free
from tests.servers import ROOT, START_S, Server, Service, postgres_server, redis_server

RESTART_S = 0.3
LOOK_S = 0.1
UVICORN = ("uvicorn", "--host", "127.0.0.1", "--no-access-log", "--ws-per-message-deflate", "false")
UVICORN_STOP = ("--timeout-graceful-shutdown", "5")
DAPHNE = ("daphne", "-b", "127.0.0.1")
SITE = "chatsite.asgi:application"
WORKER = ("manage.py", "worker")


@dataclass(eq=False)
class Cluster:
    """The processes of one site. `mend`, called again and again, is what a supervisor does for `supervised` ones."""

    home: Path
    ports: Sequence[int] = ()
    webs: int = 2
    workers: int = 2
    database_url: str = ""
    redis_url: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    postgres_settings: Sequence[str] = ()
    worker_command: Callable[[int], Sequence[str]] = lambda number: WORKER
    postgres: Server | None = None
    redis: Server | None = None
    web: list[Server] = field(default_factory=list)
    worker: list[Service] = field(default_factory=list)
    supervised: list[Service] = field(default_factory=list)
    _due: dict[Service, float] = field(default_factory=dict)

    @property
    def services(self) -> list[Service]:
        """All of it, in the order of starting."""
        return [*([self.postgres] if self.postgres else []), *([self.redis] if self.redis else []), *self.processes]

    @property
    def processes(self) -> list[Service]:
        """The site's own processes."""
        return [*self.worker, *self.web]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url} | dict(self.settings)

    def start(self) -> None:
        """Start everything on migrated tables, and return once each web process says that it is ready."""
        self.home.mkdir(parents=True, exist_ok=True)
        if not self.database_url:
            self.postgres = postgres_server(self.home, *self.postgres_settings)
            self.postgres.start()
            self.database_url = self.postgres.url
        if not self.redis_url:
            self.redis = redis_server(self.home)
            self.redis.start()
            self.redis_url = self.redis.url
        self.manage("migrate", "--noinput", "-v0")
        self.worker = [self._worker(number) for number in range(1, self.workers + 1)]
        ports = [*self.ports, *(free_port() for _ in range(self.webs - len(self.ports)))]
        self.web = [self._web(number, port) for number, port in enumerate(ports, 1)]
        self.supervised = self.services
        for process in self.processes:
            process.spawn()
        self.wait_until_ready()

    def manage(self, *arguments: str) -> None:
        """Run a management command on this site."""
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.environment, check=True)

    def _worker(self, number: int) -> Service:
        command = [sys.executable, *self.worker_command(number)]
        worker = Service(f"worker-{number}", command, self.home, self.environment, cwd=ROOT)
        worker.ready = lambda: f":{worker.pid}:" in worker.head()  # The name under which it says that it begins.
        return worker

    def _web(self, number: int, port: int) -> Server:
        """Uvicorn and daphne by turns, the one for production first: the site must not care."""
        server = [*UVICORN, *UVICORN_STOP, "--port", str(port)] if number % 2 else [*DAPHNE, "-p", str(port)]
        url = f"http://127.0.0.1:{port}"
        return Server(
            f"web-{number}",
            [sys.executable, "-m", *server, SITE],
            self.home,
            self.environment,
            ready=lambda: is_ready(url),
            cwd=ROOT,
            port=port,
            url=url,
        )

    def wait_until_ready(self) -> None:
        """Return when every process runs and says that it is ready; fail after START_S."""
        deadline = time.monotonic() + START_S
        while missing := self.missing():
            assert time.monotonic() < deadline, f"not ready: {missing}; see {self.home}/*.log"
            self.mend()
            time.sleep(LOOK_S)

    def missing(self) -> str:
        """The names of what does not run, or is not ready; empty if all is well."""
        return ", ".join(service.name for service in self.services if not (service.alive and service.ready()))

    def mend(self) -> list[str]:
        """Start again what ended RESTART_S ago or longer; returns a line for each new end."""
        ended = [service for service in self.supervised if not service.alive]
        news = []
        for service in ended:
            if service not in self._due:
                self._due[service] = time.monotonic() + RESTART_S
                status = service.process.returncode if service.process else None
                news.append(f"{service.name} ended (status {status}) and is started again; see {service.log}")
            elif time.monotonic() >= self._due[service]:
                del self._due[service]
                service.spawn()
        return news

    def stop(self) -> None:
        """End the site's processes together, then what they stand on."""
        self.supervised = []
        for process in self.processes:
            if process.alive:
                process.resume()
                process.signal(process.gently)
        for service in reversed(self.services):
            service.stop()


def is_ready(url: str) -> bool:
    """Whether the web process there says that it has all it needs."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """Start `cluster`, and stop all of it in the end, also if the start fails."""
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run a cluster until SIGINT or SIGTERM, with what the environment or .env configures."""
    env = Env()
    env.read_env(env.str("ENV_FILE", f"{ROOT / '.env'}"), recurse=False)
    if (database := env.str("DATABASE_URL", "")) and not database.startswith("postgres"):
        sys.exit("make cluster needs PostgreSQL. DATABASE_URL names something else; without it one is started here.")
    port = env.int("PORT", 8000)
    ports = [port, port + 1]
    if taken := [str(port) for port in ports if not is_free(port)]:
        sys.exit(f"Port {' and '.join(taken)} in use already; PORT=8080 make cluster takes 8080 and 8081.")
    home = Path(*sys.argv[1:2]) if sys.argv[1:] else ROOT / "var/cluster"
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    say("Starting PostgreSQL, Redis, two web processes and two workers (a minute or two, the first time)")
    with running(Cluster(home, ports, database_url=database, redis_url=env.str("REDIS_URL", ""))) as cluster:
        say(f"Chatsite: {' and '.join(f'{web.url}/' for web in cluster.web)} are one site (Ctrl-C ends it)")
        say(f"  {cluster.database_url}\n  {cluster.redis_url}")
        for service in cluster.services:
            say(f"  {service.name:9} pid {service.pid:<7} {service.log}")
        while not stopped.wait(LOOK_S):
            for line in cluster.mend():
                say(line)
        say("Stopping")


if __name__ == "__main__":
    main()
