"""Starts this process's engine with its server and stops it before the server's end: daphne by its reactor, any other
ASGI server by the lifespan protocol. Without either (tests, commands), and where workers generate, no engine runs.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings

from streaming import collector
from streaming.background import Periodic
from streaming.engine import Engine, process_name
from streaming.hub import stop_hub
from streaming.providers import provider_from_settings
from streaming.reporting import Reporter
from streaming.upkeep import upkeep

logger = logging.getLogger(__name__)
_engine: Engine | None = None
_upkeep: Periodic[None] | None = None
_reporter: Reporter | None = None


async def start() -> None:
    global _engine, _reporter, _upkeep
    if settings.STREAM_ENGINE != "worker":
        layer = get_channel_layer()
        assert layer is not None
        _engine = Engine(provider_from_settings(), layer)
        _engine.start()
        _upkeep = upkeep()
        _upkeep.start()
    _reporter = Reporter(_engine.worker if _engine else process_name(), "web")
    _reporter.start()
    collector.spare()


async def stop() -> None:
    """The engine first: until it has handed back what is unfinished, nobody goes on with it."""
    global _engine, _reporter, _upkeep
    engine, rest = _engine, [part for part in (_upkeep, _reporter) if part is not None]
    _engine = _upkeep = _reporter = None
    try:
        if engine is not None:
            await engine.stop()
    finally:
        for failure in await asyncio.gather(*(part.stop() for part in rest), return_exceptions=True):
            if failure is not None:
                logger.error("the process could not be left in order", exc_info=failure)
        await stop_hub()


async def lifespan(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The ASGI lifespan application."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await start()
            except Exception as error:
                # Without this message a server takes it that there is no lifespan, and serves without an engine.
                logger.exception("the engine could not be started")
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        else:
            await stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


def follow_daphne() -> None:
    """Daphne has no lifespan: if it is the server of this process, tie the engine to its reactor instead."""
    if "daphne.server" not in sys.modules:
        return
    from twisted.internet import reactor as module
    from twisted.internet.defer import Deferred

    reactor: Any = module

    def spawn(coroutine: Any) -> asyncio.Task[None]:
        loop = asyncio.get_event_loop()
        return loop.create_task(coroutine, context=contextvars.Context())

    async def start_or_stop_server() -> None:
        try:
            await start()
        except Exception:
            logger.exception("the engine could not be started")
            reactor.stop()

    reactor.callWhenRunning(lambda: spawn(start_or_stop_server()))
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromFuture(spawn(stop())))
