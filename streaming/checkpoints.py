"""SQLite's checkpoints, made beside the commits: within one they cost 3 to 20 ms, which every reader would wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection

from streaming.background import Periodic

if TYPE_CHECKING:
    from streaming.journal import Journal

# The shorter the log, the cheaper is each commit, and the shorter what a checkpoint takes from the processors and the
# disk at once. So one is made for so many pages, as far apart as the first and as close as the second.
PAGES = 500
EVERY_S = 1.0
OFTEN_S = 0.1
# While there is always somebody who writes, the write-ahead log never begins anew by itself. Past this many pages
# writers are kept waiting for that, long before they would make a checkpoint themselves (settings.database).
LOG_PAGES = 2_000
# By who makes the checkpoint, for a writer before it begins and for a reader while no writer can.
WAIT_MS = 20


def copy() -> int:
    """Copy what no reader still needs from the write-ahead log into the database, which makes nobody wait; how many
    pages the log has."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return int(cursor.fetchone()[1])


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


class Checkpoints(Periodic[int]):
    """Makes them while an engine runs. The log begins anew between two commits of its journal: one that found the
    database locked would go by the thread, and there wait for SQLite to look again, 10 ms later for 3."""

    def __init__(self, journal: Journal) -> None:
        super().__init__("checkpoints", EVERY_S, copy)
        self._journal = journal
        self._pages = 0
        self._tried = 0  # how long the log was when it was last to begin anew and did not

    async def step(self) -> int:
        pages = await super().step()
        grown = pages - self._pages
        if grown < 0:  # It began anew.
            grown, self._tried = pages, 0
        self._pages = pages
        self.every_s = min(max(self.every_s * PAGES / max(grown, 1), OFTEN_S), EVERY_S)
        # While somebody reads for long, to try only keeps commits waiting.
        if pages >= max(LOG_PAGES, 2 * self._tried):
            self._tried = pages
            await super().step()  # what came meanwhile: the less is left to do while nobody writes
            async with self._journal.between_commits:
                await self._thread.run(begin_anew)
        return pages
