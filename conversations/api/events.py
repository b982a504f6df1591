"""A stream's log as server-sent events: the native frames, each with its seq as the event's id."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from uuid import UUID

import orjson
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from conversations.access import Access
from conversations.api.following import COMMENT, SSE_HEADERS, Beat, Seen, follow, seen_by
from conversations.direct import direct
from streaming.frames import Piece, Reading
from streaming.hub import get_hub
from streaming.tail import Push

RETRY_MS = 1000

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
    seen = await get_hub().database().read(seen_by, access, pk)
    if isinstance(seen, int):
        return refuse(seen)
    position = request.headers.get("Last-Event-ID") or request.GET.get("after") or "0"
    if not (position.isascii() and position.isdigit() and len(position) <= 9):
        return refuse(400)
    if "Last-Event-ID" in request.headers and not seen.stream.is_live and int(position) >= seen.stream.seq:
        return HttpResponse(status=204)  # The only answer that ends an EventSource's reconnecting.
    response = StreamingHttpResponse(content_type="text/event-stream", headers=SSE_HEADERS)
    response.streaming_content = _body(access, seen, int(position), request.scope, weakref.ref(response))
    return response


async def _body(
    access: Access, seen: Seen, after: int, scope: Mapping[str, Any], response: Callable[[], Any]
) -> AsyncIterator[bytes]:
    yield b"retry: %d\n\n" % RETRY_MS
    # What a middleware has put into another iterator is its own to write.
    sent = getattr(response(), "_iterator", None)
    client = direct(scope) if getattr(sent, "ag_code", None) is _body.__code__ else None
    push = Push(_words, client.write) if client else None
    stream = seen.stream
    async for item in follow(access, stream.pk, stream.topic, after, seen.known, push):
        if isinstance(item, Piece):
            yield item.events
        elif isinstance(item, Beat):
            yield COMMENT
        else:
            yield failure(item.code, item.detail)


def _words(item: Piece | Reading) -> bytes | None:
    """With the end there is more to do than to write it; of readings these clients are not told."""
    return item.events if isinstance(item, Piece) and not item.ends else None


def failure(code: str, detail: str) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"type": "error", "code": code, "detail": detail})
