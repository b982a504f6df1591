"""What both clients share, without a socket: the calls, an answer's state, what a response means, how long to wait."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx2
import orjson

Frame = dict[str, Any]

FIRST_WAIT_S, LONGEST_WAIT_S = 0.4, 15.0
# The site says something at least every SSE_HEARTBEAT_S (15 s); a connection this silent is dead.
SILENCE_S = 45.0
AGAIN = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, *range(503, 600)})


class Refused(Exception):
    """The site does not do what it was asked for. `code` is stable for programs (docs/protocol.md)."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class Unreachable(Exception):
    """Nothing was heard of the site for `patience_s` seconds."""


@dataclass
class Answer:
    """An answer as far as it is known; `follow` brings it up to date, from whatever position it has."""

    stream: str
    seq: int = 0
    text: str = ""
    reasoning: str = ""
    status: str = "pending"
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, str] | None = None

    @property
    def ended(self) -> bool:
        return self.status not in ("pending", "streaming")

    def apply(self, frame: Frame) -> None:
        """Take in what a frame of this stream adds."""
        self.seq = max(self.seq, frame["seq"])
        if frame["type"] == "delta" and frame["kind"] == "text":
            self.text += frame["text"]
        elif frame["type"] == "delta":
            self.reasoning += frame["text"]
        elif frame["type"] == "restart":
            self.text = self.reasoning = ""
        elif frame["type"] == "end":
            self.status, self.finish_reason = frame["status"], frame["finish_reason"]
            self.usage, self.error = frame["usage"], frame["error"]


@dataclass(frozen=True, slots=True)
class Call:
    """One request of the API, which may be sent as often as it takes."""

    method: str
    path: str
    body: Any = None
    key: str = ""

    def arguments(self) -> dict[str, Any]:
        headers = {"Idempotency-Key": self.key} if self.key else {}
        return {"method": self.method, "url": self.path, "json": self.body, "headers": headers}


class Patience:
    """How long to wait before the next try: doubling, a random part of it, and not for ever."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self.heard()

    def heard(self) -> None:
        """The site gave a sign of life."""
        self._wait_s = FIRST_WAIT_S
        self._until = time.monotonic() + self._patience_s

    def wait_s(self, why: Exception, least_s: float = 0.0) -> float:
        """Seconds until the next try; Unreachable when there have been enough."""
        if time.monotonic() > self._until:
            raise Unreachable(str(why) or repr(why)) from why
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, LONGEST_WAIT_S)
        return max(least_s, wait_s * random.uniform(0.5, 1))


class Again(Exception):
    """The site cannot do it now; to be tried again after `wait_s`."""

    def __init__(self, detail: str, wait_s: float = 0.0) -> None:
        super().__init__(detail)
        self.wait_s = wait_s


TRANSIENT = (httpx2.TransportError, Again)


def check(status: int, headers: httpx2.Headers, body: bytes) -> Any:
    """The JSON of a response; Again or Refused if it is none of success."""
    if status in AGAIN:
        wait = headers.get("retry-after", "")
        raise Again(f"the site answered with status {status}", float(wait) if wait.isdigit() else 0.0)
    try:
        said = orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        raise Refused(status, "not_json", f"Status {status}, and no JSON: this is not a Chatsite.") from None
    if status >= 400:
        said = said if isinstance(said, dict) else {}
        raise Refused(status, str(said.get("code", "error")), str(said.get("detail", f"Status {status}.")))
    return said


def frame_in(line: str) -> Frame | None:
    """The frame in a line of an event stream; Again or Refused for one that says there are no more."""
    if not line.startswith("data:"):
        return None
    frame: Frame = orjson.loads(line[5:])
    if frame["type"] == "error":
        if frame["code"] == "internal":
            raise Again(frame["detail"])
        raise Refused(HTTPStatus.NOT_FOUND, frame["code"], frame["detail"])
    return frame


def answer_in(said: dict[str, Any]) -> Answer:
    names = ("seq", "text", "reasoning", "status", "finish_reason", "usage", "error")
    return Answer(said["id"], **{name: said[name] for name in names})


def wait_of(error: Exception) -> float:
    return error.wait_s if isinstance(error, Again) else 0.0


def options(url: str, token: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return {"base_url": f"{url.rstrip('/')}/api/", "headers": headers, "timeout": SILENCE_S}


VISIT = Call("POST", "visitors/")
CONVERSATIONS = Call("GET", "conversations/")


def begin_call(chosen: dict[str, str]) -> Call:
    return Call("POST", "conversations/", chosen)


def ask_call(conversation: str, text: str) -> Call:
    return Call("POST", f"conversations/{conversation}/messages/", {"text": text}, str(uuid.uuid4()))
