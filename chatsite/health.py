"""`/healthz`: this process answers. `/readyz`: what it needs to serve is there, each part with its reason if it is not.

Both are for load balancers and supervisors: open to anybody, so they tell no more than the name of what is missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

from streaming import engine
from streaming.hub import get_hub
from streaming.layers import probe

logger = logging.getLogger(__name__)
CHECK_S = 2.0


class NotReady(Exception):
    """The text says what is missing, fit for strangers."""


async def healthz(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


async def readyz(request: HttpRequest) -> JsonResponse:
    """200 or 503 with {"status", "checks": {name: "ok" or the reason}}."""
    names = list(CHECKS)
    found = dict(zip(names, await asyncio.gather(*(_reason(name) for name in names)), strict=True))
    ready = set(found.values()) == {"ok"}
    return JsonResponse({"status": "ok" if ready else "unavailable", "checks": found}, status=200 if ready else 503)


async def _reason(name: str) -> str:
    try:
        async with asyncio.timeout(CHECK_S):
            await CHECKS[name]()
    except NotReady as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {CHECK_S:g} seconds"
    except Exception:
        logger.warning("the %s is not ready", name, exc_info=True)
        return "unavailable"
    return "ok"


async def _ask(question: Callable[[], Any]) -> Any:
    # Not in the request's own thread: if the database hangs, so would the answer that says it.
    return await get_hub().database().run(question)


def _query_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _compare_migrations() -> None:
    executor = MigrationExecutor(connection)
    if missing := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise NotReady(f"{len(missing)} to apply: run migrate")


async def _send_to_layer() -> None:
    layer = get_channel_layer()
    assert layer is not None
    await probe(layer)


async def _find_engine() -> None:
    if settings.STREAM_ENGINE == "process":
        if not engine.is_running():
            raise NotReady("this process does not generate")
        return
    from streaming import tasks  # On PostgreSQL only.

    if not await _ask(tasks.workers_alive):
        raise NotReady("no worker is alive")


CHECKS: dict[str, Callable[[], Awaitable[Any]]] = {
    "database": partial(_ask, _query_database),
    "migrations": partial(_ask, _compare_migrations),
    "layer": _send_to_layer,
    "engine": _find_engine,
}
