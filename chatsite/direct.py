"""Offers writes to uvicorn's clients past the layers of ASGI, as the extension that conversations/direct.py asks for.

Those take as long for each delta and reader as everything else together. Where the server is none of those known here,
or wrapped by something, the extension is absent, and everything is sent the usual way. Nothing within `DirectWrites`
may change what is sent.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from operator import length_hint, methodcaller
from typing import Any

from conversations.direct import EXTENSION, Direct, Write

logger = logging.getLogger(__name__)
UVICORN = "uvicorn.protocols."


class DirectWrites:
    """Wraps an ASGI application: a scope tells how to write to its client, if that is known."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        if (direct := _behind(send)) is not None:
            scope.setdefault("extensions", {})[EXTENSION] = direct
        return self._application(scope, receive, send)


def _behind(send: Any) -> Direct | None:
    """How to write to the client behind a server's `send`."""
    server: Any = getattr(send, "__self__", None)
    module = type(server).__module__
    if module == f"{UVICORN}websockets.websockets_sansio_impl":
        return Direct(ToWebsocket(server.conn, server.transport), _to_websockets)
    if module == f"{UVICORN}http.httptools_impl":
        return Direct(_to_response(weakref.ref(server)))
    return None


# Each asks what uvicorn's own `send` waits for, and what that and its libraries fail on. What that belongs to has the
# scope and with it the extension: held here, it would be there until the garbage collector comes.


class ToWebsocket:
    """Writes frames to one websocket."""

    __slots__ = ("_connection", "_open", "most", "transport")

    def __init__(self, connection: Any, transport: Any) -> None:
        from websockets.protocol import OPEN

        self._connection = connection
        self._open = OPEN
        self.transport = transport
        # A server that was told to wait does so as long as there is more than this.
        self.most, _ = transport.get_write_buffer_limits()

    def __call__(self, frames: bytes) -> bool:
        transport = self.transport
        if self._connection.state is not self._open:
            return False
        if transport.is_closing() or transport.get_write_buffer_size() > self.most:
            return False
        transport.write(frames)
        return True


def _to_websockets(writes: Sequence[ToWebsocket]) -> Write:
    """Asks each for the same, by calls that loop in C, except for the state of its connection: where that ends, uvicorn
    closes the transport in the same turn, unless the application closes, whose reader has left by then."""
    transports = [write.transport for write in writes]
    most = min(write.most for write in writes)
    is_closing, buffered = methodcaller("is_closing"), methodcaller("get_write_buffer_size")

    def write(frames: bytes) -> bool:
        if any(map(is_closing, transports)) or max(map(buffered, transports)) > most:
            return False
        waiting = iter(transports)
        while True:
            try:
                deque(map(methodcaller("write", frames), waiting), maxlen=0)
                return True
            except Exception:
                logger.exception("a client could not be written to, and has to come back")
                # What it was written is not known.
                transports[~length_hint(waiting)].abort()

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
