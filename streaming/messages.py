"""What a journal tells the hubs through the channel layer: rows that are committed, and how fast a model speaks."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from streaming.frames import FRAME_CHARS, Row

logger = logging.getLogger(__name__)
ROWS = "stream.rows"


def rows_message(
    topic: str, stream: str, after: int, rows: tuple[Row, ...] = (), progress: dict[str, int] | None = None
) -> dict[str, Any]:
    """What tells of rows behind `after`; without rows, that there is such a stream."""
    return {
        "type": ROWS,
        "topic": topic,
        "stream": stream,
        "after": after,
        "rows": rows,
        "progress": progress,
    }


@dataclass(slots=True)
class Told:
    """What a hub makes of such messages."""

    topic: str
    stream: str
    after: int
    rows: list[Row]
    progress: dict[str, int] | None
    chars: int = 0

    def __post_init__(self) -> None:
        self.chars = sum(len(row.text) for row in self.rows)

    def add(self, told: Told) -> bool:
        """Take in what follows on this, unless that makes it long; whether it was."""
        if not self.rows or self.rows[-1].seq != told.after or self.chars > FRAME_CHARS:
            return False
        self.rows += told.rows
        self.chars += told.chars
        self.progress = told.progress or self.progress
        return True


def understood(messages: Iterable[dict[str, Any]]) -> list[Told]:
    """What messages tell, with those that follow on one another in a stream as one: who has fallen behind gives its
    readers all of them by one frame. What cannot be understood, as of a version to come, is left out."""
    found: list[Told] = []
    newest: dict[str, Told] = {}
    for message in messages:
        try:
            if message["type"] != ROWS:
                continue
            rows = [Row._make(row) for row in message["rows"]]
            told = Told(message["topic"], message["stream"], message["after"], rows, message["progress"])
        except Exception:
            logger.exception("a message was not understood; a tick will look")
            continue
        before = newest.get(told.stream)
        if before is None or not before.add(told):
            newest[told.stream] = told
            found.append(told)
    return found
