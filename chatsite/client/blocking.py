"""The client for blocking programs."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from http import HTTPStatus
from typing import Any, Self

import httpx2

from chatsite.client.calls import (
    CONVERSATIONS,
    TRANSIENT,
    VISIT,
    Again,
    Answer,
    Call,
    Frame,
    Patience,
    answer_in,
    ask_call,
    begin_call,
    check,
    frame_in,
    options,
    wait_of,
)


class Client:
    """For blocking programs. Without a token all but `visit` is refused."""

    def __init__(self, url: str, token: str = "", patience_s: float = 600) -> None:
        self._http = httpx2.Client(**options(url, token))
        self._patience_s = patience_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def visit(self) -> str:
        """Become a guest; returns the token, which this client uses from now on."""
        token: str = self.send(VISIT)["token"]
        self._http.headers["Authorization"] = f"Bearer {token}"
        return token

    def conversations(self) -> list[dict[str, Any]]:
        """The newest conversations."""
        found: list[dict[str, Any]] = self.send(CONVERSATIONS)["results"]
        return found

    def messages(self, conversation: str) -> list[dict[str, Any]]:
        """Every message of a conversation's chosen branch, oldest first."""
        found: list[dict[str, Any]] = []
        path: str | None = f"conversations/{conversation}/messages/"
        while path:
            page = self.send(Call("GET", path))
            found += page["results"]
            path = page["next"]
        return found

    def begin(self, **chosen: str) -> str:
        """A new conversation, with a `title`, a `model` and a `system_prompt` if they are given; returns its id."""
        return str(self.send(begin_call(chosen))["id"])

    def ask(self, conversation: str, text: str) -> Answer:
        return Answer(self.send(ask_call(conversation, text))["stream"])

    def answer(self, stream: str) -> Answer:
        """An answer as it stands, to be read or followed from there."""
        return answer_in(self.send(Call("GET", f"streams/{stream}/")))

    def stop(self, answer: Answer) -> None:
        self.send(Call("POST", f"streams/{answer.stream}/stop/"))

    def send(self, call: Call) -> Any:
        """The JSON that comes of a call, however often it has to be sent."""
        patience = Patience(self._patience_s)
        while True:
            try:
                response = self._http.request(**call.arguments())
                return check(response.status_code, response.headers, response.content)
            except TRANSIENT as error:
                time.sleep(patience.wait_s(error, wait_of(error)))

    def follow(self, answer: Answer) -> Generator[Frame, None, None]:
        """Bring `answer` up to date until it has ended; yields each frame after it was taken in."""
        patience = Patience(self._patience_s)
        while not answer.ended:
            try:
                with closing(self._frames(answer, patience)) as frames:
                    for frame in frames:
                        answer.apply(frame)
                        yield frame
            except TRANSIENT as error:
                time.sleep(patience.wait_s(error, wait_of(error)))

    def _frames(self, answer: Answer, patience: Patience) -> Generator[Frame, None, None]:
        path = f"streams/{answer.stream}/events/"
        with self._http.stream("GET", path, params={"after": answer.seq}) as response:
            if response.status_code != HTTPStatus.OK:
                check(response.status_code, response.headers, response.read())
            for line in response.iter_lines():
                patience.heard()
                if frame := frame_in(line):
                    yield frame
                    if frame["type"] == "end":
                        return
        raise Again("the events broke off")
