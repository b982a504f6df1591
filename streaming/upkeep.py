"""Chores that keep the database small and quick: now and then, a little at a time, by every process that generates.

Each piece of them is a transaction of milliseconds, so nothing that people wait for waits for a chore.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from streaming import compaction
from streaming.background import CONNECTION_LOST, Periodic

logger = logging.getLogger(__name__)
EVERY_S = 60.0
# Of one chore at a time: all that make the database smaller are some percent of a core at most.
CHORE_S = 0.5
BATCH_ROWS = 2000
LOOK = 100


@dataclass(frozen=True, slots=True)
class Chore:
    """`due` is what has it coming, `do` deals with one of them, with at most so many rows in a transaction. Where
    `at_once` is set, it is given a list of up to so many. `weight`: of CHORE_S it may take so much."""

    name: str
    due: Callable[[], QuerySet[Any]]
    do: Callable[[Any, int], object]
    at_once: int = 0
    weight: float = 1

    def work(self, batch_rows: int = BATCH_ROWS) -> Iterator[Any]:
        """Deal with all that is due, one at each step; what somebody else has in hand is left to them."""
        tried: set[Any] = set()
        size = self.at_once or 1
        while found := self._due(tried):
            tried.update(found)
            for some in (found[at : at + size] for at in range(0, len(found), size)):
                self._deal(some, batch_rows)
                yield from some

    def _deal(self, pks: list[Any], batch_rows: int) -> None:
        try:
            self.do(pks if self.at_once else pks[0], batch_rows)
        except CONNECTION_LOST:
            raise
        except Exception:
            # One that cannot be dealt with must not keep all others waiting for ever.
            if len(pks) == 1:
                logger.exception("not %s: %s", self.name, pks[0])
            else:
                for pk in pks:
                    self._deal([pk], batch_rows)

    def _due(self, tried: set[Any]) -> list[Any]:
        return [pk for pk in self.due().values_list("pk", flat=True)[: LOOK + len(tried)] if pk not in tried]


CHORES = [Chore("logs compacted", compaction.due, compaction.compact)]


def some() -> None:
    """Work on each chore for a moment."""
    for chore in CHORES:
        end = time.monotonic() + CHORE_S * chore.weight
        for _ in chore.work():
            if time.monotonic() >= end:
                break


def upkeep() -> Periodic[None]:
    """Does them in a web process that generates. Workers are told to by their queue (streaming/tasks.py)."""
    return Periodic("upkeep", EVERY_S, some)
