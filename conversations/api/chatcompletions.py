"""A stream's log as OpenAI's chat completions: the chunks, which have no position to resume from, and the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conversations.api.openai_errors import ApiError
from conversations.api.responses import Answer, public_id
from streaming.frames import END, REASONING, RESTART, SPOKEN, TEXT, Row
from streaming.models import Status

DELTAS = {TEXT: "content", REASONING: "reasoning_content"}
# How a failure of the model's server is told: status, and the code where OpenAI has one of its own.
FAILURES = {
    "rate_limited": (429, "rate_limit_exceeded"),
    "no_credit": (429, "insufficient_quota"),
    "too_long": (400, "context_length_exceeded"),
    "bad_request": (400, "bad_request"),
    "silence": (504, "silence"),
    "stopped": (410, "stopped"),
    "internal": (500, "internal"),
    "interrupted": (503, "interrupted"),
}


def failure(outcome: dict[str, Any]) -> ApiError:
    """Why an answer that ended is not one."""
    error = outcome["error"] or {"code": "stopped", "detail": "The answer was stopped."}
    status, code = FAILURES.get(error["code"], (502, error["code"]))
    # The site has made its attempts; a client that tried again at once would multiply them.
    return ApiError(status, code, error["detail"], headers={"x-should-retry": "false"})


class Completion:
    """A completion as far as its log was read. Rows go in, chunks come out."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._said: dict[str, list[str]] = {TEXT: [], REASONING: []}
        self.outcome: dict[str, Any] = {}

    @property
    def said(self) -> bool:
        """Whether anything was said that a restart would take back."""
        return any(self._said.values())

    @property
    def failed(self) -> bool:
        return bool(self.outcome) and self.outcome["status"] != Status.DONE

    def add(self, row: Row) -> None:
        if row.kind in SPOKEN:
            self._said[row.kind].append(row.text)
        elif row.kind == RESTART:
            self._said = {TEXT: [], REASONING: []}
        elif row.kind == END:
            self.outcome = row.data or {}

    def opening(self) -> dict[str, Any]:
        return self._chunk({"role": "assistant", "content": ""})

    def chunks(self, row: Row) -> Iterator[dict[str, Any]]:
        """What a row adds, if the answer has not failed with it."""
        self.add(row)
        if row.kind in SPOKEN:
            yield self._chunk({DELTAS[row.kind]: row.text})
        elif self.outcome and not self.failed:
            yield self._chunk({}, self.finish_reason)

    def usage(self) -> dict[str, Any]:
        """The last chunk for those who want to know what it cost."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": self.outcome.get("usage")}

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._said[TEXT]), "refusal": None}
        if self._said[REASONING]:
            message["reasoning_content"] = "".join(self._said[REASONING])
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.outcome.get("usage")}

    @property
    def finish_reason(self) -> str:
        return self.outcome.get("finish_reason") or "stop"

    def _chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        answer = self._answer
        return {
            "id": public_id("chatcmpl", answer.stream),
            "object": kind,
            "created": answer.created_at,
            "model": answer.request.get("model", ""),
        }
