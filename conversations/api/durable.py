"""Durable Streams, for reading: a log as JSON messages, one a row, by catch-up, long-poll or server-sent events.

An offset is the seq of the last row before it, written so that text sorts as numbers do; nothing else is kept here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt

from conversations.access import Access
from conversations.api.errors import body as problem
from conversations.api.following import COMMENT, SSE_HEADERS, Beat, BrokenOff, follow, seen_by
from conversations.api.serializers import ChunkOutput
from streaming.frames import END, Piece, Row
from streaming.hub import get_hub, last_rows
from streaming.models import Chunk

BEGINNING, NOW = "-1", "now"
OFFSET_DIGITS = 16
# How long a reader that has everything waits for being told so again: the Python client asks on and on.
CLOSED_S = 1.0
CURSOR_S = 20
CURSOR_EPOCH_S = 1_728_432_000
CURSOR_JITTER = (1, 180)
# Whoever asks gets what is theirs; nothing between may keep it, but they may ask whether it changed.
HEADERS = {"Cache-Control": "private, no-cache", "Cross-Origin-Resource-Policy": "same-origin"}


@dataclass
class Source:
    """A stream to read, and how its rows are told: here as they are in the API, `after` being where the reader is."""

    stream: UUID
    topic: str
    access: Access
    known: Any = None  # what the permission rests on, if somebody has looked

    content_type = "application/json"
    sse_headers = SSE_HEADERS
    long_poll_s = 20.0

    def body(self, rows: Sequence[Row]) -> bytes:
        return orjson.dumps([ChunkOutput().to_representation(row) for row in rows])

    def event(self, rows: Sequence[Row]) -> bytes:
        """The same as the data of one event."""
        return self.body(rows)

    def follow(self, after: int) -> AsyncIterator[Piece | Beat | BrokenOff]:
        return follow(self.access, self.stream, self.topic, after, self.known)


@dataclass(frozen=True, slots=True)
class Standing:
    last: int
    closed: bool


def standing_of(stream: UUID) -> Standing | None:
    """Where a log ends, and whether that is its end; None if it is gone."""
    last = last_rows([str(stream)]).get(str(stream))
    if last is None:
        return None
    return Standing(last, Chunk.objects.filter(stream=stream, seq=last, kind=END).exists())


def offset(seq: int) -> str:
    return f"{seq:0{OFFSET_DIGITS}d}"


def seq_of(offset: str) -> int | None:
    """The position an offset stands for; None if it is none of ours."""
    if offset == BEGINNING:
        return 0
    return int(offset) if len(offset) == OFFSET_DIGITS and offset.isascii() and offset.isdigit() else None


def cursor(after: str) -> str:
    """A number that grows with time, and in any case beyond the client's: no cache gives the same answer for ever."""
    now = int((time.time() - CURSOR_EPOCH_S) // CURSOR_S)
    theirs = int(after) if after.isascii() and after.isdigit() and len(after) < 16 else -1
    return str(now if theirs < now else theirs + random.randint(*CURSOR_JITTER))


@csrf_exempt  # It changes nothing, and other methods are to be refused in the API's one shape.
async def read_stream(request: ASGIRequest, pk: UUID) -> HttpResponseBase:
    if request.method not in {"GET", "HEAD"}:
        response = refuse(405, "method_not_allowed", "Streams can only be read here: use GET or HEAD.")
        response["Allow"] = "GET, HEAD"
        return response
    access = Access.of(request.scope)
    seen = await get_hub().database().read(seen_by, access, pk)
    if isinstance(seen, int):
        code = "not_found" if seen == 404 else "not_authenticated"
        return refuse(seen, code, "There is no such answer, or your credentials are missing or not good.")
    return await read(request, Source(pk, seen.stream.topic, access, seen.known))


async def read(request: ASGIRequest, source: Source) -> HttpResponseBase:
    """One read of a source, of whatever kind."""
    at, live = request.GET.get("offset"), request.GET.get("live", "")
    standing = await get_hub().database().read(standing_of, source.stream)
    if standing is None:
        return refuse(404, "not_found", "There is no such answer.")
    if request.method == "HEAD":
        return answer(source, b"", standing.last, standing, {"Cache-Control": "no-store"})
    seq = standing.last if at == NOW else seq_of(BEGINNING if at is None else at)
    if seq is None or live not in {"", "long-poll", "sse"} or (live and at is None):
        return refuse(400, "bad_position", "`offset` is one that was given here, -1 or now; `live` needs it.")
    seq = min(seq, standing.last)
    after_cursor = request.GET.get("cursor", "")
    if live == "sse":
        headers = HEADERS | dict(source.sse_headers)
        body = events(source, seq, standing, after_cursor)
        return StreamingHttpResponse(body, content_type="text/event-stream", headers=headers)
    if live == "long-poll" and seq == standing.last:
        return await long_poll(source, seq, standing, after_cursor)
    headers = {"Stream-Cursor": cursor(after_cursor)} if live else {}
    if at == NOW:
        return answer(source, source.body([]), seq, standing, headers | {"Cache-Control": "no-store"})
    return await catch_up(request, source, seq, standing, headers)


async def catch_up(
    request: ASGIRequest, source: Source, seq: int, standing: Standing, headers: dict[str, str]
) -> HttpResponse:
    page = Chunk.objects.page
    rows, more = await get_hub().database().read(page, source.stream, seq, settings.READER_PAGE_BYTES)
    last = rows[-1].seq if rows else seq
    # What was added since the standing was read is in the rows, and so is an end.
    reached = Standing(last, rows[-1].kind == END if rows else standing.closed)
    standing = standing if more and last < standing.last else reached
    etag = f'"{source.stream}:{seq}:{last}:{int(standing.closed)}"'
    if request.headers.get("If-None-Match") == etag:
        return HttpResponse(status=304, headers=HEADERS | {"ETag": etag})
    return answer(source, source.body(rows), last, standing, headers | {"ETag": etag})


async def long_poll(source: Source, seq: int, standing: Standing, after_cursor: str) -> HttpResponse:
    """Wait for what comes behind the end of the log; 204 if nothing does."""
    headers = {"Stream-Cursor": cursor(after_cursor)}
    if standing.closed:
        await asyncio.sleep(CLOSED_S)
        return answer(source, None, seq, standing, headers)
    try:
        async with asyncio.timeout(source.long_poll_s):
            async for item in source.follow(seq):
                if isinstance(item, Piece):
                    body = source.body(item.rows)
                    return answer(source, body, item.seq, Standing(item.seq, item.ends), headers)
                if isinstance(item, BrokenOff):
                    break
    except TimeoutError:
        pass
    return answer(source, None, seq, standing, headers)


def answer(source: Source, body: bytes | None, last: int, standing: Standing, headers: dict[str, Any]) -> HttpResponse:
    """A response that goes up to `last`, with all that tells a client where it is; without a body, 204."""
    place = {"Stream-Next-Offset": offset(last)}
    if last == standing.last:
        place["Stream-Up-To-Date"] = "true"
        if standing.closed:
            place["Stream-Closed"] = "true"
    kind = source.content_type
    return HttpResponse(body or b"", kind, status=204 if body is None else 200, headers=HEADERS | place | headers)


async def events(source: Source, seq: int, standing: Standing, after_cursor: str) -> AsyncIterator[bytes]:
    """Data and where it leads, in turn. A body that ends without `streamClosed` was cut: the client comes again."""
    if seq == standing.last:
        yield control(seq, standing, after_cursor)
        if standing.closed:
            return
    async for item in source.follow(seq):
        if isinstance(item, Piece):
            reached = Standing(max(item.seq, standing.last), item.ends)
            yield data(source.event(item.rows)) + control(item.seq, reached, after_cursor)
        elif isinstance(item, Beat):
            yield COMMENT
        elif isinstance(item, BrokenOff):
            return


def data(text: bytes) -> bytes:
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"event: data\n" + b"".join(b"data:%b\n" % line for line in lines) + b"\n" if text else b""


def control(seq: int, standing: Standing, after_cursor: str) -> bytes:
    place: dict[str, Any] = {"streamNextOffset": offset(seq)}
    if standing.closed:
        place |= {"streamClosed": True, "upToDate": True}
    else:
        place["streamCursor"] = cursor(after_cursor)
        if seq == standing.last:
            place["upToDate"] = True
    return b"event: control\ndata:%b\n\n" % orjson.dumps(place)


def refuse(status: int, code: str, detail: str) -> JsonResponse:
    return JsonResponse(problem(code, detail), status=status)


urlpatterns: list[URLPattern] = [path("streams/<uuid:pk>", read_stream)]
