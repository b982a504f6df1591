"""An answer's log as it is written, for every surface that follows it over HTTP: who may, the rows, signs of life.

A body that just ends looks finished to many a client: that it broke off is said, and every surface passes it on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings

from conversations.access import Access
from conversations.models import Conversation, conversation_of
from conversations.watch import evidence, get_watch
from streaming.frames import Piece
from streaming.hub import get_hub
from streaming.models import Stream
from streaming.reader import Gone, Reader
from streaming.tail import Push

logger = logging.getLogger(__name__)
SSE_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
COMMENT = b": still here\n\n"


@dataclass(frozen=True, slots=True)
class Beat:
    """Nothing was said for SSE_HEARTBEAT_S; a proxy may take the connection for dead."""


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """Nothing more follows, though the answer had no end: it is `gone`, `not_found` any more, or `internal`."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A stream that a client may see, and what that rests on (conversations/watch.py)."""

    stream: Stream
    known: Any


def seen_by(access: Access, pk: UUID) -> Seen | int:
    """The stream, if this client may see it, or the HTTP status that says why not."""
    stream = Stream.objects.filter(pk=pk, message__isnull=False).only("topic", "status", "seq").first()
    if stream is None:
        return 404 if access.user() else 401
    key = (access, conversation_of(stream.topic))
    known = evidence([key])[key]  # Read first: a change in between is one to the watch.
    found = access.conversation(key[1])
    return 401 if found is None else Seen(stream, known) if isinstance(found, Conversation) else 404


async def follow(
    access: Access, stream: UUID, topic: str, after: int, known: Any = None, push: Push | None = None
) -> AsyncIterator[Piece | Beat | BrokenOff]:
    """The rows behind `after` up to the `end`, or until it breaks off.

    `known`: what the permission rests on; without it that is asked for once more. `push`: how words are written at
    once; those are no items then.
    """
    conversation = conversation_of(topic)
    try:
        with get_watch().over(access, conversation, known) as changed:
            following = Following(access, conversation, changed, push)
            async with Reader(topic, only=str(stream), push=following.push) as reader:
                await reader.attach({str(stream): after})
                async for item in following.items(reader):
                    yield item
    except Exception:
        logger.exception("following stream %s failed", stream)
        yield BrokenOff("internal", "Something went wrong on this server; reconnect.")


class Following:
    """One client that follows a stream; `changed` is set when its permission has to be asked for again."""

    def __init__(self, access: Access, conversation: UUID, changed: asyncio.Event, push: Push | None) -> None:
        self._access = access
        self._conversation = conversation
        self._changed = changed
        self.push = None if push is None else Push(push.form, partial(self._write, push.write))
        self._sent_at = time.monotonic()

    def _write(self, write: Callable[[bytes], bool], data: bytes) -> bool:
        """Whatever else is to happen, `items` sees to."""
        if self._changed.is_set() or not write(data):
            return False
        self._sent_at = time.monotonic()
        return True

    async def items(self, reader: Reader) -> AsyncIterator[Piece | Beat | BrokenOff]:
        while True:
            try:
                async with asyncio.timeout(min(settings.ACCESS_CHECK_S, settings.SSE_HEARTBEAT_S)):
                    item = await reader.next()
            except TimeoutError:
                item = None
            now = time.monotonic()
            if self._changed.is_set():
                self._changed.clear()
                found = await get_hub().database().read(self._access.conversation, self._conversation)
                if not isinstance(found, Conversation):
                    yield BrokenOff("not_found", "This answer is gone, or no longer yours to see.")
                    return
            if isinstance(item, Piece):
                self._sent_at = now
                yield item
                if item.ends:
                    return
            elif isinstance(item, Gone):
                yield BrokenOff("gone", "This answer was deleted.")
                return
            elif item is None and now - self._sent_at >= settings.SSE_HEARTBEAT_S:
                self._sent_at = now
                yield Beat()
