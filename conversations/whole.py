"""Lets a client be written what is framed already, the same bytes to every reader, past the layers of ASGI.

Those take as long for each delta and reader as everything else together. It is an ASGI extension of our own: where the
server is none of those known here, it is absent, and everything is sent the usual way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Write = Callable[[bytes], bool]
EXTENSION = "chatsite.whole"
UVICORN = "uvicorn.protocols."


class Whole:
    """Wraps an ASGI application: a scope tells how to write to its client, if that is known."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        if (write := _behind(send)) is not None:
            scope.setdefault("extensions", {})[EXTENSION] = write
        return self._application(scope, receive, send)


def writer(scope: Mapping[str, Any]) -> Write | None:
    """What writes to the client of a scope at once: to a websocket messages that are frames already, to a response
    some of its body, once that has begun. It says False, and has written nothing, if the client takes nothing in at
    the moment or has left. None where the server offers no such thing."""
    return (scope.get("extensions") or {}).get(EXTENSION)


def _behind(send: Any) -> Write | None:
    """The same by a server's `send`."""
    module = type(getattr(send, "__self__", None)).__module__
    if module == f"{UVICORN}websockets.websockets_sansio_impl":
        return _to_websocket(send.__self__)
    if module == f"{UVICORN}http.httptools_impl":
        return _to_response(send.__self__)
    return None


# Each asks what uvicorn's own `send` waits for, and what that and its libraries fail on.


def _to_websocket(protocol: Any) -> Write:
    from websockets.protocol import OPEN

    def write(frames: bytes) -> bool:
        if protocol.conn.state is not OPEN or protocol.transport.is_closing() or not protocol.writable.is_set():
            return False
        protocol.transport.write(frames)
        return True

    return write


def _to_response(cycle: Any) -> Write:
    def write(body: bytes) -> bool:
        in_parts = cycle.chunked_encoding and not cycle.response_complete  # Not known before the response begins.
        if not in_parts or cycle.disconnected or cycle.transport.is_closing() or cycle.flow.write_paused:
            return False
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    return write
