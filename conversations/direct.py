"""An ASGI extension of our own: a server that offers it can be written to at once (chatsite/direct.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Write = Callable[[bytes], bool]
EXTENSION = "chatsite.direct"


def writer(scope: Mapping[str, Any]) -> Write | None:
    """What writes to the client of a scope at once: to a websocket messages that are frames already, to a response
    some of its body, once that has begun. It says False, and has written nothing, if the client takes nothing in at
    the moment or has left. None where the server offers no such thing."""
    return (scope.get("extensions") or {}).get(EXTENSION)
