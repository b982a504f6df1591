"""SQLite's checkpoints, made beside the commits: within one they cost 3 to 20 ms, which every reader would wait for."""

from __future__ import annotations

from django.db import connection

from streaming.background import Periodic

EVERY_S = 1.0
# While there is always somebody who writes, the write-ahead log never begins anew: past this many pages writers are
# kept waiting for that, long before they would make a checkpoint themselves (settings.database).
LOG_PAGES = 8_000
# By who makes the checkpoint, for a writer before it begins and for a reader while no writer can.
WAIT_MS = 20


def checkpoint() -> None:
    """Copy what no reader still needs from the write-ahead log into the database.

    That makes nobody wait. To have the log begin anew does, for a few ms: for what came while the rest was copied.
    """
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        if cursor.fetchone()[1] >= LOG_PAGES:
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
            cursor.execute(f"PRAGMA busy_timeout={WAIT_MS}")
            cursor.execute("PRAGMA wal_checkpoint(FULL)")


def checkpoints() -> Periodic:
    """Makes them while an engine runs."""
    return Periodic("checkpoints", EVERY_S, checkpoint)
