"""The site under test: a cluster with a model server, and what the suite asks the two behind the site's back."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
import psycopg
from psycopg.rows import dict_row

from tests.chaos import model
from tests.chaos.checker import Asked, Row, Stored
from tests.chaos.readers import Access, Talk
from tests.cluster import LOOK_S, Cluster
from tests.ports import free_port
from tests.servers import ROOT, START_S, Server, Service

SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
    "ENV_FILE": os.devnull,
    "OPENAI_API_KEY": "test-key",
    "LLM_MODELS": "test-model",
    "SECRET_KEY": "a key for the tests only, the same in each process",
    "THROTTLE_VISITORS": "",
    "THROTTLE_PROMPTS": "",
    "USER_STREAMS": "0",
    "STREAM_SILENCE_S": "4",
    "STREAM_BACKOFF_S": "0.5",
}


class Rig:
    """Web ×2, worker ×2, PostgreSQL, Redis and a model server, each a process, with the data in `home`."""

    def __init__(self, home: Path, lease_s: float) -> None:
        self.lease_s = lease_s
        self.struck: set[str] = set()
        self.struck_at = 0.0
        self.home = home
        self._model, self._control = self._model_server()
        settings = {"CHAOS_HOME": str(home), "OPENAI_BASE_URL": self._model.url, "STREAM_LEASE_S": f"{lease_s:g}"}
        self.cluster = Cluster(
            home,
            settings=SETTINGS | settings,
            postgres_settings=("fsync=off", "full_page_writes=off"),
            worker_command=lambda number: worker_command(number),
        )
        self.http: aiohttp.ClientSession | None = None
        self._mending: asyncio.Task[None] | None = None
        self._asked_before = 0

    def _model_server(self) -> tuple[Server, str]:
        port, control = free_port(), free_port()
        control_url = f"http://127.0.0.1:{control}"
        command = [sys.executable, "-m", "tests.chaos.model", str(port), str(control)]
        url = f"http://127.0.0.1:{port}/v1"
        ready = _answers(f"{control_url}/asked?after=0")
        return Server("model", command, self.home, ready=ready, cwd=ROOT, port=port, url=url), control_url

    @property
    def postgres(self) -> Server:
        assert self.cluster.postgres is not None
        return self.cluster.postgres

    @property
    def redis(self) -> Server:
        assert self.cluster.redis is not None
        return self.cluster.redis

    async def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        for name in ("drop", "ahead"):
            (self.home / name).unlink(missing_ok=True)
        await asyncio.to_thread(self._model.start)
        await asyncio.to_thread(self.cluster.start)
        # The servers below are the faults' to end and to start again.
        self.cluster.supervised = self.cluster.processes
        self._mending = asyncio.create_task(self._mend(), name="supervisor")
        urls = [web.url for web in self.cluster.web]
        # No connection twice: one that was left idle may be closed in the moment it is used again.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self.http = aiohttp.ClientSession(connector=connector, raise_for_status=False)
        async with self.http.post(f"{urls[0]}/api/visitors/", raise_for_status=True) as visitor:
            self.access = Access(urls, (await visitor.json())["token"], self.http)

    async def stop(self) -> None:
        if self._mending is not None:
            self._mending.cancel()
        if self.http is not None:
            await self.http.close()
        await asyncio.to_thread(self.cluster.stop)
        await asyncio.to_thread(self._model.stop)

    async def _mend(self) -> None:
        while True:
            self.cluster.mend()
            await asyncio.sleep(LOOK_S)

    async def healthy(self) -> None:
        """Wait until every process runs and says that it is ready, whatever the last fault broke."""
        self.struck, self.struck_at = set(), 0.0
        await self.weather()
        deadline = time.monotonic() + START_S
        while missing := await asyncio.to_thread(self.cluster.missing):
            assert time.monotonic() < deadline, f"not ready: {missing}"
            await asyncio.sleep(LOOK_S)

    async def talks(self, rng: random.Random, run: str, count: int, lasts_s: float, stops: bool) -> list[Talk]:
        """New conversations, with prompts that no other run has; some are answered for longer than the fault lasts."""
        made = []
        for number in range(count):
            body = {"title": f"{run}"}
            url = f"{self.access.urls[number % 2]}/api/conversations/"
            status, created = await self.access.call("POST", url, json=body)
            assert status == 201, f"no conversation: {status}"
            words = rng.randint(30, 110)
            prompt = {
                "id": f"{run}.{number}",
                "words": words,
                "delay_s": round((rng.uniform(1, 4) + lasts_s * rng.uniform(0, 1.2)) / words, 3),
                "reasoning": rng.choice([0, 0, 12]),
            }
            stop_after_s = rng.uniform(0, 2) if stops and number == 0 else None
            conversation = created["id"]
            ask_after_s = rng.uniform(0, 1.5)
            made.append(Talk(self.access, conversation, json.dumps(prompt), ask_after_s, stop_after_s, number % 2))
        return made

    async def weather(self, **weather: Any) -> None:
        assert (await self.access.call("POST", f"{self._control}/weather", json=weather))[0] == 200

    @contextmanager
    def switched(self, name: str) -> Iterator[None]:
        """With a fault inside the site's processes on (tests/chaos/switches.py)."""
        switch = self.home / name
        switch.touch()
        try:
            yield
        finally:
            switch.unlink()

    async def busiest_worker(self) -> Service:
        writing = [(len(await self._written_by(worker)), worker) for worker in self.cluster.worker]
        return max(writing, key=lambda pair: pair[0])[1]

    async def pause_in_transaction(self, worker: Service, rng: random.Random) -> None:
        """Pause it again and again until PostgreSQL waits for it in the midst of a transaction, or it has none."""
        while await self._written_by(worker):
            worker.pause()
            ports = [line.laddr.port for line in psutil.Process(worker.pid).net_connections("tcp")]
            if await self._query(
                "select from pg_stat_activity where state = 'idle in transaction' and client_port = any(%s)", [ports]
            ):
                return
            worker.resume()
            await asyncio.sleep(rng.uniform(0.001, 0.02))

    async def strike(self, worker: Service) -> None:
        """Remember what this worker has just been torn from; what it wrote before has earlier times."""
        self.struck_at = self.struck_at or time.time()
        self.struck |= set(await self._written_by(worker))

    async def _written_by(self, worker: Service) -> list[str]:
        rows = await self._query(
            "select id from streaming_stream where status = 'streaming' and lease is not null "
            "and split_part(worker, ':', 2) = %s",
            [str(worker.pid)],
        )
        return [str(row["id"]) for row in rows]

    async def _query(self, sql: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        connecting = psycopg.AsyncConnection.connect(self.postgres.url, row_factory=dict_row, connect_timeout=5)
        async with await connecting as connection:
            return await (await connection.execute(sql, values)).fetchall()

    async def stored(self, talks: Sequence[Talk]) -> list[Stored]:
        """What the database holds of these conversations' streams, read in one go."""
        prompts = {f"conversation-{talk.conversation}": talk.prompt for talk in talks}
        streams = await self._query("select * from streaming_stream where topic = any(%s)", [list(prompts)])
        chunks = await self._query(
            "select * from streaming_chunk where stream_id = any(%s) order by stream_id, seq",
            [[stream["id"] for stream in streams]],
        )
        return [
            Stored(
                str(row["id"]),
                prompts[row["topic"]],
                row["status"],
                row["seq"],
                row["text"],
                row["reasoning"],
                [_row(chunk) for chunk in chunks if chunk["stream_id"] == row["id"]],
                row["finished_at"].timestamp() if row["finished_at"] else None,
                row["stop_requested_at"] is not None,
            )
            for row in streams
        ]

    async def asked(self) -> list[Asked]:
        """What the model server was asked since the last call, and what it sent."""
        after = self._asked_before
        _, told = await self.access.call("GET", f"{self._control}/asked?after={after}")
        self._asked_before += len(told)
        return [_asked(number, request) for number, request in enumerate(told, after)]


@asynccontextmanager
async def running(home: Path, lease_s: float) -> AsyncIterator[Rig]:
    """A rig, started, and stopped in the end, also if the start fails."""
    rig = Rig(home, lease_s)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


def worker_command(number: int) -> Sequence[str]:
    """The second worker's clock is one that can be set ahead."""
    command = ("manage.py", "worker")
    return command if number == 1 else ("-m", "tests.chaos.clock", *command)


def _answers(url: str) -> Any:
    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(url).status_code == 200
        return False

    return answers


def _row(chunk: dict[str, Any]) -> Row:
    return Row(chunk["seq"], chunk["kind"], chunk["text"], chunk["data"], chunk["created_at"].timestamp())


def _asked(number: int, request: dict[str, Any]) -> Asked:
    deltas = list(model.script(number, json.loads(request["prompt"])).deltas())
    reasoning = [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta]
    text = [delta["content"] for delta in deltas if "content" in delta]
    return Asked(request["prompt"], reasoning, text, request["deltas"], request["at"], request["gone_at"])
