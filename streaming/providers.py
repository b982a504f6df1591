"""Asks a model and hands out what it says as it comes: one attempt, no retries, every failure a ProviderError.

OpenAIProvider speaks to any OpenAI-compatible server; DemoProvider answers when none is configured and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Protocol

from django.conf import settings

from streaming import demo
from streaming.completions import Delta, Finish
from streaming.pace import Rest

OPENAI_URL = "https://api.openai.com/v1"


class Provider(Protocol):
    def stream(self, request: dict[str, Any], rest: Rest) -> AsyncGenerator[Delta | Finish, None]:
        """One attempt at the answer to `request`, the JSON body of a chat completion: deltas, then one Finish.

        Raises ProviderError instead of the Finish. Cancelling or closing it ends the request at the model's server.
        """
        ...

    async def close(self) -> None:
        """Let go of all connections; the provider cannot be used afterwards."""
        ...


def provider_from_settings() -> Provider:
    if settings.OPENAI_API_KEY or settings.OPENAI_BASE_URL:
        # Half of the time a process takes to start, so it is paid only by those that generate.
        from streaming.openai_provider import OpenAIProvider

        return OpenAIProvider(settings.OPENAI_BASE_URL or OPENAI_URL, settings.OPENAI_API_KEY)
    return DemoProvider()


class DemoProvider:
    """Answers without any model, from a few fixed texts, at settings.DEMO_DELTAS_PER_S (0: as fast as possible)."""

    async def stream(self, request: dict[str, Any], rest: Rest) -> AsyncGenerator[Delta | Finish, None]:
        rate = settings.DEMO_DELTAS_PER_S
        loop = asyncio.get_running_loop()
        begun = loop.time()
        deltas = demo.deltas(request)
        for number, (kind, text) in enumerate(deltas, 1):
            await asyncio.sleep(max(0.0, begun + number / rate - loop.time()) if rate > 0 else 0)
            yield Delta(kind, text)
        yield Finish("stop", demo.usage(request, len(deltas)))

    async def close(self) -> None:
        """There is nothing to let go of."""
