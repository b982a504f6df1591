"""An answer's log as it is written, for every surface that follows it over HTTP: who may, the rows, signs of life.

A body that just ends looks finished to many a client: that it broke off is said, and every surface passes it on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from conversations.access import Access
from conversations.models import Conversation, conversation_of
from conversations.watch import get_watch
from streaming.frames import Piece
from streaming.hub import get_hub
from streaming.models import Stream
from streaming.reader import Gone, Reader

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


def seen_by(access: Access, pk: UUID) -> Stream | int:
    """The stream, if this client may see it, or the HTTP status that says why not."""
    user = access.user()
    if user is None:
        return 401
    conversations = Conversation.objects.visible_to(user)
    found = Stream.objects.filter(pk=pk, message__conversation__in=conversations).only("topic", "status", "seq")
    return found.first() or 404


async def follow(access: Access, stream: UUID, topic: str, after: int) -> AsyncIterator[Piece | Beat | BrokenOff]:
    """The rows behind `after` up to the `end`, or until it breaks off."""
    try:
        async with Reader(topic, only=str(stream)) as reader:
            await reader.attach({str(stream): after})
            with get_watch().over(access, conversation_of(topic)) as changed:
                async for item in _items(reader, access, stream, changed):
                    yield item
    except Exception:
        logger.exception("following stream %s failed", stream)
        yield BrokenOff("internal", "Something went wrong on this server; reconnect.")


async def _items(
    reader: Reader, access: Access, stream: UUID, changed: asyncio.Event
) -> AsyncIterator[Piece | Beat | BrokenOff]:
    sent_at = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(min(settings.ACCESS_CHECK_S, settings.SSE_HEARTBEAT_S)):
                item = await reader.next()
        except TimeoutError:
            item = None
        now = time.monotonic()
        if changed.is_set():
            changed.clear()
            if isinstance(await get_hub().database().read(seen_by, access, stream), int):
                yield BrokenOff("not_found", "This answer is gone, or no longer yours to see.")
                return
        if isinstance(item, Piece):
            sent_at = now
            yield item
            if item.ends:
                return
        elif isinstance(item, Gone):
            yield BrokenOff("gone", "This answer was deleted.")
            return
        elif item is None and now - sent_at >= settings.SSE_HEARTBEAT_S:
            sent_at = now
            yield Beat()
