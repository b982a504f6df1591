"""Loops that run beside the requests: they outlive their steps' errors and end when they are told to."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar

from streaming.background import forever, start_apart
from tests.conftest import DEADLINE_S

about: ContextVar[str] = ContextVar("about", default="")


async def test_a_loop_that_a_request_starts_does_not_speak_for_it() -> None:
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def step() -> None:
        heard.set_result(about.get())
        await asyncio.Event().wait()

    about.set("a request")
    loop = start_apart("loop", step, lambda: asyncio.sleep(0))
    async with asyncio.timeout(DEADLINE_S):
        assert await heard == ""
    loop.cancel()
    await asyncio.wait([loop])


async def test_a_loop_whose_step_swallows_its_cancellation_ends_all_the_same() -> None:
    begun = asyncio.Event()

    async def step() -> None:
        if begun.is_set():
            await asyncio.Event().wait()
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    loop = asyncio.create_task(forever(step, lambda: asyncio.sleep(0)))
    await begun.wait()
    loop.cancel()
    done, _ = await asyncio.wait([loop], timeout=DEADLINE_S)
    assert done
