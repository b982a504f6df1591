"""A stream's log as a picture: plain numbers, in the units of the drawing, that a template makes an SVG of.

All of it follows from the stream's row and the rows of its log. Rows with one time were committed together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from django.db.models.functions import Length
from django.utils import timezone

from streaming import masking
from streaming.frames import END, RESTART, RETRY, SPOKEN
from streaming.models import Chunk, Stream

WIDTH, LANES, BARS, COMMITS = 960, 40, 120, 16  # Heights of the marks' labels, the words and the commits.
BINS = 240
MAX_ROWS = 20_000
MAX_MARKS = 40
MAX_GAPS = 40
GAP_S = 1.0
VOID = "void"


class Event(NamedTuple):
    """A row of the log without its words: seconds since the stream was made, its kind, how many characters."""

    at_s: float
    seq: int
    kind: str
    chars: int
    data: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle. `kind` is its class in the picture, `title` what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a moment."""

    at_s: float
    kind: str
    label: str
    detail: str = ""
    x: float = 0
    y: float = 0
    anchor: str = "start"


@dataclass(frozen=True, slots=True)
class Timeline:
    """The picture, WIDTH wide, and the same in figures and words."""

    spans: list[Box] = field(default_factory=list)
    bars: list[Box] = field(default_factory=list)
    commits: list[Box] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    ticks: list[Mark] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    width = WIDTH
    lanes = LANES
    words = BARS
    floor = LANES + BARS
    bottom = LANES + BARS + COMMITS
    height = LANES + BARS + COMMITS + 18


def timeline(stream: Stream, *, personal: bool = False) -> Timeline:
    """The picture of a log, of its first MAX_ROWS rows if it is longer; that of a live stream ends now."""
    events = _events(stream)
    end = stream.finished_at or timezone.now()
    last_s = max([_since(stream, end) or 0.0, *(event.at_s for event in events[-1:]), 0.1])
    scale = WIDTH / last_s
    marks = _marks(stream, events, personal)
    return Timeline(
        spans=_spans(stream, events, last_s, scale),
        bars=_bars(events, last_s),
        commits=_commits(events, last_s),
        marks=[_placed(mark, number, scale) for number, mark in enumerate(marks[:MAX_MARKS])],
        ticks=[_placed(Mark(at_s, "tick", f"{at_s:g} s"), 0, scale) for at_s in _rounds(last_s)],
        facts=_facts(events, last_s),
        cut=len(events) == MAX_ROWS,
    )


def _since(stream: Stream, moment: datetime | None) -> float | None:
    # Rows are dated by a process, the stream by the database: their clocks may differ a little.
    return None if moment is None else max(0.0, (moment - stream.created_at).total_seconds())


def _events(stream: Stream) -> list[Event]:
    rows = Chunk.objects.filter(stream=stream.pk).order_by("seq")
    values = rows.values_list("created_at", "seq", "kind", Length("text"), "data")[:MAX_ROWS]
    return [Event(_since(stream, at) or 0.0, *rest) for at, *rest in values]


def _marks(stream: Stream, events: Sequence[Event], personal: bool) -> list[Mark]:
    """What happened, in order, but for words."""
    marks = []
    for name, kind, label in (("claimed_at", "claim", "claimed"), ("stop_requested_at", "stop", "stop asked")):
        if (at_s := _since(stream, getattr(stream, name))) is not None:
            detail = f"attempt {stream.attempt}, by {stream.worker or 'a program'}" if kind == "claim" else ""
            marks.append(Mark(at_s, kind, label, detail))
    if (first_s := _since(stream, stream.first_text_at)) is not None:
        marks.append(Mark(first_s, "first", "first words"))
    for event in events:
        data = masking.data_for(event.data or {}, personal=personal, fed=stream.fed)
        if event.kind == RETRY:
            detail = (
                f"attempt {data.get('attempt')} of {data.get('of')} in {data.get('wait_s')} s: {data.get('reason')}"
            )
            marks.append(Mark(event.at_s, RETRY, "retry", detail))
        elif event.kind == RESTART:
            detail = f"attempt {data.get('attempt')} speaks; what was said before is void"
            marks.append(Mark(event.at_s, RESTART, "restart", detail))
        elif event.kind == END:
            marks.append(Mark(event.at_s, END, str(data.get("status")), f"the last row, {event.seq}"))
    return sorted(marks, key=lambda mark: mark.at_s)


