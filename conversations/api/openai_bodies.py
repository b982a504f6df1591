"""What is sent under /v1/ while an answer is written: events of a response, chunks of a completion.

A body that must end before the answer does ends with an error, at which the SDKs raise: it never just ends.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from django.db.models import Max, Q

from conversations.access import Access
from conversations.api.chatcompletions import Completion, failure
from conversations.api.following import COMMENT, Beat, BrokenOff, follow
from conversations.api.openai_errors import ApiError
from conversations.api.responses import IN_PROGRESS, Answer, Transcript, number, seq_of
from streaming import engine
from streaming.frames import END, RESTART, SPOKEN, Piece, Row
from streaming.hub import get_hub
from streaming.models import Chunk, Stream

RESTARTED = "answer_restarted"
BROKEN_OFF = {"gone": 404, "not_found": 404, "internal": 503}
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a client's reading goes on. What it has is `stale` when what followed cannot be put behind it."""

    after: int  # The number of the last event it has; -1: none.
    restart: int  # The row from which on the log counts: the last restart, or 0.
    stale: bool = False

    @property
    def begun(self) -> bool:
        """Whether the client has words of the attempt that speaks now."""
        return self.after > number(self.restart) and seq_of(self.after) > 0


def position(stream: uuid.UUID, after: int = -1) -> Position:
    """The position of a client that has the events up to number `after`; refused when there can be no such event."""
    seq = max(seq_of(after), 0)
    counted = {
        "last": Max("seq", default=0),
        "restart": Max("seq", filter=Q(kind=RESTART), default=0),
    }
    found = Chunk.objects.filter(stream=stream).aggregate(**counted)
    restart = found["restart"]
    if seq > found["last"]:
        raise ApiError(400, "invalid_value", "There is no such event yet.", param="starting_after")
    return Position(after, restart, stale=seq > 0 and after != number(restart) and seq <= restart)


async def read_through(access: Access, answer: Answer, into: Transcript | Completion) -> None:
    """Wait for the end of the answer."""
    async for item in follow(access, answer.stream, answer.topic, 0):
        if isinstance(item, Piece):
            for row in item.rows:
                into.add(row)
        elif isinstance(item, BrokenOff):
            raise ApiError(BROKEN_OFF[item.code], item.code, item.detail)


async def response_events(access: Access, answer: Answer, begin: Position) -> AsyncIterator[bytes]:
    """The events behind a position, up to the last or to the one that says why there are no more."""
    if begin.stale:
        yield restarted(begin.restart)
        return
    transcript, sent = Transcript(answer), begin.after
    seq = max(begin.restart, seq_of(begin.after))
    events = [
        *transcript.preamble(),
        *[event for row in await heard(answer, begin, seq) for event in transcript.events(row)],
    ]
    yield sse(event for event in events if event["sequence_number"] > sent)
    async for item in follow(access, answer.stream, answer.topic, seq):
        if isinstance(item, Beat):
            yield COMMENT
        elif isinstance(item, BrokenOff):
            yield sse([error(item.code, item.detail, max(sent, 0))])
        else:
            rows, again = until_restart(item.rows, begun=begin.begun or transcript.said)
            events = [
                event for row in rows for event in transcript.events(row) if event["sequence_number"] > begin.after
            ]
            sent = events[-1]["sequence_number"] if events else sent
            yield sse(events)
            if again:
                yield restarted(again.seq)
                return


async def heard(answer: Answer, begin: Position, seq: int) -> list[Row]:
    """What was said up to position `seq`, without which what follows cannot be told. An end comes to everybody."""
    if seq == begin.restart:
        return []
    rows = await get_hub().database().read(Chunk.objects.rows, answer.stream, begin.restart)
    return [part for row in rows if row.kind != END and (part := row.until(seq))]


def until_restart(rows: Iterable[Row], *, begun: bool) -> tuple[list[Row], Row | None]:
    """The rows up to a restart that takes back what a client has, and that restart."""
    kept: list[Row] = []
    for row in rows:
        if row.kind == RESTART and begun:
            return kept, row
        begun = begun or row.kind in SPOKEN
        kept.append(row)
    return kept, None


def restarted(seq: int) -> bytes:
    """What was said is void, and these APIs cannot take it back. Behind this event's number the new attempt begins."""
    detail = "The answer was begun anew. Discard its text and read on behind this event, or from the start."
    return sse([error(RESTARTED, detail, number(seq) or IN_PROGRESS)])


def error(code: str, message: str, sequence_number: int) -> dict[str, Any]:
    """An error event. SDKs would hand it over as one more event but for its `error`, at which they raise."""
    body = ApiError(500, code, message).body | {"sequence_number": sequence_number}
    return {**body, "type": "error", "error": body}


def sse(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event)) for event in events)


async def completion_chunks(
    access: Access, answer: Answer, restart: int, *, usage: bool, lasting: bool
) -> AsyncIterator[bytes]:
    """The chunks of a completion. Unless it is `lasting`, a client that leaves ends the answer: it cannot come back."""
    completion = Completion(answer)
    async with ending(answer, completion, lasting=lasting):
        yield data(completion.opening())
        async for item in follow(access, answer.stream, answer.topic, restart):
            if isinstance(item, Beat):
                yield COMMENT
            elif isinstance(item, BrokenOff):
                yield data({"error": ApiError(500, item.code, item.detail).body})
                return
            else:
                rows, again = until_restart(item.rows, begun=completion.said)
                yield b"".join(data(chunk) for row in rows for chunk in completion.chunks(row))
                if again:
                    yield data({"error": ApiError(500, RESTARTED, "The answer was begun anew.").body})
                    return
        if completion.failed:
            yield data({"error": failure(completion.outcome).body})
            return
        yield (data(completion.usage()) if usage else b"") + DONE


def data(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(chunk)


@asynccontextmanager
async def ending(answer: Answer, completion: Completion, *, lasting: bool) -> AsyncIterator[None]:
    """Stops the answer when it is left before its end, unless it is `lasting`."""
    try:
        yield
    finally:
        if not completion.outcome and not lasting:
            await asyncio.shield(get_hub().database().run(stop, answer.stream))


def stop(stream: uuid.UUID) -> None:
    engine.stop(Stream.objects.filter(pk=stream))
