"""A stream's log as OpenAI's Responses API has it: the response object, and events, a pure function of the rows.

An event's `sequence_number` is its row's `seq` times SLOTS plus its place among the row's events. So it is the same
for every reader at any time, and a position in the log; rows that bring no event leave a gap in the numbers.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from streaming.frames import END, REASONING, RESTART, SPOKEN, TEXT, Row
from streaming.models import Status

SLOTS = 100
# The two events before the first row. Slot 0 of a row is only ever the notice of a restart.
CREATED, IN_PROGRESS = 0, 1
# Where a row's events end, whatever precedes its words: so who has them has them, also when rows were compacted.
LAST_SLOTS = {REASONING: 10, TEXT: 20, END: 30}

Event = dict[str, Any]

# OpenAI's words for why an answer is not whole, and for why there is none.
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
ERRORS = {"rate_limited": "rate_limit_exceeded", "bad_request": "invalid_prompt", "too_long": "invalid_prompt"}
PARTS = {TEXT: "output_text", REASONING: "reasoning_text"}
PREFIXES = {TEXT: "msg", REASONING: "rs"}


def number(seq: int, slot: int = 0) -> int:
    return SLOTS * seq + slot


def seq_of(sequence_number: int) -> int:
    return sequence_number // SLOTS


def public_id(prefix: str, pk: uuid.UUID) -> str:
    return f"{prefix}_{pk.hex}"


def private_id(prefix: str, public: str) -> uuid.UUID | None:
    """The id that `public_id` was made of, or None. Also takes the id as the rest of this site writes it."""
    try:
        return uuid.UUID(public.removeprefix(f"{prefix}_"))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a response is made of beside its log."""

    stream: uuid.UUID
    topic: str
    conversation: uuid.UUID
    previous: uuid.UUID | None
    created_at: int
    request: dict[str, Any]
    waiting: bool  # Nobody has begun to write it.

    @property
    def id(self) -> str:
        return public_id("resp", self.stream)


class Item:
    """One item of the output: the answer, or the thoughts before it. Opened by its first words, closed at the end."""

    def __init__(self, answer: Answer, kind: str, index: int) -> None:
        self._kind = kind
        self._id = public_id(PREFIXES[kind], answer.stream)
        self._index = index
        self._said: list[str] = []

    def _part(self, text: str) -> dict[str, Any]:
        part: Event = {"type": PARTS[self._kind], "text": text}
        return part | {"annotations": [], "logprobs": []} if self._kind == TEXT else part

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index, "content_index": 0}

    def described(self, status: str, *, empty: bool = False) -> dict[str, Any]:
        content = [] if empty else [self._part("".join(self._said))]
        what = {"type": "message", "role": "assistant"} if self._kind == TEXT else {"type": "reasoning", "summary": []}
        return {"id": self._id, "status": status, "content": content, **what}

    def _event(self, what: str, **values: Any) -> Event:
        event = {"type": f"response.{PARTS[self._kind]}.{what}", **self._place(), **values}
        return event | {"logprobs": []} if self._kind == TEXT else event

    def opened(self) -> Iterator[Event]:
        item = self.described("in_progress", empty=True)
        yield {"type": "response.output_item.added", "output_index": self._index, "item": item}
        yield {"type": "response.content_part.added", **self._place(), "part": self._part("")}

    def said(self, text: str) -> Event:
        self._said.append(text)
        return self._event("delta", delta=text)

    def closed(self, status: str) -> Iterator[Event]:
        text = "".join(self._said)
        yield self._event("done", text=text)
        yield {"type": "response.content_part.done", **self._place(), "part": self._part(text)}
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.described(status)}


