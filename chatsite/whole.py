"""Lets a websocket be sent messages that are frames already, the same bytes to every reader, past the layers of ASGI.

Those take as long for each frame and reader as everything else together. It is an ASGI extension of our own: where the
server is none of those known here, it is absent, and everything is sent the usual way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conversations.consumers import WHOLE

UVICORN = "uvicorn.protocols.websockets.websockets_sansio_impl"


class WholeFrames:
    """Wraps an ASGI application: the scope of a websocket tells how to write to it, if that is known."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        if scope["type"] == "websocket" and (write := writer(send)) is not None:
            scope["extensions"][WHOLE] = write
        return self._application(scope, receive, send)


def writer(send: Any) -> Callable[[bytes], bool] | None:
    """What writes whole frames to the client behind a server's `send` at once; it says False, and has written nothing,
    if the client takes nothing in at the moment or has left. None for a server that is not known."""
    protocol: Any = getattr(send, "__self__", None)
    if type(protocol).__module__ != UVICORN:
        return None
    from websockets.protocol import OPEN

    def write(frames: bytes) -> bool:
        # What uvicorn's own `send` waits for, and what it and `websockets` fail on.
        if protocol.conn.state is not OPEN or protocol.transport.is_closing() or not protocol.writable.is_set():
            return False
        protocol.transport.write(frames)
        return True

    return write
