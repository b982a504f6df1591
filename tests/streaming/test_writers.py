"""Promise 4: however two writers take a stream from each other, only the last one's words are its text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming.frames import RESTART, SPOKEN, TEXT, Row, fold
from streaming.models import Chunk, Entry, Outcome, Stream
from tests.conftest import new_stream

pytestmark = pytest.mark.django_db

WRITERS = st.sampled_from(["a", "b"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["claim", "say", "say", "say", "again", "expire"]), WRITERS),
        st.tuples(st.just("end"), WRITERS),
    ),
    min_size=5,
    max_size=40,
)


@dataclass
class Writer:
    """A process that believes in its lease until a commit tells it otherwise, as one that was paused does."""

    letter: str
    stream: Stream
    claim: Stream | None = None
    seq: int = 0
    stale: bool = False
    said: str = ""
    last: Entry | None = None

    def take(self) -> bool:
        claim = Stream.objects.claim(self.stream.pk, self.letter, 60)
        if claim is None:
            return False
        rows = Chunk.objects.rows(claim.pk)
        self.claim, self.seq, self.said, self.last = claim, len(rows), "", None
        self.stale = any(row.kind in SPOKEN for row in rows)
        return True

    def say(self) -> None:
        """One more word, numbered so that none can stand for another."""
        if self.claim is None or self.claim.lease is None:
            return
        word = f"{self.letter}{self.seq} "
        rows = [Row(self.seq + 1, RESTART, "", {"attempt": 2})] if self.stale else []
        rows.append(Row(self.seq + len(rows) + 1, TEXT, word, None))
        entry = Entry(self.stream.pk, self.claim.lease, tuple(rows))
        if Stream.objects.append([entry]):
            return
        self.stale, self.seq, self.last = False, rows[-1].seq, entry
        self.said += word

    def again(self) -> None:
        """The answer to the last commit was lost: it is made once more."""
        if self.last is not None:
            Stream.objects.append([self.last], again=True)

    def end(self) -> bool:
        if self.claim is None or self.claim.lease is None:
            return False
        outcome = Outcome("done", "stop")
        row = Row(self.seq + 1, "end", "", outcome.data())
        return not Stream.objects.append([Entry(self.stream.pk, self.claim.lease, (row,), outcome=outcome)])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_two_writers_under_an_expired_lease_never_mix_their_words(steps: list[tuple[str, str]]) -> None:
    stream = new_stream()
    writers = {letter: Writer(letter, stream) for letter in "ab"}
    holder: Writer | None = None
    for step, letter in steps:
        writer = writers[letter]
        if step == "claim" and writer.take():
            holder = writer
        elif step == "say":
            writer.say()
        elif step == "again":
            writer.again()
        elif step == "expire":
            Stream.objects.live().filter(pk=stream.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
        elif step == "end":
            assert not writer.end() or writer is holder
    rows = Chunk.objects.rows(stream.pk)
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    text = fold(rows).text
    assert len({word[0] for word in text.split()}) <= 1
    if holder is not None and holder.said:
        assert text == holder.said
    stored = Stream.objects.get(pk=stream.pk)
    if not stored.is_live:
        assert stored.text == text
        assert [row.kind for row in rows].count("end") == 1 and rows[-1].kind == "end"
