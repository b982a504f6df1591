"""Chatsite itself as a subject of the benchmark, in both columns of the design, and the bare source to compare with."""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg

from bench.load import Load
from bench.processes import Source
from bench.reader import Line
from tests.cluster import DAPHNE, SITE, UVICORN, WORKER, Cluster, is_ready
from tests.ports import free_port
from tests.servers import ROOT, Server, Service
from tests.visitor import Visitor

ASKERS = 8
LOG_FILES = 5
COMMITTED = "every character, committed before it is sent"
SETTINGS = {
    "ENV_FILE": os.devnull,
    "OPENAI_API_KEY": "bench",
    "LLM_MODELS": "bench",
    "SECRET_KEY": "the same for all processes of a benchmark",
    "LOG_LEVEL": "INFO",  # A cluster reads in a worker's log that it is ready.
    "STREAM_CONCURRENCY": "2000",
    "STREAM_SILENCE_S": "600",  # The source says nothing before all streams of a load were asked for.
    "THROTTLE_VISITORS": "",
    "THROTTLE_PROMPTS": "",
    "THROTTLE_LOGINS": "",
    "USER_STREAMS": "0",
}
NOT_FROM_HERE = {"DATABASE_URL", "REDIS_URL", "STREAM_ENGINE", "DEBUG", "ALLOWED_HOSTS", "LLM_SYSTEM_PROMPT"}


