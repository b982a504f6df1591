"""A provider that says what a test tells it to, and waits at gates instead of for time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from streaming.completions import Delta, Finish, ProviderError
from streaming.frames import TEXT
from streaming.pace import Rest

Step = str | Delta | Finish | asyncio.Event | BaseException


def cut() -> ProviderError:
    return ProviderError("cut", "The model's answer broke off.", retriable=True)


class ScriptedProvider:
    """Each call of `stream` plays the next of `attempts` (the last one again and again): words, gates, failures."""

    def __init__(self, *attempts: list[Step]) -> None:
        self.attempts = list(attempts)
        self.asked: list[dict[str, Any]] = []
        self.closed = 0
        self.begun = asyncio.Event()

    async def stream(self, request: dict[str, Any], rest: Rest) -> AsyncGenerator[Delta | Finish, None]:
        steps = self.attempts[min(len(self.asked), len(self.attempts) - 1)]
        self.asked.append(request)
        self.begun.set()
        try:
            for step in steps:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, BaseException):
                    raise step
                else:
                    yield Delta(TEXT, step) if isinstance(step, str) else step
            if not any(isinstance(step, Finish) for step in steps):
                yield Finish("stop", None)
        finally:
            self.closed += 1

    async def close(self) -> None:
        """Nothing to close."""
