"""Commits made in the event loop itself where the database is a file.

SQLite adds a row or ten in a tenth of a millisecond, without the disk. To wake a thread for that, and the loop when it
is done, takes longer: a delta that comes alone reaches its readers in 0.7 ms instead of 1.1, for a third less CPU. Of
more the thread makes more still: it waits for the interpreter while the loop reads what the models say, and meanwhile
so much is said that the next commit is as large.
Nothing here waits for another connection: what its transaction stands in the way of goes by the thread, as does
everything for a while once the disk has held the loop up.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.db import DEFAULT_DB_ALIAS, connections

from streaming import commit

if TYPE_CHECKING:
    from streaming.models import Entry

logger = logging.getLogger(__name__)
# What keeps the loop for some 5 ms.
ROWS = 256
CHARS = 64_000
# What takes longer than this was the disk, or a machine with too much to do (a thread that computes costs 5 ms, the
# interpreter's switch interval, for each statement). Either may hold the loop up for a two-hundredth of the time.
SLOW_S = 0.02
STATEMENTS = 4  # of a commit that is more than words
RESTS = 200


class InLoop:
    """A connection of the event loop's thread, in which it is made. It never locks anything for longer than `add`."""

    elsewhere = False  # The loop's own time is counted already.

    def __init__(self) -> None:
        options = connections[DEFAULT_DB_ALIAS].get_connection_params()
        self._connection = sqlite3.connect(**options | {"isolation_level": None})
        # Checkpoints are made elsewhere (streaming/checkpoints.py). What is read here may be locked for a moment by who
        # recovers the log; from then on nothing is waited for.
        for setting in ("synchronous=NORMAL", "wal_autocheckpoint=0", "busy_timeout=0"):
            self._connection.execute(f"PRAGMA {setting}")
        self._rests_until = 0.0

    async def add(self, entries: Sequence[Entry]) -> int:
        """Add the rows of `entries` whose leases are still held, with what is to be noted of their streams; how many
        rows that were. 0 also if it is not for here or was refused."""
        began = time.monotonic()
        if began < self._rests_until:
            return 0
        # One row has no more than CHARS (frames.ROW_CHARS).
        word = entries[0] if len(entries) == 1 and entries[0].is_lone_word else None
        if not word and not _are_few(entries):
            return 0
        try:
            if word:
                added = commit.append_word_natively(self._connection, word)
            else:
                added = commit.append_natively(self._connection, entries)
        except Exception as error:
            logger.debug("a commit of %d streams goes by the thread: %r", len(entries), error)
            return 0
        took_s = time.monotonic() - began
        if took_s > SLOW_S * (1 if word or all(entry.is_words for entry in entries) else STATEMENTS):
            self._rests_until = began + RESTS * took_s
        return added

    async def close(self) -> None:
        self._connection.close()


def _are_few(entries: Sequence[Entry]) -> bool:
    """Whether these are little work."""
    rows = chars = 0
    for entry in entries:
        if not entry.tells_all:
            return False
        rows += len(entry.rows)
        chars += len(entry.said.text) + len(entry.said.reasoning) if entry.said else 0
        chars += sum(len(row.text) for row in entry.rows)
    return rows <= ROWS and chars <= CHARS
