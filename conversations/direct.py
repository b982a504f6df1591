"""An ASGI extension of our own: a server that offers it can be written to at once (chatsite/direct.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Write = Callable[[bytes], bool]
EXTENSION = "chatsite.direct"


class Direct(NamedTuple):
    """`write` writes to the client: to a websocket messages that are frames already, to a response some of its body,
    once that has begun. It says False, and has written nothing, if the client takes nothing in at the moment or has
    left. `together` makes of many of them one that writes to all of their clients, or to none; to be given up before
    one of them is closed from here."""

    write: Write
    together: Callable[[Sequence[Any]], Write] | None = None


def direct(scope: Mapping[str, Any]) -> Direct | None:
    """How to write to the client of a scope at once. None where the server offers no such thing."""
    return (scope.get("extensions") or {}).get(EXTENSION)
