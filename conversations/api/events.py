"""A stream's log as server-sent events: the native frames, each with its seq as the event's id."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from uuid import UUID

import orjson
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from conversations.access import Access
from conversations.models import Conversation
from streaming.frames import Piece
from streaming.hub import get_hub
from streaming.models import Stream
from streaming.reader import Gone, Reader

logger = logging.getLogger(__name__)
RETRY_MS = 1000


def seen_by(access: Access, pk: UUID) -> Stream | int:
    """The stream, if this client may see it, or the HTTP status that says why not."""
    user = access.user()
    if user is None:
        return 401
    conversations = Conversation.objects.visible_to(user)
    found = Stream.objects.filter(pk=pk, message__conversation__in=conversations).only("topic", "status", "seq")
    return found.first() or 404


REFUSALS = {
    401: ("not_authenticated", "Authentication credentials were not provided or are not valid."),
    404: ("not_found", "There is no such answer."),
    405: ("method_not_allowed", "Events can only be read: use GET."),
    400: ("bad_position", "The position is a whole number from 0: the last seq that was received."),
}


def refuse(status: int) -> JsonResponse:
    code, detail = REFUSALS[status]
    response = JsonResponse({"code": code, "detail": detail}, status=status)
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if status == 405:
        response["Allow"] = "GET"
    return response


@csrf_exempt  # It changes nothing, and other methods are to be refused in the API's one shape.
async def events(request: ASGIRequest, pk: UUID) -> HttpResponseBase:
    """GET streams/<id>/events/?after=n; a reconnecting EventSource's Last-Event-ID outweighs `after`."""
    if request.method != "GET":
        return refuse(405)
    access = Access.of(request.scope)
    stream = await get_hub().database().read(seen_by, access, pk)
    if isinstance(stream, int):
        return refuse(stream)
    position = request.headers.get("Last-Event-ID") or request.GET.get("after") or "0"
    if not (position.isascii() and position.isdigit() and len(position) <= 9):
        return refuse(400)
    if "Last-Event-ID" in request.headers and not stream.is_live and int(position) >= stream.seq:
        return HttpResponse(status=204)  # The only answer that ends an EventSource's reconnecting.
    body = follow(access, pk, stream.topic, int(position))
    headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(body, content_type="text/event-stream", headers=headers)


async def follow(access: Access, stream: UUID, topic: str, after: int) -> AsyncIterator[bytes]:
    """The events behind `after` up to the `end`. A body that just ends would look finished: errors are said."""
    yield b"retry: %d\n\n" % RETRY_MS
    try:
        async with Reader(topic, only=str(stream)) as reader:
            await reader.attach({str(stream): after})
            async for event in _events(reader, access, stream):
                yield event
    except Exception:
        logger.exception("events of stream %s failed", stream)
        yield _error("internal", "Something went wrong on this server; reconnect.")


async def _events(reader: Reader, access: Access, stream: UUID) -> AsyncIterator[bytes]:
    checked_at = sent_at = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(min(settings.ACCESS_CHECK_S, settings.SSE_HEARTBEAT_S)):
                item = await reader.next()
        except TimeoutError:
            item = None
        now = time.monotonic()
        if now - checked_at >= settings.ACCESS_CHECK_S:
            checked_at = now
            if isinstance(await get_hub().database().read(seen_by, access, stream), int):
                yield _error("not_found", "This answer is gone, or no longer yours to see.")
                return
        if isinstance(item, Piece):
            sent_at = now
            yield item.events
            if item.ends:
                return
        elif isinstance(item, Gone):
            yield _error("gone", "This answer was deleted.")
            return
        elif item is None and now - sent_at >= settings.SSE_HEARTBEAT_S:
            sent_at = now
            yield b": still here\n\n"


def _error(code: str, detail: str) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"type": "error", "code": code, "detail": detail})
