"""The faults: each a coroutine that breaks something, returns once it is over, and says in its docstring what it does.

A fault that ends with its blow (a kill) returns at once; what comes back then is the supervisor's work, and the site's.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psycopg

from tests.chaos.rig import Rig
from tests.cluster import LOOK_S
from tests.servers import START_S, Service

Blow = Callable[[Rig, random.Random], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """`lasts_s`: about how long it goes on. `model_is_well`: every answer must be done all the same.
    `stops`: nothing of it is in the way of a stop.
    """

    name: str
    blow: Blow
    lasts_s: float
    model_is_well: bool
    stops: bool

    @property
    def description(self) -> str:
        return " ".join((self.blow.__doc__ or "").split()).rstrip(".")


OUTAGE_S = 10.0
FAULTS: dict[str, Fault] = {}


def fault(name: str, lasts_s: float = 0, *, model_is_well: bool = True, stops: bool = False) -> Callable[[Blow], Blow]:
    def register(blow: Blow) -> Blow:
        FAULTS[name] = Fault(name, blow, lasts_s, model_is_well, stops)
        return blow

    return register


@fault("calm", stops=True)
async def calm(rig: Rig, rng: random.Random) -> None:
    """Nothing: what the others are compared with."""


@fault("worker-kill")
async def kill_worker(rig: Rig, rng: random.Random) -> None:
    """kill -9 the worker that writes most."""
    worker = await rig.busiest_worker()
    worker.signal(signal.SIGKILL)
    await rig.strike(worker)


@fault("workers-kill")
async def kill_workers(rig: Rig, rng: random.Random) -> None:
    """kill -9 both workers at once."""
    for worker in rig.cluster.worker:
        worker.signal(signal.SIGKILL)
    for worker in rig.cluster.worker:
        await rig.strike(worker)


@fault("worker-term")
async def terminate_worker(rig: Rig, rng: random.Random) -> None:
    """SIGTERM the worker that writes most."""
    (await rig.busiest_worker()).signal(signal.SIGTERM)


@fault("worker-pause", 4)
async def pause_worker(rig: Rig, rng: random.Random) -> None:
    """SIGSTOP the worker that writes most, past its lease, then SIGCONT."""
    worker = await rig.busiest_worker()
    worker.pause()
    await rig.strike(worker)
    await asyncio.sleep(rig.lease_s + rng.uniform(0.5, 3))
    worker.resume()


@fault("worker-pause-in-commit", 8)
async def pause_worker_in_commit(rig: Rig, rng: random.Random) -> None:
    """SIGSTOP the worker that writes most, in a transaction that holds its streams' rows, for 12 s."""
    worker = await rig.busiest_worker()
    await rig.pause_in_transaction(worker, rng)
    await rig.strike(worker)
    await asyncio.sleep(12)
    worker.resume()


@fault("web-kill", stops=True)
async def kill_web(rig: Rig, rng: random.Random) -> None:
    """kill -9 a web process; its readers go to the other."""
    rng.choice(rig.cluster.web).signal(signal.SIGKILL)


@fault("web-term", stops=True)
async def terminate_web(rig: Rig, rng: random.Random) -> None:
    """SIGTERM a web process; its readers go to the other."""
    rng.choice(rig.cluster.web).signal(signal.SIGTERM)


@fault("rolling-restart", 12)
async def restart_in_turn(rig: Rig, rng: random.Random) -> None:
    """SIGTERM both workers and both web processes, each once the one before is back and ready: an update."""
    for process in rig.cluster.processes:
        old = process.pid
        process.signal(signal.SIGTERM)
        async with asyncio.timeout(START_S):
            while not (process.pid != old and process.alive and await asyncio.to_thread(process.ready)):
                await asyncio.sleep(LOOK_S)


@fault("redis-restart", stops=True)
async def restart_redis(rig: Rig, rng: random.Random) -> None:
    """Restart Redis."""
    await _restart(rig.redis, rng)


@fault("redis-down", OUTAGE_S, stops=True)
async def keep_redis_down(rig: Rig, rng: random.Random) -> None:
    """kill -9 Redis, start it again 10 s later."""
    rig.redis.kill()
    await asyncio.sleep(OUTAGE_S)
    await asyncio.to_thread(rig.redis.start)


@fault("redis-hang", OUTAGE_S, stops=True)
async def hang_redis(rig: Rig, rng: random.Random) -> None:
    """SIGSTOP Redis for 10 s: connections stay open and nothing answers."""
    rig.redis.pause()
    await asyncio.sleep(OUTAGE_S)
    rig.redis.resume()


@fault("postgres-restart")
async def restart_postgres(rig: Rig, rng: random.Random) -> None:
    """Restart PostgreSQL: its fast shutdown, or kill -9 and crash recovery."""
    await _restart(rig.postgres, rng)


@fault("postgres-terminate")
async def terminate_connections(rig: Rig, rng: random.Random) -> None:
    """pg_terminate_backend on every connection."""
    async with await psycopg.AsyncConnection.connect(rig.postgres.url, autocommit=True) as connection:
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where pid <> pg_backend_pid() and backend_type = 'client backend'"
        )


@fault("model-cut", model_is_well=False)
async def cut_model(rig: Rig, rng: random.Random) -> None:
    """The model's server resets every connection."""
    await rig.weather(cut=True)


@fault("model-refused", 2, model_is_well=False)
async def refuse_model(rig: Rig, rng: random.Random) -> None:
    """The model's server is away for up to 4 s: open connections are reset, new ones refused."""
    await rig.weather(away=True)
    await asyncio.sleep(rng.uniform(0.5, 4))
    await rig.weather()


@fault("model-silent", 3, model_is_well=False)
async def silence_model(rig: Rig, rng: random.Random) -> None:
    """The model says nothing for longer or shorter than STREAM_SILENCE_S (4 s)."""
    await rig.weather(silent=True)
    await asyncio.sleep(rng.uniform(1, 6))
    await rig.weather()


@fault("model-slow", 3)
async def slow_model(rig: Rig, rng: random.Random) -> None:
    """The model takes half a second for each word, for 3 s."""
    await rig.weather(slow_s=0.5)
    await asyncio.sleep(3)
    await rig.weather()


@fault("model-429", 2, model_is_well=False)
async def limit_model(rig: Rig, rng: random.Random) -> None:
    """The model's server cuts every answer and meets new requests with 429 and Retry-After, for up to 3 s."""
    await rig.weather(status=429, cut=True)
    await asyncio.sleep(rng.uniform(0.3, 3))
    await rig.weather()


@fault("layer-drop", 4, stops=True)
async def drop_messages(rig: Rig, rng: random.Random) -> None:
    """Every process loses every third message of the channel layer, for 4 s."""
    with rig.switched("drop"):
        await asyncio.sleep(4)


@fault("clock-ahead", 4, stops=True)
async def set_clock_ahead(rig: Rig, rng: random.Random) -> None:
    """The clock of one worker jumps 30 s ahead, and back after 4 s."""
    with rig.switched("ahead"):
        await asyncio.sleep(4)


async def _restart(server: Service, rng: random.Random) -> None:
    end = rng.choice([server.terminate, server.kill])
    await asyncio.to_thread(end)
    await asyncio.to_thread(server.start)
