"""A compacted log is the same log to every reader, whatever position it has and whenever it came by."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from streaming import compaction, frames
from streaming.compaction import Compaction, compact, merged
from streaming.frames import END, RESTART, RETRY, SPOKEN, Piece, Row, Said, fold
from streaming.models import Chunk, Outcome, Status, Stream
from streaming.reader import Reader
from streaming.upkeep import upkeep
from tests.conftest import finish, new_stream
from tests.follower import Follower

WORDS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5)
SAID = st.tuples(st.sampled_from(["text", "text", "text", "reasoning", RETRY, RESTART]), WORDS)


@st.composite
def logs(draw: st.DrawFn) -> list[Row]:
    said = draw(st.lists(SAID, max_size=30))
    rows = [
        Row(seq, kind, text if kind in SPOKEN else "", None if kind in SPOKEN else {"attempt": 2})
        for seq, (kind, text) in enumerate(said, 1)
    ]
    return [*rows, Row(len(rows) + 1, END, "", {"status": "done"})]


def shown(said: Said, rows: list[Row]) -> list[Said]:
    """What a reader shows that has `said`, after each of the rows that follow."""
    steps = [said]
    for row in rows:
        before = [Row(0, "text", steps[-1].text, None), Row(0, "reasoning", steps[-1].reasoning, None)]
        steps.append(fold([*before, row]))
    return steps


def check(log: list[Row], few: list[Row]) -> None:
    """From every position, wherever it is cut off: what a reader of the few rows shows is what the log says there."""
    end = log[-1].seq
    for position in range(end + 1):
        known = fold(row for row in log if row.seq <= position)
        rest = [row.behind(position) for row in few if row.seq > position]
        for said in shown(known, rest)[1:]:
            there = fold(row for row in log if row.seq <= said.seq)
            assert (said.text, said.reasoning) == (there.text, there.reasoning)
        assert [row.kind for row in rest][-1:] == ([END] if position < end else [])


@given(logs(), st.integers(2, 9), st.integers(2, 9))
def test_every_reader_of_a_compacted_log_shows_what_the_log_said(log: list[Row], first: int, second: int) -> None:
    few = merged(log)
    check(log, few)
    slices = merged([*merged([*merged(log[:first]), *log[first : first + second]]), *log[first + second :]])
    check(log, slices)
    assert slices == few and few[-1] == log[-1]
    kinds = [row.kind for row in few]
    assert RETRY not in kinds and kinds.count(RESTART) == (RESTART in [row.kind for row in log])
    assert all(one != next_ for one, next_ in pairwise(kinds))


@given(logs(), st.integers(0, 30), st.integers(0, 30))
def test_a_part_of_a_compacted_log_is_that_part_of_it(log: list[Row], after: int, until: int) -> None:
    parts = [part.until(until) for part in (row.behind(after) for row in merged(log) if row.seq > after)]
    restart = max((row.seq for row in log if row.kind == RESTART), default=0)
    if restart <= after:
        said, found = fold(row for row in log if after < row.seq <= until), fold(part for part in parts if part)
        assert (found.text, found.reasoning) == (said.text, said.reasoning)


def test_a_piece_of_merged_rows_is_cut_within_them() -> None:
    few = merged([Row(seq, "text", letter, None) for seq, letter in enumerate("abcdef", 1)])
    assert [row.text for row in Piece("s", 0, tuple(few)).since(4).rows] == ["ef"]


def test_rows_stay_below_the_size_that_a_frame_can_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "ROW_CHARS", 10)
    few = merged([Row(seq, "text", "abcd", None) for seq in range(1, 6)])
    assert [(row.seq, len(row.text)) for row in few] == [(2, 8), (4, 8), (5, 4)]


# -------------------------------------------------------------------------------------------------- in the database


def stored(log: list[Row], days: float = 30) -> Stream:
    stream = new_stream()
    Chunk.objects.bulk_create(Chunk(stream=stream, seq=r.seq, kind=r.kind, text=r.text, data=r.data) for r in log)
    said = fold(log)
    Stream.objects.filter(pk=stream.pk).update(
        status=Status.DONE,
        finished_at=timezone.now() - timedelta(days=days),
        seq=said.seq,
        text=said.text,
        reasoning=said.reasoning,
    )
    return stream


def spoken(*texts: str) -> list[Row]:
    rows = [Row(seq, "text", text, None) for seq, text in enumerate(texts, 1)]
    return [*rows, Row(len(rows) + 1, END, "", Outcome(Status.DONE).data())]


LONG = [
    *[Row(seq, "text", f"void {seq} ", None) for seq in range(1, 8)],
    Row(8, RETRY, "", {"attempt": 2}),
    Row(9, RESTART, "", {"attempt": 2}),
    *[Row(seq, "reasoning", f"hm {seq} ", None) for seq in range(10, 15)],
    *[Row(seq, "text", f"word {seq} ", None) for seq in range(15, 40)],
    Row(40, END, "", {"status": "done"}),
]


@pytest.mark.django_db
@pytest.mark.parametrize("limit", [2, 3, 7, 1000])
def test_a_log_is_compacted_in_slices_of_any_size(limit: int) -> None:
    stream = stored(LONG)
    other = stored(LONG)
    compact(stream.pk, limit)
    rows = Chunk.objects.rows(stream.pk)
    assert [(row.seq, row.kind) for row in rows] == [(9, RESTART), (14, "reasoning"), (39, "text"), (40, END)]
    check(LONG, rows)
    assert len(Chunk.objects.rows(other.pk)) == 40
    assert [Chunk.objects.page(stream.pk, after, 10**6)[0][0].text for after in (14, 37)] == [
        fold(LONG).text,
        "word 38 word 39 ",
    ]


@pytest.mark.django_db
def test_a_compaction_that_was_left_off_is_finished_by_the_next() -> None:
    stream = stored(LONG)
    left_off = Compaction(stream.pk)
    left_off.step(20)
    check(LONG, Chunk.objects.rows(stream.pk))
    assert 4 < Chunk.objects.filter(stream=stream).count() < 40 and compaction.due().exists()
    compact(stream.pk)
    assert Chunk.objects.filter(stream=stream).count() == 4 and not compaction.due().exists()


@pytest.mark.django_db
def test_only_what_ended_long_ago_is_due(running_stream: Stream, settings: Any) -> None:
    old, new = stored(spoken("a", "b"), days=8), stored(spoken("a", "b"), days=6)
    assert [stream.pk for stream in compaction.due()] == [old.pk]
    settings.LOG_DAYS = 5
    assert [stream.pk for stream in compaction.due()] == [old.pk, new.pk]
    settings.LOG_DAYS = 0
    assert not compaction.due()


@pytest.mark.django_db
def test_a_live_log_is_left_alone(running_stream: Stream) -> None:
    compact(running_stream.pk)
    assert [row.text for row in Chunk.objects.rows(running_stream.pk)] == ["Hel", "lo"]
    finish(running_stream, 3)
    compact(running_stream.pk)
    assert [row.text for row in Chunk.objects.rows(running_stream.pk)] == ["Hello", ""]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("hub_stopped")
@pytest.mark.parametrize("pulls", [1, 2, 5])
async def test_a_reader_that_catches_up_while_the_log_is_compacted_gets_every_character_once(
    pulls: int, settings: Any
) -> None:
    settings.READER_PAGE_BYTES = 250  # Two rows or three.
    stream = await sync_to_async(stored)(LONG)
    work, follower = Compaction(stream.pk), Follower()
    async with Reader(stream.topic) as reader:
        await reader.attach({str(stream.pk): 0})
        while not follower.done(str(stream.pk)):
            for _ in range(pulls):
                item = await reader.next()
                for text in item.native if isinstance(item, Piece) else ():
                    follower.apply(json.loads(text))
                if follower.done(str(stream.pk)):
                    break
            if not work.done:
                await sync_to_async(work.step)(4)
    shown = follower.streams[str(stream.pk)]
    assert Said(shown.seq, shown.text, shown.reasoning) == fold(LONG)


@pytest.mark.django_db(transaction=True)
async def test_an_engine_s_upkeep_compacts_what_is_due() -> None:
    stream = await sync_to_async(stored)(LONG)
    work = upkeep()
    try:
        await work.step()
    finally:
        await work.stop()
    assert await Chunk.objects.filter(stream=stream).acount() == 4


@pytest.mark.django_db
def test_a_log_that_is_gone_is_nobodys_trouble() -> None:
    compact(uuid.uuid4())
