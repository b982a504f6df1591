"""SQLite's checkpoints, made beside the commits: within one they cost 3 to 20 ms, which every reader would wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection

from streaming.background import Periodic

if TYPE_CHECKING:
    from streaming.journal import Journal

EVERY_S = 1.0
# While there is always somebody who writes, the write-ahead log never begins anew: past this many pages writers are
# kept waiting for that, long before they would make a checkpoint themselves (settings.database).
LOG_PAGES = 8_000
# By who makes the checkpoint, for a writer before it begins and for a reader while no writer can.
WAIT_MS = 20


def copy() -> bool:
    """Copy what no reader still needs from the write-ahead log into the database, which makes nobody wait.

    Tells whether the log is so long that it should begin anew; then what came meanwhile is copied as well.
    """
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        is_long = bool(cursor.fetchone()[1] >= LOG_PAGES)
        if is_long:
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
    return is_long


def begin_anew() -> None:
    """Have the log begin anew with the next commit: nobody can write for a few ms, while the rest of it is copied."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        (patience_ms,) = cursor.fetchone()
        cursor.execute(f"PRAGMA busy_timeout={WAIT_MS}")
        try:
            cursor.execute("PRAGMA wal_checkpoint(FULL)")
        finally:
            cursor.execute(f"PRAGMA busy_timeout={patience_ms}")


class Checkpoints(Periodic):
    """Makes them while an engine runs. The log begins anew between two commits of its journal: one that found the
    database locked would go by the thread, and there wait for SQLite to look again, 10 ms later for 3."""

    def __init__(self, journal: Journal) -> None:
        super().__init__("checkpoints", EVERY_S, copy)
        self._journal = journal

    async def step(self) -> None:
        if await self._thread.run(copy):
            await self._journal.between_commits(begin_anew)
