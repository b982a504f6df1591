"""What a journal tells the hubs through the channel layer: rows that are committed, and how fast a model speaks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streaming.frames import Row

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


def merged(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What tells of rows, with those that follow on one another in a stream as one: who has fallen behind tells its
    readers all of them by one frame."""
    found: list[dict[str, Any]] = []
    newest: dict[str, int] = {}
    for message in messages:
        if message["type"] != ROWS:
            continue
        at = newest.get(message["stream"])
        if at is not None and (before := found[at])["rows"] and before["rows"][-1][0] == message["after"]:
            rows = [*before["rows"], *message["rows"]]
            found[at] = {**before, "rows": rows, "progress": message["progress"] or before["progress"]}
        else:
            newest[message["stream"]] = len(found)
            found.append(message)
    return found
