"""The queue of the scaled-out column: one Procrastinate job per stream, and the sweep that finds what no job waits for.

A job only names a stream. Who may write it is decided by its lease, so a job too many, or one that died, does no harm.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable
from datetime import timedelta
from functools import cache

from django.db import transaction
from django.db.models import CharField, Exists, OuterRef
from django.db.models.functions import Cast, Now
from procrastinate import JobContext, exceptions
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker
from procrastinate.jobs import Status

from streaming import upkeep
from streaming.background import DatabaseThread, Periodic
from streaming.models import Stream
from streaming.repeated import Repeated

ANSWERS = "answers"
UPKEEP = "upkeep"
BEGUN = 1  # The priority of answers that somebody reads already.
HEARTBEAT_S = 5.0
STALLED_S = 20.0
SWEEP_S = 1.0
MOST_AT_ONCE = 1000


@app.task(name="streaming.generate", queue=ANSWERS, pass_context=True)
async def generate(context: JobContext, stream: str) -> None:
    """Have the worker's engine generate a stream; ends with it, or at once if somebody else has it."""
    await context.additional_context["engine"].generate(uuid.UUID(stream))


@app.periodic(cron="* * * * *")
@app.task(name="streaming.clear", queue=UPKEEP, queueing_lock="clear", pass_context=True)
async def clear(context: JobContext, timestamp: int) -> None:
    """Clear away the jobs of workers that died; one of chores would keep all others from theirs."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
        await manager.finish_job(job, Status.FAILED, delete_job=True)


@app.periodic(cron="* * * * *")
@app.task(name="streaming.upkeep", queue=UPKEEP, queueing_lock="upkeep", lock="upkeep")
async def look_after(timestamp: int) -> None:
    """Do some of the chores: one worker at a time, each minute."""
    thread = DatabaseThread("upkeep")
    try:
        await thread.run(upkeep.some)
    finally:
        await thread.close()


def defer(streams: Iterable[uuid.UUID], priority: int = 0) -> None:
    """Queue a job for each stream in the transaction under way; none for one that a job waits for already."""
    for pk in streams:
        with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
            generate.configure(queueing_lock=str(pk), priority=priority).defer(stream=str(pk))


def defer_abandoned() -> None:
    """Queue streams whose worker died, or whose job did: that nobody works on, and for which no job waits."""
    defer(pk for (pk,) in _abandoned().rows())


@cache
def _abandoned() -> Repeated:
    waiting = ProcrastinateJob.objects.filter(status="todo", queueing_lock=Cast(OuterRef("pk"), CharField()))
    found = Stream.objects.claimable().filter(~Exists(waiting)).order_by("created_at")
    return Repeated(found.values_list("pk")[:MOST_AT_ONCE])


def sweep() -> Periodic[None]:
    """`defer_abandoned` in each worker: with STREAM_LEASE_S, how long a killed worker's answers stand still."""
    return Periodic("sweep", SWEEP_S, defer_abandoned)


def hand_back(leases: list[uuid.UUID]) -> None:
    """Give streams up and queue them again at once, so that another worker goes on."""
    with transaction.atomic():
        defer(Stream.objects.hand_back(leases), BEGUN)


def workers_alive() -> int:
    """How many workers gave a sign of life within STALLED_S seconds."""
    return ProcrastinateWorker.objects.filter(last_heartbeat__gt=Now() - timedelta(seconds=STALLED_S)).count()
