"""SQLite's checkpoints, made beside the commits: within one they cost 3 to 17 ms, which every reader would wait for."""

from __future__ import annotations

import asyncio

from django.db import connection

from streaming.background import DatabaseThread, forever

EVERY_S = 1.0


def checkpoint() -> None:
    """Copy what no reader still needs from the write-ahead log into the database, without making anybody wait."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")


class Checkpoints:
    """A thread that makes them while an engine runs."""

    def __init__(self) -> None:
        self._thread = DatabaseThread("checkpoints")
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.create_task(forever(self.step, _pause), name="checkpoints")

    async def step(self) -> None:
        await self._thread.run(checkpoint)

    async def stop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        await self._thread.close()


async def _pause() -> None:
    await asyncio.sleep(EVERY_S)
