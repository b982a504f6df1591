"""A stream's log as JSON lines, and such lines played into another stream with the timing they were recorded with."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import orjson
from django.conf import settings

from streaming import journal
from streaming.frames import END, RESTART, RETRY, ROW_CHARS, SPOKEN, Row
from streaming.messages import rows_message
from streaming.models import LIVE, Chunk, Entry, Outcome, Status, Stream

VERSION = 1
NOTED: dict[str, dict[str, Any]] = {
    RETRY: {"attempt": int, "of": int, "wait_s": int | float, "reason": str},
    RESTART: {"attempt": int},
}
LISTEN_S = 1.0  # How long a player sleeps at most before it looks whether its stream was stopped.
FACTS = (
    "topic",
    "model",
    "attempt",
    "fed",
    "worker",
    "seq",
    "created_at",
    "claimed_at",
    "first_text_at",
    "finished_at",
)
CUT = Outcome(Status.INTERRUPTED, error={"code": "interrupted", "detail": "The recording ends here."})


class BadRecording(ValueError):
    """The lines are no recording; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What is played: seconds since the stream was made, and the row; the request it answered."""

    request: dict[str, Any]
    rows: tuple[tuple[float, Row], ...]

    @property
    def prompt(self) -> str:
        """The last thing a person said before the answer."""
        messages = self.request.get("messages")
        said = [part for part in messages if isinstance(part, dict)] if isinstance(messages, list) else []
        prompts = [part.get("content") for part in said if part.get("role") == "user"]
        return prompts[-1] if prompts and isinstance(prompts[-1], str) and prompts[-1].strip() else "(a recording)"


def lines(stream: Stream) -> Iterator[bytes]:
    """The stream as lines of JSON: what is known of it, then its rows in order."""
    facts = {name: getattr(stream, name) for name in FACTS}
    head = {"recording": VERSION, "stream": str(stream.pk), "status": stream.status, "request": stream.request, **facts}
    yield orjson.dumps(head) + b"\n"
    rows = Chunk.objects.filter(stream=stream.pk).order_by("seq")
    for at, seq, kind, text, data in rows.values_list("created_at", "seq", "kind", "text", "data").iterator(1000):
        at_s = max(0.0, (at - stream.created_at).total_seconds())
        yield orjson.dumps({"at_s": at_s, "seq": seq, "kind": kind, "text": text, "data": data}) + b"\n"


def read(source: Iterable[bytes]) -> Recording:
    """The recording that `source` holds, its rows numbered anew from 1."""
    head: Any = None
    rows: list[tuple[float, Row]] = []
    for number, line in enumerate(source, 1):
        try:
            said = orjson.loads(line)
            if head is None:
                if said["recording"] != VERSION or not isinstance(said["request"], dict):
                    raise BadRecording("another version")
                head = said
            else:
                rows.append((float(said["at_s"]), _row(len(rows) + 1, said)))
        except (ValueError, KeyError, TypeError) as error:
            raise BadRecording(f"Line {number} is not that of a recording: {error}") from error
    if head is None:
        raise BadRecording("The file is empty.")
    if any(row.kind == END for _, row in rows[:-1]):
        raise BadRecording("The recording goes on behind its end.")
    return Recording(head["request"], tuple(rows))


def _row(seq: int, said: dict[str, Any]) -> Row:
    kind, text, data = said["kind"], said["text"], said["data"]
    if kind in SPOKEN:
        if not isinstance(text, str) or len(text) > ROW_CHARS or "\0" in text:
            raise BadRecording("its text")
        return Row(seq, kind, text, None)
    if kind == END:
        return Row(seq, kind, "", _outcome(data).data())
    if kind not in NOTED:
        raise BadRecording("its kind")
    if not all(isinstance(data[name], types) for name, types in NOTED[kind].items()):
        raise BadRecording("its data")
    return Row(seq, kind, "", {name: data[name] for name in NOTED[kind]})


def _outcome(data: dict[str, Any]) -> Outcome:
    usage, error = data["usage"], data["error"]
    outcome = Outcome(data["status"], data["finish_reason"], usage, error)
    if outcome.status not in set(Status.values) - set(LIVE):
        raise BadRecording("its status")
    if not (isinstance(usage, dict | None) and isinstance(error, dict | None)):
        raise BadRecording("what it tells")
    if not all(isinstance(said, str) for said in (error or {}).values()):
        raise BadRecording("its error")
    return outcome


def play(
    stream: Stream, recording: Recording, speed: float = 1.0, sleep: Callable[[float], object] = time.sleep
) -> bool:
    """Write a recording into `stream`, which is leased to the caller; False if somebody stopped it.

    What was committed together is committed together again, after the same time divided by `speed` (0: at once).
    """
    assert stream.lease is not None
    seq, now_s = 0, 0.0
    for at_s, group in groupby(recording.rows, key=lambda timed: timed[0]):
        wait_s = (at_s - now_s) / speed if speed else 0.0
        now_s = max(at_s, now_s)
        if not _wait(stream.lease, wait_s, sleep):
            return False
        rows = tuple(row for _, row in group)
        if not _add(stream, seq, rows):
            return False
        seq = rows[-1].seq
    if not recording.rows or recording.rows[-1][1].kind != END:
        return _add(stream, seq, (Row(seq + 1, END, "", CUT.data()),))
    return True


def _wait(lease: uuid.UUID, wait_s: float, sleep: Callable[[float], object]) -> bool:
    """Keep the lease for so long; False if it was lost meanwhile."""
    held = Stream.objects.filter(lease=lease)
    while wait_s > 0:
        sleep(min(wait_s, LISTEN_S))
        wait_s -= LISTEN_S
        if not held.exists():
            return False
        Stream.objects.renew([lease], settings.FEED_LEASE_S)
    return True


def _add(stream: Stream, after: int, rows: tuple[Row, ...]) -> bool:
    assert stream.lease is not None
    outcome = _outcome(rows[-1].data) if rows[-1].kind == END and rows[-1].data else None
    first_words = any(row.kind in SPOKEN for row in rows) and stream.first_text_at is None
    if first_words:
        stream.refresh_from_db(fields=["first_text_at"])
        first_words = stream.first_text_at is None
    if Stream.objects.append([Entry(stream.pk, stream.lease, rows, first_words, outcome)]):
        return False
    journal.publish(rows_message(stream.topic, str(stream.pk), after, rows))
    return True