def clean(**settings: str) -> dict[str, str]:
    """This process's environment without what would configure a site, and with `settings`."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_FROM_HERE}
    return kept | SETTINGS | settings


class Site(ABC):
    """What both columns have in common."""

    name: str
    persists = COMMITTED

    def __init__(self, home: Path, settings: dict[str, str] | None = None) -> None:
        self.home = home
        self.settings = settings or {}
        self._visitor: Visitor | None = None

    @property
    @abstractmethod
    def urls(self) -> list[str]:
        """The addresses of its web processes."""

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """What its processes are told."""

    @abstractmethod
    def start(self, source: Source) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def processes(self) -> dict[str, psutil.Process]: ...

    @property
    def visitor(self) -> Visitor:
        if self._visitor is None:
            self._visitor = Visitor(self.urls[0])
        return self._visitor

    def ask(self, count: int, prompt: str) -> list[tuple[str, str]]:
        """Ask `prompt` in so many new conversations; returns (conversation, stream) pairs."""
        visitor = self.visitor
        with ThreadPoolExecutor(ASKERS) as askers:
            return list(askers.map(visitor.ask_anew, [prompt] * count))

    def line(
        self, conversation: str, stream: str, kind: str = "ws", after: int = 0, web: int = 0, stalls: bool = False
    ) -> Line:
        """A reader of a live stream."""
        headers, port = self.visitor.headers, self.port(web)
        if kind == "ws":
            first = json.dumps({"type": "attach", "after": {stream: after} if after else {}})
            path = f"/ws/conversations/{conversation}/"
            return Line("ws", port, path, headers, first=first, hears=0 if after else 1, stalls=stalls)
        path = f"/api/streams/{stream}/events/?after={after}"
        return Line("http", port, path, headers, hears=1, stalls=stalls)

    def idle_line(self, conversation: str) -> Line:
        """A reader of a conversation in which nothing happens."""
        path = f"/ws/conversations/{conversation}/"
        return Line("ws", self.port(), path, self.visitor.headers, first='{"type":"attach"}')

    def port(self, web: int = 0) -> int:
        return int(self.urls[web].rsplit(":", 1)[1])

    def lines(self, load: Load) -> list[Line]:
        asked = self.ask(load.streams, load.prompt)
        webs = len(self.urls)
        return [self.line(*one, load.kind, web=n % webs) for one in asked for n in range(load.readers)]


class Embedded(Site):
    """One process with SQLite."""

    def __init__(
        self,
        home: Path,
        settings: dict[str, str] | None = None,
        web: Sequence[str] = UVICORN,
        application: str = SITE,
    ) -> None:
        super().__init__(home, settings)
        self._application = application
        self.name = "chatsite embedded" if web is UVICORN else "chatsite embedded (daphne)"
        self._web = web
        self._server: Server | None = None

    @classmethod
    def with_web(cls, home: Path, web: str) -> Embedded:
        """`web` is "uvicorn" or "daphne"."""
        return cls(home, web={"uvicorn": UVICORN, "daphne": DAPHNE}[web])

    @property
    def urls(self) -> list[str]:
        return [self.server.url]

    @property
    def server(self) -> Server:
        assert self._server is not None, "not started"
        return self._server

    @property
    def environment(self) -> dict[str, str]:
        return self._environment

    @property
    def database(self) -> Path:
        return self.home / "site.sqlite3"

    def start(self, source: Source) -> None:
        database = f"sqlite:///{self.database}"
        self._environment = own = clean(DATABASE_URL=database, OPENAI_BASE_URL=source.url, **self.settings)
        migrate = Service("migrate", [sys.executable, "manage.py", "migrate", "-v0"], self.home, own, cwd=ROOT)
        migrate.spawn()
        assert migrate.wait(60) == 0, migrate.tail()
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable,
            "-m",
            *self._web,
            "-p" if self._web is DAPHNE else "--port",
            str(port),
            self._application,
        ]
        self._server = Server("web", command, self.home, own, ready=lambda: is_ready(url), cwd=ROOT, port=port, url=url)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def processes(self) -> dict[str, psutil.Process]:
        return {"web": psutil.Process(self.server.pid)}


class Scaled(Site):
    """PostgreSQL as it comes (it waits for the disk), Redis, a worker, a web process."""

    def __init__(
        self,
        home: Path,
        settings: dict[str, str] | None = None,
        webs: int = 1,
        workers: int = 1,
        worker: Sequence[str] = WORKER,
    ) -> None:
        super().__init__(home, settings)
        self._worker = worker
        self.name = "chatsite scaled out"
        self._size = webs, workers
        self._cluster: Cluster | None = None

    @property
    def environment(self) -> dict[str, str]:
        return self.cluster.environment

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None, "not started"
        return self._cluster

    @property
    def urls(self) -> list[str]:
        return [web.url for web in self.cluster.web]

    def start(self, source: Source) -> None:
        webs, workers = self._size
        own = SETTINGS | {"OPENAI_BASE_URL": source.url} | self.settings
        self._cluster = Cluster(
            self.home, webs=webs, workers=workers, settings=own, worker_command=lambda _: self._worker
        )
        self._cluster.start()
        _write_before(self._cluster.database_url)

    def stop(self) -> None:
        if self._cluster is not None:
            self._cluster.stop()

    def processes(self) -> dict[str, psutil.Process]:
        return {service.name: psutil.Process(service.pid) for service in self.cluster.services}


def _write_before(database_url: str) -> None:
    """Leave PostgreSQL the files of its log that it has after a while and writes again, as many as it keeps by default:
    a new server makes each 16 MB anew, for which all commits wait 10-30 ms."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for _ in range(LOG_FILES):
            connection.execute("SELECT pg_logical_emit_message(false, '', '')")
            connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")


class Direct:
    """No subject at all: each reader asks the source itself. What the harness adds by itself."""

    name = "direct read"
    persists = "nothing"

    def __init__(self, home: Path) -> None:
        self.home = home
        self._port = 0

    @classmethod
    def of(cls, source: Source) -> Direct:
        """One that is started."""
        direct = cls(Path())
        direct.start(source)
        return direct

    def start(self, source: Source) -> None:
        self._port = source.port

    def stop(self) -> None:
        """There is nothing to stop."""

    def processes(self) -> dict[str, psutil.Process]:
        return {}

    def lines(self, load: Load) -> list[Line]:
        """One reader of each stream: no two can share a request."""
        return [chat_line(self._port, load.prompt) for _ in range(load.streams)]


def chat_line(port: int, prompt: str) -> Line:
    """A reader of a chat completion."""
    body = json.dumps({"model": "bench", "stream": True, "messages": [{"role": "user", "content": prompt}]})
    return Line("http", port, "/v1/chat/completions", method="POST", body=body)
