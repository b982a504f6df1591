"""What tests of the log have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streaming import inloop
from streaming.models import StreamQuerySet


def go_by_the_thread(monkeypatch: pytest.MonkeyPatch, append: Callable[..., Any]) -> None:
    """Have SQLite's commits go there, and that of each log's first words or end on any database; they are made by
    `append`."""

    async def not_here(*_: Any) -> int:
        return 0

    monkeypatch.setattr(inloop.InLoop, "add", not_here)
    monkeypatch.setattr(StreamQuerySet, "append", append)


@pytest.fixture
def by_thread(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Of each commit that went by the thread: how many streams it was about, whether it may have been done before."""
    found: list[tuple[int, bool]] = []
    append = StreamQuerySet.append

    def noting(streams: StreamQuerySet, entries: Any, *, again: bool = False) -> Any:
        found.append((len(entries), again))
        return append(streams, entries, again=again)

    monkeypatch.setattr(StreamQuerySet, "append", noting)
    return found
