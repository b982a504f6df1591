"""Daphne's `send` returns at once however much the client has not read yet; this makes it wait, as other servers do.

Without it the whole of an answer piles up in the server's memory for every client that stops reading.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

PAUSE_S = 0.02
BUFFER_BYTES = 256_000


def unsent_bytes(transport: Any) -> int:
    """Bytes that twisted's transport holds for its client, beside what the kernel took."""
    unsent: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    return unsent


def transport_of(send: Any) -> Any:
    """The twisted transport behind daphne's `send`, or None when the server is another one or the client is gone."""
    if not isinstance(send, partial) or not send.args:
        return None
    protocol = send.args[0]
    channel = getattr(protocol, "channel", None)
    transport = getattr(channel, "transport", None) or getattr(protocol, "transport", None)
    return transport if hasattr(transport, "_tempDataLen") else getattr(transport, "_transport", None)


class Backpressure:
    """Wraps an ASGI application so that `send` waits while more than BUFFER_BYTES are unsent."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if isinstance(send, partial):
            await self._application(scope, receive, _waiting(send))
        else:
            await self._application(scope, receive, send)


def _waiting(send: Any) -> Any:
    async def wait_then_send(message: dict[str, Any]) -> None:
        transport = transport_of(send)
        # Twisted tells its one producer when there is room, and that is daphne; so this asks.
        while transport is not None and transport.connected and unsent_bytes(transport) > BUFFER_BYTES:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_S)
        await send(message)

    return wait_then_send
