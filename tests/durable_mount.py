"""Durable Streams for writing, without credentials, on the site's own tables: what the conformance suite writes to.

Reading is the site's (conversations/api/durable.py); this adds only what it takes to make streams of any content type.
A message is a row whose text is its bytes in base64; what is known of a stream beside its log is in its `request`.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.http import HttpResponse, HttpResponseBase
from django.urls import path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from chatsite.urls import urlpatterns as site
from conversations.access import Access
from conversations.api.durable import HEADERS, Source, offset, read
from conversations.api.following import SSE_HEADERS, Beat, BrokenOff
from streaming import feeding
from streaming.feeding import Addition
from streaming.frames import TEXT, Piece, Row
from streaming.models import Chunk, Outcome, Status, Stream
from streaming.reader import Gone, Reader

NUMBER = re.compile(r"0|[1-9]\d{0,15}")
JSON = "application/json"
FOR_EVER = timedelta(days=1)


class Refusal(Exception):
    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(status)
        self.response = HttpResponse(status=status, headers=named(headers))


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class AnySource(Source):
    """A stream of any content type, its messages as they came."""

    long_poll_s = 1.0

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream.pk, stream.topic, Access(None, ""))
        self.content_type = stream.request["content_type"]
        self.json = plain(self.content_type) == JSON
        self.binary = not self.json and not plain(self.content_type).startswith("text/")
        if self.binary:
            self.sse_headers = SSE_HEADERS | {"Stream-SSE-Data-Encoding": "base64"}

    def body(self, rows: Sequence[Row]) -> bytes:
        messages = [b64decode(row.text) for row in rows if row.kind == TEXT]
        return b"[%b]" % b",".join(messages) if self.json else b"".join(messages)

    def event(self, rows: Sequence[Row]) -> bytes:
        if not any(row.kind == TEXT for row in rows):
            return b""
        return b64encode(self.body(rows)) if self.binary else self.body(rows)

    async def follow(self, after: int) -> AsyncIterator[Piece | Beat | BrokenOff]:
        async with Reader(self.topic, only=str(self.stream)) as reader:
            await reader.attach({str(self.stream): after})
            async for item in reader.items():
                if isinstance(item, Gone):
                    return
                if isinstance(item, Piece):
                    yield item
                    if item.ends:
                        return


@dataclass
class Write:
    """A PUT or POST as its headers and body have it; Refusal for what they must not have."""

    request: ASGIRequest
    kind: str = field(init=False)
    closes: bool = field(init=False)

    def __post_init__(self) -> None:
        self.kind = self.request.headers.get("Content-Type", "")
        self.closes = self.request.headers.get("Stream-Closed", "").lower() == "true"

    def messages(self, kind: str) -> list[bytes]:
        body = self.request.body
        if plain(kind) != JSON:
            return [body] if body else []
        try:
            value = json.loads(body)
        except ValueError:
            raise Refusal(400) from None
        return [orjson.dumps(item) for item in value] if isinstance(value, list) else [orjson.dumps(value)]

    def lifetime(self) -> dict[str, Any]:
        ttl, until = (self.request.headers.get(name) for name in ("Stream-TTL", "Stream-Expires-At"))
        if (ttl and until) or (ttl is not None and not NUMBER.fullmatch(ttl)):
            raise Refusal(400)
        try:
            if until is not None and datetime.fromisoformat(until).tzinfo is None:
                raise Refusal(400)
        except ValueError:
            raise Refusal(400) from None
        return {"ttl": ttl, "until": until}

    def producer(self) -> tuple[str, int, int] | None:
        found = [self.request.headers.get(f"Producer-{name}") for name in ("Id", "Epoch", "Seq")]
        if found == [None, None, None]:
            return None
        name, *numbers = found
        if not name or not all(number is not None and NUMBER.fullmatch(number) for number in numbers):
            raise Refusal(400)
        epoch, seq = (int(number) for number in numbers if number)
        if max(epoch, seq) > 2**53 - 1:
            raise Refusal(400)
        return name, epoch, seq


def plain(kind: str) -> str:
    return kind.split(";")[0].strip().lower()


def topic_of(name: str) -> str:
    return f"durable-test-{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def find(name: str, *, touch: bool = True) -> Stream | None:
    """The stream of this name, unless its time is over; reading and writing make its time begin anew."""
    found = Stream.objects.select_for_update().filter(topic=topic_of(name)).first()
    if found is None:
        return None
    ttl, until = found.request["ttl"], found.request["until"]
    over = datetime.fromisoformat(until) if until else None
    if ttl is not None:
        over = datetime.fromisoformat(found.request["touched"]) + timedelta(seconds=int(ttl))
    if over is not None and over <= timezone.now():
        found.delete()
        return None
    if touch and ttl is not None:
        remember(found, touched=timezone.now().isoformat())
    return found


def remember(stream: Stream, **facts: Any) -> None:
    stream.request |= facts
    Stream.objects.filter(pk=stream.pk).update(request=stream.request)


def place(stream: Stream, **headers: str) -> dict[str, str]:
    last = Chunk.objects.last_seqs([stream.pk]).get(stream.pk, 0)
    closed = {"Stream_Closed": "true"} if not Stream.objects.get(pk=stream.pk).is_live else {}
    return named({"Stream_Next_Offset": offset(last), **closed, **headers})


@transaction.atomic
def put(request: ASGIRequest, name: str) -> HttpResponse:
    write = Write(request)
    kind = write.kind or "application/octet-stream"
    facts = {"content_type": kind, **write.lifetime()}
    found = find(name)
    if found is not None:
        same = {**found.request, "content_type": plain(found.request["content_type"])}
        wanted = {**facts, "content_type": plain(kind)}
        if any(same[key] != value for key, value in wanted.items()) or write.closes == found.is_live:
            raise Refusal(409)
        return HttpResponse(status=200, content_type=found.request["content_type"], headers=place(found))
    now = timezone.now()
    stream = Stream.objects.create(
        topic=topic_of(name), request={**facts, "touched": now.isoformat(), "producers": {}, "seq": None}
    )
    feeding.start(stream)
    Stream.objects.filter(pk=stream.pk).update(lease_until=now + FOR_EVER)
    messages = write.messages(kind) if request.body else []
    add(stream, messages, closes=write.closes)
    headers = place(stream, Location=request.build_absolute_uri(request.path))
    return HttpResponse(status=201, content_type=kind, headers=headers)


def add(stream: Stream, messages: list[bytes], *, closes: bool) -> None:
    if not messages and not closes:
        return
    last = Chunk.objects.last_seqs([stream.pk]).get(stream.pk, 0)
    said = tuple((TEXT, b64encode(message).decode()) for message in messages)
    assert stream.lease is not None
    feeding.add(stream.pk, stream.lease, Addition(last, said, Outcome(Status.DONE) if closes else None))
    Stream.objects.filter(pk=stream.pk).exclude(lease=None).update(lease_until=timezone.now() + FOR_EVER)


@transaction.atomic
def post(request: ASGIRequest, name: str) -> HttpResponse:
    write = Write(request)
    stream = find(name)
    if stream is None:
        raise Refusal(404)
    producer = write.producer()
    closing_only = write.closes and not request.body
    if not closing_only:
        if not request.body or not write.kind:
            raise Refusal(400)
        if stream.is_live and plain(write.kind) != plain(stream.request["content_type"]):
            raise Refusal(409)
    headers = accept(stream, producer)
    if headers is not None and headers.pop("known", ""):
        return HttpResponse(status=204, headers=place(stream, **headers))
    if not stream.is_live:
        if closing_only and producer is None:
            return HttpResponse(status=204, headers=place(stream))
        raise Refusal(409, **place(stream))
    messages = [] if closing_only else write.messages(stream.request["content_type"])
    if not messages and not closing_only:
        raise Refusal(400)
    follow_on(stream, request.headers.get("Stream-Seq"))
    if producer is not None:
        remember(stream, producers=stream.request["producers"] | {producer[0]: producer[1:]})
    add(stream, messages, closes=write.closes)
    status = 200 if producer and not closing_only else 204
    return HttpResponse(status=status, headers=place(stream, **(headers or {})))


def accept(stream: Stream, producer: tuple[str, int, int] | None) -> dict[str, str] | None:
    """What to tell a producer whose write may be made; `known` if it was made before. Refusal for all others."""
    if producer is None:
        return None
    name, epoch, seq = producer
    had = stream.request["producers"].get(name)
    if had is not None and epoch < had[0]:
        raise Refusal(403, Producer_Epoch=str(had[0]))
    if had is not None and epoch == had[0] and seq <= had[1]:
        return {"known": "yes", "Producer_Epoch": str(epoch), "Producer_Seq": str(had[1])}
    if not stream.is_live:
        raise Refusal(409, **place(stream))
    expected = had[1] + 1 if had is not None and epoch == had[0] else 0
    if seq != expected:
        if had is not None and epoch > had[0]:
            raise Refusal(400)
        raise Refusal(409, Producer_Expected_Seq=str(expected), Producer_Received_Seq=str(seq))
    return {"Producer_Epoch": str(epoch), "Producer_Seq": str(seq)}


def follow_on(stream: Stream, seq: str | None) -> None:
    if seq is None:
        return
    if stream.request["seq"] is not None and seq.encode() <= stream.request["seq"].encode():
        raise Refusal(409)
    remember(stream, seq=seq)


@transaction.atomic
def delete(request: ASGIRequest, name: str) -> HttpResponse:
    found = find(name)
    if found is None:
        raise Refusal(404)
    found.delete()
    return HttpResponse(status=204)


@transaction.atomic
def source_of(name: str, touch: bool) -> AnySource:
    found = find(name, touch=touch)
    if found is None:
        raise Refusal(404)
    return AnySource(found)


@transaction.atomic
def times_of(name: str) -> dict[str, str]:
    found = find(name, touch=False)
    known = {"Stream_TTL": found.request["ttl"], "Stream_Expires_At": found.request["until"]} if found else {}
    return named({header: value for header, value in known.items() if value})


WRITES = {"PUT": put, "POST": post, "DELETE": delete}


@csrf_exempt
async def stream(request: ASGIRequest, name: str) -> HttpResponseBase:
    try:
        if request.method in WRITES:
            response: HttpResponseBase = await sync_to_async(WRITES[request.method])(request, name)
        elif request.method == "OPTIONS":
            response = HttpResponse(status=204, headers={"Access-Control-Allow-Headers": "*"})
        else:
            source = await sync_to_async(source_of)(name, request.method == "GET")
            response = await read(request, source)
            if request.method == "HEAD":
                for header, value in (await sync_to_async(times_of)(name)).items():
                    response.headers[header] = value
    except Refusal as refusal:
        response = refusal.response
    for header, value in HEADERS.items():
        response.headers.setdefault(header, value)
    return response


urlpatterns = [path("durable-test/v1/stream/<path:name>", stream), *site]
