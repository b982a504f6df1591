"""Judges one run from outside: it knows what the model server sent, what each reader got and what the database holds.

It shares no code with the site; what a log adds up to is written down here once more, from docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

LIVE = ("pending", "streaming")


@dataclass(frozen=True)
class Limits:
    """What a site may take: to end all streams after a fault, to go on with a dead worker's, to stop."""

    ended_s: float = 15.0
    recovered_s: float = 10.0
    stopped_s: float = 1.0


class Said(NamedTuple):
    """What is on show at one position of a log."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True)
class Asked:
    """A request as the model server saw it: its whole answer, and how many pieces of it were sent. Times are Unix."""

    prompt: str
    reasoning: Sequence[str]
    text: Sequence[str]
    sent: int
    at: float
    gone_at: float | None = None

    def said(self, pieces: int) -> Said:
        """What `pieces` pieces add up to; reasoning comes first."""
        spoken = max(0, pieces - len(self.reasoning))
        return Said("".join(self.text[:spoken]), "".join(self.reasoning[:pieces]))

    @property
    def whole(self) -> Said:
        return self.said(len(self.reasoning) + len(self.text))


@dataclass(frozen=True)
class Row:
    seq: int
    kind: str
    text: str = ""
    data: dict[str, Any] | None = None
    at: float = 0


@dataclass(frozen=True)
class Stored:
    """A stream as the database holds it in the end."""

    stream: str
    prompt: str
    status: str
    seq: int
    text: str
    reasoning: str
    rows: Sequence[Row]
    finished_at: float | None
    stop_asked: bool = False


@dataclass(frozen=True)
class Seen:
    """What one reader of a stream got, over however many connections."""

    reader: str
    stream: str
    frames: Sequence[dict[str, Any]]
    told_at: float | None
    refused: str = ""


@dataclass(frozen=True)
class Stop:
    """A stop sent for a stream, where nothing should have been in its way if it is `clear`."""

    stream: str
    at: float
    clear: bool


@dataclass(frozen=True)
class Story:
    """All that is known of one run. `struck` are the streams that the fault tore from their writer, at `struck_at`."""

    prompts: Sequence[str]
    over_at: float
    asked: Sequence[Asked]
    stored: Sequence[Stored]
    seen: Sequence[Seen]
    struck: Sequence[str] = ()
    struck_at: float = 0
    stops: Sequence[Stop] = ()
    model_is_well: bool = True


@dataclass(frozen=True)
class Violation:
    kind: str
    where: str
    detail: str


@dataclass
class Judgement:
    violations: list[Violation] = field(default_factory=list)
    recovered_s: list[float] = field(default_factory=list)
    stopped_s: list[float] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)


def judge(story: Story, limits: Limits) -> Judgement:
    """Everything that a promise forbids, and how long things took."""
    found = Judgement()
    found.violations += _prompts(story)
    for stored in story.stored:
        found.violations += _log(stored)
        found.violations += _sources(stored, [asked for asked in story.asked if asked.prompt == stored.prompt])
        found.violations += _ending(stored, story, limits)
        found.ended_s.append((stored.finished_at or float("inf")) - story.over_at)
    logs = {stored.stream: stored for stored in story.stored}
    for seen in story.seen:
        if seen.stream in logs:
            found.violations += _reader(seen, logs[seen.stream], story, limits)
        else:
            found.violations.append(Violation("not told", f"{seen.stream} {seen.reader}", "follows no stored stream"))
    for stream in story.struck:
        _recovery(found, logs[stream], story, limits)
    for stop in (stop for stop in story.stops if stop.stream in logs):
        _stop(found, stop, logs[stop.stream], story, limits)
    return found


def _prompts(story: Story) -> Iterator[Violation]:
    for prompt in story.prompts:
        if (count := sum(stored.prompt == prompt for stored in story.stored)) != 1:
            yield Violation("asked once", prompt, f"has {count} answers")


def shown(rows: Iterable[Row]) -> Iterator[tuple[int, Said]]:
    """What is on show after each row."""
    said = Said()
    for row in rows:
        if row.kind == "restart":
            said = Said()
        elif row.kind == "text":
            said = Said(said.text + row.text, said.reasoning)
        elif row.kind == "reasoning":
            said = Said(said.text, said.reasoning + row.text)
        yield row.seq, said


def _log(stored: Stored) -> Iterator[Violation]:
    """The log has no holes, ends once, and adds up to what the stream says of itself."""
    where = stored.stream
    if [row.seq for row in stored.rows] != list(range(1, len(stored.rows) + 1)):
        yield Violation("numbering", where, f"rows {[row.seq for row in stored.rows]}")
    if stored.status in LIVE:
        return
    ends = [row for row in stored.rows if row.kind == "end"]
    if len(ends) != 1 or stored.rows[-1] is not ends[0]:
        yield Violation("ending", where, f"{len(ends)} end rows, the last row is {stored.rows[-1:]}")
    elif ends[0].data is None or ends[0].data["status"] != stored.status:
        yield Violation("ending", where, f"ended as {ends[0].data}, and is {stored.status}")
    *_, (seq, said) = (0, Said()), *shown(stored.rows)
    if seq != stored.seq:
        yield Violation("numbering", where, f"the last row is {seq}, the stream says {stored.seq}")
    yield from _compare(where, "stored", said, Said(stored.text, stored.reasoning))


def _sources(stored: Stored, asked: Sequence[Asked]) -> Iterator[Violation]:
    """Each attempt's words are the beginning of what one request was answered with; all of it, if it is done."""
    attempts = list(_attempts(stored.rows))
    for number, said in enumerate(attempts, 1):
        last = number == len(attempts)
        source = max(asked, key=lambda one: _likeness(one.whole, said), default=None)
        if source is None:
            if said != Said() or stored.status == "done":
                yield Violation(
                    "foreign", stored.stream, f"no request, yet it is {stored.status} with {said.text[:80]!r}"
                )
            continue
        if last and stored.status == "done":
            yield from _compare(stored.stream, f"attempt {number}", source.whole, said)
            continue
        sent = source.said(source.sent + 1)  # The piece on its way when the model server looked.
        for kind, whole, part in zip(Said._fields, sent, said, strict=True):
            if not whole.startswith(part):
                yield _difference(stored.stream, f"{kind} of attempt {number}", whole[: len(part)], part)
        if said.text and said.reasoning != sent.reasoning:
            yield _difference(stored.stream, f"reasoning of attempt {number}", sent.reasoning, said.reasoning)


