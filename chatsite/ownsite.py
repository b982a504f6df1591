"""A site of one's own for a command: this checkout's database, a free port of this machine, gone with the command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError

from conversations.models import Token, User

START_S = 30.0
POLL_S = 0.1


@contextmanager
def own_site() -> Iterator[str]:
    """Serve until the block ends, without any service that is not there already; gives the site's URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port)]
    # A session of its own: the Ctrl-C that stops an answer is not meant for it.
    with subprocess.Popen(
        [*command, "chatsite.asgi:application"],
        cwd=settings.BASE_DIR,
        # It writes its answers itself: whether there are workers anywhere is not known here.
        env=os.environ | {"ALLOWED_HOSTS": "127.0.0.1", "LOG_LEVEL": "ERROR", "STREAM_ENGINE": "process"},
        start_new_session=True,
    ) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url, server)
            yield url
        finally:
            server.terminate()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if httpx2.get(f"{url}/healthz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        if server.poll() is not None or time.monotonic() > deadline:
            raise CommandError("The site does not start. Does `manage.py check` find nothing, and is it migrated?")
        time.sleep(POLL_S)


@contextmanager
def own_token(username: str) -> Iterator[str]:
    """A token of a user of this database, who is made if need be, for as long as the block runs."""
    try:
        user, _ = User.objects.get_or_create(username=username, defaults={"password": "!"})
        secret = Token.objects.issue(user, "terminal")
    except DatabaseError as error:
        raise CommandError(f"The database cannot be used ({error}). Has `manage.py migrate` been run?") from error
    try:
        yield secret
    finally:
        Token.objects.filter(digest=Token.digest_of(secret)).delete()
