"""SQLite's checkpoints, made beside the commits: within one they cost 3 to 17 ms, which every reader would wait for."""

from __future__ import annotations

from django.db import connection

from streaming.background import Periodic

EVERY_S = 1.0


def checkpoint() -> None:
    """Copy what no reader still needs from the write-ahead log into the database, without making anybody wait."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")


def checkpoints() -> Periodic:
    """Makes them while an engine runs."""
    return Periodic("checkpoints", EVERY_S, checkpoint)