def _attempts(rows: Sequence[Row]) -> Iterator[Said]:
    said = Said()
    states = [(Row(0, "begin"), Said()), *((row, said) for row, (_, said) in zip(rows, shown(rows), strict=True))]
    for (_, said), (row, _) in pairwise(states):
        if row.kind == "restart":
            yield said
    yield states[-1][1]


def _likeness(whole: Said, part: Said) -> int:
    """How many characters of `part` begin as `whole` does."""
    return sum(_alike(one, other) for one, other in zip(whole, part, strict=True))


def _alike(one: str, other: str) -> int:
    """The length of what both begin with."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _ending(stored: Stored, story: Story, limits: Limits) -> Iterator[Violation]:
    if stored.status in LIVE or stored.finished_at is None:
        yield Violation("unfinished", stored.stream, f"is {stored.status} {limits.ended_s:g} s after the fault")
    elif stored.finished_at - story.over_at > limits.ended_s:
        yield Violation("late", stored.stream, f"ended {stored.finished_at - story.over_at:.1f} s after the fault")
    elif story.model_is_well and not stored.stop_asked and stored.status != "done":
        yield Violation("given up", stored.stream, f"ended as {stored.status}, and the model was well")


def _reader(seen: Seen, stored: Stored, story: Story, limits: Limits) -> Iterator[Violation]:
    """At every position the reader shows what the log adds up to there, and it is told of the end."""
    where = f"{stored.stream} {seen.reader}"
    right = dict(shown(stored.rows))
    at, said, status = 0, Said(), ""
    for frame in seen.frames:
        if frame["seq"] <= at and not (status and frame["type"] == "end"):
            yield Violation("repeated", where, f"row {frame['seq']} at {at}")
            return
        at, said, status = _applied(frame, said, status)
        if at not in right:
            yield Violation("foreign", where, f"row {at}, which is not in the log of {stored.seq}")
            return
        if said != right[at]:
            yield from _compare(where, f"row {at}", right[at], said)
            return
    if seen.refused:
        yield Violation("refused", where, seen.refused)
    elif seen.told_at is None or not status:
        yield Violation("not told", where, f"is at {at} of {stored.seq}, and the stream is {stored.status}")
    elif seen.told_at - story.over_at > limits.ended_s:
        yield Violation("told late", where, f"{seen.told_at - story.over_at:.1f} s after the fault")
    elif (at, status) != (stored.seq, stored.status):
        yield Violation("ending", where, f"was told {status} at {at}, and it is {stored.status} at {stored.seq}")


def _applied(frame: dict[str, Any], said: Said, status: str) -> tuple[int, Said, str]:
    if frame["type"] == "delta" and frame["kind"] == "text":
        said = Said(said.text + frame["text"], said.reasoning)
    elif frame["type"] == "delta":
        said = Said(said.text, said.reasoning + frame["text"])
    elif frame["type"] == "restart":
        said = Said()
    elif frame["type"] == "end":
        status = frame["status"]
    return frame["seq"], said, status


def _recovery(found: Judgement, stored: Stored, story: Story, limits: Limits) -> None:
    """From the fault to the first row that somebody else wrote."""
    rows = [row.at for row in stored.rows if row.at > story.struck_at]
    took_s = min(rows, default=float("inf")) - story.struck_at
    found.recovered_s.append(took_s)
    if took_s > limits.recovered_s:
        found.violations.append(Violation("slow recovery", stored.stream, f"{took_s:.1f} s without a row"))


def _stop(found: Judgement, stop: Stop, stored: Stored, story: Story, limits: Limits) -> None:
    """From sending the stop to the end of each request to the model that was open then."""
    asked = [one for one in story.asked if one.prompt == stored.prompt and one.at <= stop.at]
    for one in asked if stop.clear else ():
        unfinished = one.sent < len(one.reasoning) + len(one.text)
        gone_at = float("inf") if one.gone_at is None and unfinished else one.gone_at or 0
        if (took_s := gone_at - stop.at) > 0:
            found.stopped_s.append(took_s)
        if took_s > limits.stopped_s:
            found.violations.append(Violation("slow stop", stored.stream, f"{took_s:.2f} s"))


def _compare(where: str, what: str, right: Said, said: Said) -> Iterator[Violation]:
    for kind, one, other in zip(Said._fields, right, said, strict=True):
        if one != other:
            yield _difference(where, f"{kind}, {what}", one, other)


def _difference(where: str, what: str, right: str, said: str) -> Violation:
    """Names the first difference: characters lost, repeated, or foreign."""
    start = _alike(right, said)
    end = 0
    while end < min(len(right), len(said)) - start and right[-1 - end] == said[-1 - end]:
        end += 1
    missing, added = right[start : len(right) - end], said[start : len(said) - end]
    kind = "lost" if not added else "repeated" if added in right else "foreign"
    return Violation(kind, where, f"{what}: at {start} {missing[:80]!r} is missing and {added[:80]!r} was added")
