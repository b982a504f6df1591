"""Offers writes to uvicorn's clients past the layers of ASGI, as the extension that conversations/direct.py asks for.

Those take as long for each delta and reader as everything else together. Where the server is none of those known here,
or wrapped by something, the extension is absent, and everything is sent the usual way. Nothing within `DirectWrites`
may change what is sent.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from conversations.direct import EXTENSION, Write

UVICORN = "uvicorn.protocols."


class DirectWrites:
    """Wraps an ASGI application: a scope tells how to write to its client, if that is known."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        if (write := _behind(send)) is not None:
            scope.setdefault("extensions", {})[EXTENSION] = write
        return self._application(scope, receive, send)


def _behind(send: Any) -> Write | None:
    """What writes to the client behind a server's `send`."""
    server: Any = getattr(send, "__self__", None)
    module = type(server).__module__
    if module == f"{UVICORN}websockets.websockets_sansio_impl":
        return _to_websocket(server.conn, server.transport)
    if module == f"{UVICORN}http.httptools_impl":
        return _to_response(weakref.ref(server))
    return None


# Each asks what uvicorn's own `send` waits for, and what that and its libraries fail on. What that belongs to has the
# scope and with it the extension: held here, it would be there until the garbage collector comes.


def _to_websocket(connection: Any, transport: Any) -> Write:
    from websockets.protocol import OPEN

    # A server that was told to wait does so as long as there is more than this.
    most, _ = transport.get_write_buffer_limits()

    def write(frames: bytes) -> bool:
        if connection.state is not OPEN or transport.is_closing() or transport.get_write_buffer_size() > most:
            return False
        transport.write(frames)
        return True

    return write


def _to_response(server: Callable[[], Any]) -> Write:
    def write(body: bytes) -> bool:
        cycle = server()
        # How a body is sent is not known before the response begins.
        if cycle is None or not cycle.chunked_encoding or cycle.response_complete:
            return False
        if cycle.disconnected or cycle.transport.is_closing() or cycle.flow.write_paused:
            return False
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    return write
