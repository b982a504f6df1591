"""One worker process of the scaled-out column: an engine that is told by jobs what to generate.

Procrastinate chooses which worker gets a stream; from then on all is as in the embedded column: lease, journal, stop.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer, get_channel_layer
from django.conf import settings
from django.db import connections
from procrastinate import App
from procrastinate.contrib.django import app
from procrastinate.contrib.django.utils import connector_params
from procrastinate.psycopg_connector import PsycopgConnector

from streaming import collector, metrics, tasks
from streaming.background import current_task
from streaming.engine import Engine, claim
from streaming.providers import Provider, provider_from_settings
from streaming.reporting import Reporter

logger = logging.getLogger(__name__)
RESTART_S = 1.0
# How often to look for jobs that nothing announces: those that a process which hung was taking when PostgreSQL ended
# its transaction, or that came between a worker's first look and its listening. Chores can wait a little.
POLL_S = 1.0
POLL_CHORES_S = 5.0
# How long Procrastinate may take to leave its queue, which waits for a database that is away.
LEAVE_S = 2.0


class WorkerEngine(Engine):
    """An engine whose sweeps claim nothing but what is to be stopped: the rest comes as jobs."""

    @property
    def room(self) -> int:
        return 0

    give_up = staticmethod(tasks.hand_back)

    async def generate(self, pk: uuid.UUID) -> None:
        """Generate a stream to its end, unless it has one, is somebody else's, or this engine stops."""
        # Shielded: a job that is cancelled between the two must not leave a claim of which nobody knows.
        run = await asyncio.shield(asyncio.create_task(self._take(pk), name=f"take {pk}"))
        # Not the run itself: if the queue's connection breaks, the job is cancelled, but the answer goes on.
        if run is not None:
            await asyncio.wait({run})

    async def _take(self, pk: uuid.UUID) -> asyncio.Task[None] | None:
        async with self._stepping:
            found = None if self.stopping else await self._writer.run(claim, pk, self.worker)
            return self._begin(found) if found else None


@asynccontextmanager
async def working(provider: Provider, layer: BaseChannelLayer) -> AsyncIterator[WorkerEngine]:
    """An engine that takes jobs, and in the end hands back what is unfinished."""
    engine = WorkerEngine(provider, layer)
    engine.start()
    logger.info("worker %s generates up to %d answers at once", engine.worker, settings.STREAM_CONCURRENCY)
    taking = asyncio.create_task(_take_jobs(engine), name="jobs")
    sweep = tasks.sweep()
    sweep.start()
    try:
        yield engine
    finally:
        # First no more jobs, then the streams: what is handed back must not come back.
        taking.cancel()
        await asyncio.gather(asyncio.wait({taking}, timeout=LEAVE_S), sweep.stop())
        await engine.stop()


async def _take_jobs(engine: WorkerEngine) -> None:
    """Procrastinate's worker; it ends with its connection to the database, so it is started again until cancelled."""
    task = current_task()
    while not task.cancelling():
        try:
            await _take_jobs_once(engine)
        except Exception:
            logger.exception("the queue of jobs is away; trying again in %s s", RESTART_S)
        await asyncio.sleep(RESTART_S)


async def _take_jobs_once(engine: WorkerEngine) -> None:
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4, timeout=5, reconnect_timeout=2)
    async with app.with_connector(connector).open_async() as own:
        # Apart, so that a worker whose places are all taken still does chores.
        places = {tasks.ANSWERS: (settings.STREAM_CONCURRENCY, POLL_S), tasks.UPKEEP: (1, POLL_CHORES_S)}
        serving = [
            asyncio.create_task(_serve(own, engine, queue, limit, poll_s), name=queue)
            for queue, (limit, poll_s) in places.items()
        ]
        try:
            done, _ = await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            # Periodic tasks are queued through Django's connection of this thread, and nobody else would renew it.
            await sync_to_async(connections.close_all)()


async def _serve(own: App, engine: WorkerEngine, queue: str, concurrency: int, poll_s: float) -> None:
    await own.run_worker_async(
        queues=[queue],
        name=f"{queue} {engine.worker}",
        concurrency=concurrency,
        fetch_job_polling_interval=poll_s,
        delete_jobs="always",
        additional_context={"engine": engine},
        install_signal_handlers=False,
        # Its jobs only wait for the engine's runs, which end or are handed back without them.
        shutdown_graceful_timeout=0,
        update_heartbeat_interval=tasks.HEARTBEAT_S,
        stalled_worker_timeout=tasks.STALLED_S,
    )


async def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    layer = get_channel_layer()
    assert layer is not None
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with metrics.served():
        async with working(provider_from_settings(), layer) as engine:
            reporter = Reporter(engine.worker, "worker")
            reporter.start()
            collector.spare()
            await stopped.wait()
        # Not before what is unfinished was handed back: until then nobody goes on with it.
        await reporter.stop()
