"""Ports of 127.0.0.1 for servers of tests and benchmarks."""

from __future__ import annotations

import socket
from secrets import randbelow

LOWEST, ENOUGH = 15_000, 15_000


def free_port(neighbours: int = 1) -> int:
    """The first of so many `neighbours` that nobody listens on.

    Below those that a kernel gives to whoever names none: so no connection of another process takes one of them between
    this look and the server's start.
    """
    while True:
        first = LOWEST + randbelow(ENOUGH)
        if all(is_free(port) for port in range(first, first + neighbours)):
            return first


def is_free(port: int) -> bool:
    """Whether a server may listen there."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
