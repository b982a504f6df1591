"""The client for async programs: the same as the blocking one, line by line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
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


class AsyncClient:
    """For async programs; everything is as with Client."""

    def __init__(self, url: str, token: str = "", patience_s: float = 600) -> None:
        self._http = httpx2.AsyncClient(**options(url, token))
        self._patience_s = patience_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def visit(self) -> str:
        token: str = (await self.send(VISIT))["token"]
        self._http.headers["Authorization"] = f"Bearer {token}"
        return token

    async def conversations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.send(CONVERSATIONS))["results"]
        return found

    async def messages(self, conversation: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        path: str | None = f"conversations/{conversation}/messages/"
        while path:
            page = await self.send(Call("GET", path))
            found += page["results"]
            path = page["next"]
        return found

    async def begin(self, **chosen: str) -> str:
        return str((await self.send(begin_call(chosen)))["id"])

    async def ask(self, conversation: str, text: str) -> Answer:
        return Answer((await self.send(ask_call(conversation, text)))["stream"])

    async def answer(self, stream: str) -> Answer:
        return answer_in(await self.send(Call("GET", f"streams/{stream}/")))

    async def stop(self, answer: Answer) -> None:
        await self.send(Call("POST", f"streams/{answer.stream}/stop/"))

    async def send(self, call: Call) -> Any:
        patience = Patience(self._patience_s)
        while True:
            try:
                response = await self._http.request(**call.arguments())
                return check(response.status_code, response.headers, response.content)
            except TRANSIENT as error:
                await asyncio.sleep(patience.wait_s(error, wait_of(error)))

    async def follow(self, answer: Answer) -> AsyncGenerator[Frame, None]:
        patience = Patience(self._patience_s)
        while not answer.ended:
            try:
                async with aclosing(self._frames(answer, patience)) as frames:
                    async for frame in frames:
                        answer.apply(frame)
                        yield frame
            except TRANSIENT as error:
                await asyncio.sleep(patience.wait_s(error, wait_of(error)))

    async def _frames(self, answer: Answer, patience: Patience) -> AsyncGenerator[Frame, None]:
        path = f"streams/{answer.stream}/events/"
        async with self._http.stream("GET", path, params={"after": answer.seq}) as response:
            if response.status_code != HTTPStatus.OK:
                check(response.status_code, response.headers, await response.aread())
            async for line in response.aiter_lines():
                patience.heard()
                if frame := frame_in(line):
                    yield frame
                    if frame["type"] == "end":
                        return
        raise Again("the events broke off")
