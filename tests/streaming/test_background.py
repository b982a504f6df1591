"""Loops that run beside the requests: they outlive their steps' errors and end when they are told to."""

from __future__ import annotations

import asyncio
import contextlib

from streaming.background import forever
from tests.conftest import DEADLINE_S


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
