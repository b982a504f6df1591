"""The picture of a log: what happened in it is where it happened, however long the log is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streaming import timeline as timelines
from streaming.models import Chunk, Stream
from streaming.timeline import WIDTH, timeline

pytestmark = pytest.mark.django_db
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def logged(*rows: tuple[float, str, str], end_s: float = 10, **columns: Any) -> Stream:
    """A finished stream with rows of (seconds, kind, text)."""
    times = {"created_at": BEGAN, "claimed_at": at(1), "first_text_at": at(2), "finished_at": at(end_s)}
    stream = Stream.objects.create(topic="t", request={}, status="done", **(times | columns))
    notes = {"retry": {"attempt": 2, "of": 3, "wait_s": 1.5, "reason": "Cut."}, "restart": {"attempt": 2}}
    notes["end"] = {"status": "done"}
    Chunk.objects.bulk_create(
        Chunk(stream=stream, seq=seq, kind=kind, text=text, data=notes.get(kind), created_at=at(seconds))
        for seq, (seconds, kind, text) in enumerate(rows, 1)
    )
    return stream


def test_what_happened_is_told_in_order_with_its_time() -> None:
    stream = logged((2, "text", "He"), (3, "retry", ""), (6, "restart", ""), (6, "text", "Hi"), (10, "end", ""))
    Stream.objects.update(stop_requested_at=at(9))
    stream.refresh_from_db()
    marks = timeline(stream).marks
    told = ["claimed", "first words", "retry", "restart", "stop asked", "done"]
    assert [mark.label for mark in marks] == told
    assert [mark.x for mark in marks] == [WIDTH * share / 10 for share in (1, 2, 3, 6, 9, 10)]
    assert "attempt 2 of 3 in 1.5 s: Cut." in marks[2].detail


def test_waits_and_silences_are_drawn_for_what_they_were() -> None:
    drawn = timeline(logged((2, "text", "a"), (3, "retry", ""), (6, "text", "b"), (6.5, "text", "c"), (10, "end", "")))
    spans = [(box.kind, round(box.x * 10 / WIDTH, 1), round(box.width * 10 / WIDTH, 1)) for box in drawn.spans]
    assert sorted(spans) == [
        ("gap", 2.0, 1.0),
        ("gap", 6.5, 3.5),
        ("pause", 3.0, 3.0),
        ("queued", 0.0, 1.0),
        ("waited", 1.0, 1.0),
    ]


def test_words_that_a_restart_took_back_look_different() -> None:
    drawn = timeline(logged((2, "text", "old"), (4, "restart", ""), (4, "reasoning", "hm"), (5, "text", "new")))
    assert [bar.kind for bar in drawn.bars] == ["void", "reasoning", "text"]


def test_rows_of_one_moment_are_one_commit() -> None:
    drawn = timeline(logged((2, "reasoning", "a"), (2, "text", "b"), (3, "text", "c"), (10, "end", "")))
    assert drawn.facts["commits"] == "3" and drawn.facts["rows"] == "4" and drawn.facts["longest gap"] == "7.00 s"
    assert [box.title for box in drawn.commits] == ["1 commit"] * 3


def test_a_long_log_makes_a_picture_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timelines, "MAX_ROWS", 1000)
    drawn = timeline(logged(*((n * 2.0, "retry" if n % 3 else "text", "x") for n in range(1100)), end_s=2200))
    assert drawn.cut and drawn.facts["rows"] == "1,000"
    assert len(drawn.bars) <= timelines.BINS and len(drawn.marks) <= timelines.MAX_MARKS
    assert len(drawn.spans) <= timelines.MAX_GAPS + 2 and 3 <= len(drawn.ticks) <= 7


@pytest.mark.parametrize("columns", [{}, {"claimed_at": None, "first_text_at": None}, {"claimed_at": at(5)}])
def test_a_stream_without_rows_or_with_a_late_claim_is_drawn_too(columns: dict[str, Any]) -> None:
    for rows in ([], [(0.0, "end", "")], [(2.0, "text", "x")]):
        drawn = timeline(logged(*rows, **columns))
        assert all(0 <= box.x <= WIDTH and box.width >= 0 for box in [*drawn.spans, *drawn.bars, *drawn.commits])