class Transcript:
    """A response as far as its log was read. Rows go in, events come out."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._items: dict[str, Item] = {}
        self._outcome: dict[str, Any] = {}

    @property
    def said(self) -> bool:
        """Whether anything was said that a restart would take back."""
        return bool(self._items)

    def preamble(self) -> Iterator[Event]:
        response = self.response("in_progress")
        yield {"type": "response.created", "response": response, "sequence_number": CREATED}
        yield {"type": "response.in_progress", "response": response, "sequence_number": IN_PROGRESS}

    def add(self, row: Row) -> None:
        for _ in self._events(row):
            pass

    def events(self, row: Row) -> Iterator[Event]:
        """What a row adds. A restart has no event of its own: what it takes back cannot be taken back from a client."""
        found = list(self._events(row))
        for slot, event in enumerate(found, LAST_SLOTS.get(row.kind, 0) + 1 - len(found)):
            yield event | {"sequence_number": number(row.seq, slot)}

    def _events(self, row: Row) -> Iterator[Event]:
        if row.kind in SPOKEN:
            if row.kind not in self._items:
                self._items[row.kind] = Item(self._answer, row.kind, len(self._items))
                yield from self._items[row.kind].opened()
            yield self._items[row.kind].said(row.text)
        elif row.kind == RESTART:
            self._items.clear()
        elif row.kind == END:
            self._outcome = row.data or {}
            status = self._status()
            for item in self._items.values():
                yield from item.closed("completed" if status == "completed" else "incomplete")
            # There is no event named after a cancelled response: it is one that is not whole.
            name = "incomplete" if status == "cancelled" else status
            yield {"type": f"response.{name}", "response": self.response()}

    def _status(self) -> str:
        """The status of a response that has ended."""
        if self._outcome["status"] == Status.DONE:
            return "incomplete" if self._outcome["finish_reason"] in INCOMPLETE else "completed"
        return "cancelled" if self._outcome["status"] == Status.STOPPED else "failed"

    def response(self, unfinished: str = "in_progress") -> dict[str, Any]:
        """The response object as far as it is known, with the status `unfinished` while there is no end."""
        outcome = self._outcome
        status = self._status() if outcome else unfinished
        reason = INCOMPLETE.get(outcome.get("finish_reason") or "") if status == "incomplete" else None
        of_item = "incomplete" if outcome and status != "completed" else status
        return {
            **self._asked(),
            "status": status,
            "error": problem(outcome.get("error")) if status == "failed" else None,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": [item.described(of_item) for item in self._items.values()],
            "usage": usage(outcome.get("usage")),
        }

    def _asked(self) -> dict[str, Any]:
        answer, request = self._answer, self._answer.request
        return {
            "id": answer.id,
            "object": "response",
            "created_at": answer.created_at,
            # Every answer is one: it goes on without its client.
            "background": True,
            "store": True,
            "model": request.get("model", ""),
            "previous_response_id": public_id("resp", answer.previous) if answer.previous else None,
            "conversation": {"id": public_id("conv", answer.conversation)},
            "instructions": None,
            "max_output_tokens": request.get("max_completion_tokens") or request.get("max_tokens"),
            "temperature": request.get("temperature"),
            "top_p": request.get("top_p"),
            "reasoning": {"effort": request.get("reasoning_effort"), "summary": None},
            "tools": [],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "truncation": "auto",
            "metadata": {},
        }


def problem(error: dict[str, str] | None) -> dict[str, str]:
    error = error or {"code": "internal", "detail": "There is no answer."}
    return {"code": ERRORS.get(error["code"], "server_error"), "message": error["detail"]}


def usage(counted: dict[str, Any] | None) -> dict[str, Any] | None:
    """The tokens as responses name them; the log has them as chat completions do."""
    if counted is None:
        return None
    heard, spoken = count(counted, "prompt_tokens"), count(counted, "completion_tokens")
    return {
        "input_tokens": heard,
        "input_tokens_details": {
            "cached_tokens": count(counted, "prompt_tokens_details", "cached_tokens"),
            "cache_write_tokens": count(counted, "prompt_tokens_details", "cache_write_tokens"),
        },
        "output_tokens": spoken,
        "output_tokens_details": {"reasoning_tokens": count(counted, "completion_tokens_details", "reasoning_tokens")},
        "total_tokens": count(counted, "total_tokens") or heard + spoken,
    }


def count(counted: Any, *names: str) -> int:
    for name in names:
        counted = counted.get(name) if isinstance(counted, dict) else None
    return int(counted) if isinstance(counted, int | float) else 0