def _placed(mark: Mark, number: int, scale: float) -> Mark:
    """The mark where it is drawn; the labels of neighbours in different lanes."""
    x = round(mark.at_s * scale, 1)
    anchor = "end" if x > WIDTH * 0.85 else "start"
    return Mark(mark.at_s, mark.kind, mark.label, mark.detail, x, 10 + 12 * (number % 3), anchor)


def _spans(stream: Stream, events: Sequence[Event], last_s: float, scale: float) -> list[Box]:
    """Where nothing was said: waiting for a worker, for the first words, between two commits."""
    first_s = events[0].at_s if events else last_s
    claimed_s = _since(stream, stream.claimed_at)
    if claimed_s is None or claimed_s > first_s:  # Nobody has it yet; or the first worker's claim is not kept.
        claimed_s = first_s if claimed_s is None else 0.0
    spans = [(0.0, claimed_s, "queued", "waited for a worker"), (claimed_s, first_s, "waited", "waited for the model")]
    silences = []
    for before, after in pairwise([*events, Event(last_s, 0, END, 0, None)]):
        if before.kind != END and after.at_s - before.at_s >= GAP_S:
            kind = "pause" if before.kind == RETRY else "gap"
            silences.append((before.at_s, after.at_s, kind, "nothing was said"))
    spans += sorted(silences, key=lambda span: span[0] - span[1])[:MAX_GAPS]
    return [
        Box(round(start * scale, 1), LANES, round((end - start) * scale, 1), BARS, kind, f"{end - start:.2f} s: {said}")
        for start, end, kind, said in spans
        if end > start
    ]


def _bin(at_s: float, last_s: float) -> int:
    return min(int(at_s / last_s * BINS), BINS - 1)


def _bars(events: Sequence[Event], last_s: float) -> list[Box]:
    """How much was said when, what a restart made void apart from the rest."""
    said: Counter[tuple[int, str]] = Counter()
    void_before = max((event.seq for event in events if event.kind == RESTART), default=0)
    for event in events:
        if event.kind in SPOKEN:
            said[_bin(event.at_s, last_s), VOID if event.seq < void_before else event.kind] += event.chars
    sums: Counter[int] = Counter()
    for (place, _), chars in said.items():
        sums[place] += chars
    highest = max(sums.values(), default=0) or 1
    width, tops, bars = WIDTH / BINS, Counter[int](), []
    for (place, kind), chars in sorted(said.items()):
        height = max(1, round(chars / highest * (BARS - 4)))
        tops[place] += height
        y = LANES + BARS - tops[place]
        bars.append(Box(round(place * width, 1), y, width, height, kind, f"{chars:,} characters ({kind})"))
    return bars


def _commits(events: Sequence[Event], last_s: float) -> list[Box]:
    counts = Counter(_bin(at_s, last_s) for at_s in {event.at_s for event in events})
    most, width = max(counts.values(), default=1), WIDTH / BINS
    boxes = []
    for place, count in sorted(counts.items()):
        height = max(3, round(count / most * (COMMITS - 2)))
        title = f"{count} commit{'' if count == 1 else 's'}"
        boxes.append(Box(round(place * width, 1), LANES + BARS + 2, width - 1, height, "commit", title))
    return boxes


def _rounds(last_s: float) -> list[float]:
    """About five round numbers of seconds up to the last."""
    step = 0.1
    for factor in (2, 2.5, 2) * 6:
        if last_s / step <= 6:
            break
        step *= factor
    return [round(step * number, 1) for number in range(int(last_s / step) + 1)]


def _facts(events: Sequence[Event], last_s: float) -> dict[str, str]:
    times = sorted({event.at_s for event in events})
    longest = max((b - a for a, b in pairwise(times)), default=0.0)
    chars = sum(event.chars for event in events)
    return {
        "rows": f"{len(events):,}",
        "commits": f"{len(times):,}",
        "characters": f"{chars:,}",
        "longest gap": f"{longest:.2f} s",
        "whole time": f"{last_s:.2f} s",
    }
