"""OpenAI's API under /v1/, for its official SDKs unmodified: responses, chat completions, models; bearer tokens only.

Everything given away is a mapping of the log (responses.py, chatcompletions.py); every refusal has OpenAI's shape.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError
from django.http import HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import URLPattern, path, re_path
from django.views.decorators.csrf import csrf_exempt

from conversations.access import Access, bearer_of
from conversations.api import openai_bodies as bodies
from conversations.api.chatcompletions import Completion, failure
from conversations.api.following import SSE_HEADERS
from conversations.api.openai_errors import ApiError, refuse
from conversations.api.openai_inputs import Asked, CompletionInput, ResponseInput, no_model
from conversations.api.responses import Answer, Transcript, private_id
from conversations.models import Conversation, Message, Refused, User
from streaming.background import let_go
from streaming.models import Chunk, Status

logger = logging.getLogger(__name__)
Handler = Callable[..., Coroutine[Any, Any, HttpResponseBase]]
# How long `cancel` waits for the end that it asked for.
CANCEL_S = 5.0
POSITION_DIGITS = 12
KEY_CHARS = 255
# What the site refuses, as OpenAI's SDKs know it.
REFUSED = {
    "busy": (409, "busy"),
    "key_reused": (422, "key_reused"),
    "throttled": (429, "rate_limit_exceeded"),
    "too_many_streams": (429, "rate_limit_exceeded"),
    "day_spent": (429, "insufficient_quota"),
}


def endpoint(**handlers: Handler) -> Handler:
    """A view of one address: who asks is found out first, and whatever goes wrong is told in OpenAI's shape."""

    @csrf_exempt  # No cookie counts here.
    async def view(request: ASGIRequest, **where: str) -> HttpResponseBase:
        try:
            access = access_of(request)
            user = await sync_to_async(access.user)()
            if user is None:
                raise ApiError(401, "invalid_api_key", "This token is missing or not valid.", headers=CHALLENGE)
            if (handler := handlers.get(request.method or "")) is None:
                allow = {"Allow": ", ".join(handlers)}
                raise ApiError(405, "method_not_allowed", "This address does not take this method.", headers=allow)
            request.user = user
            return await handler(request, access, **where)
        except ApiError as refused:
            return refuse(refused)
        except DatabaseError:
            logger.exception("%s %s could not be answered", request.method, request.path)
            return refuse(ApiError(503, "unavailable", "The server cannot do this at the moment. Try again."))
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            return refuse(ApiError(500, "internal", "This site made a mistake. It has been logged."))

    return view


CHALLENGE = {"WWW-Authenticate": "Bearer"}


def access_of(request: ASGIRequest) -> Access:
    """The bearer token alone: a cookie is no credential here."""
    header: str = request.headers.get("authorization", "")
    return Access(bearer_of([(b"authorization", header.encode("latin1", "replace"))]) or "", "")


def body_of(request: ASGIRequest) -> bytes:
    body = request.read(settings.BODY_MAX_BYTES + 1)
    if len(body) > settings.BODY_MAX_BYTES:
        raise ApiError(413, "body_too_large", "The request's body is larger than this site takes.")
    return bytes(body)


def key_of(request: ASGIRequest) -> uuid.UUID | None:
    """The request's idempotency key: a UUID as it is, anything else as the UUID made of it."""
    header: str | None = request.headers.get("Idempotency-Key")
    if header is None:
        return None
    if not 0 < len(header) <= KEY_CHARS:
        raise ApiError(400, "invalid_value", f"Idempotency-Key has at most {KEY_CHARS} characters.")
    with suppress(ValueError):
        return uuid.UUID(header)
    return uuid.uuid5(uuid.NAMESPACE_OID, header)


def ask(request: ASGIRequest, asked: Asked, key: uuid.UUID | None) -> tuple[Answer, dict[str, str]]:
    """Ask in the conversation that is meant, or in a new one; headers say whether the answer was there before."""
    user = cast(User, request.user)
    mine = Conversation.objects.visible_to(user)
    found, parent = place(mine, asked) if isinstance(asked, ResponseInput) else (None, None)
    try:
        if found is None:
            reply = Conversation.begin(user, asked.prompt, key, asked.model, asked.wish())
        else:
            reply = found.ask(asked.prompt, key, parent, asked.wish())
    except Refused as refused:
        status, code = REFUSED.get(refused.code, (400, refused.code))
        raise ApiError(status, code, refused.detail, headers=refused.retry_after) from None
    return find(user, reply.stream_id), {"Idempotent-Replayed": "true"} if reply.repeated else {}


def place(mine: Any, asked: ResponseInput) -> tuple[Conversation | None, uuid.UUID | None]:
    """The conversation that is to go on, and the reply behind which; None: a new one, or its newest."""
    if asked.previous_response_id:
        stream = private_id("resp", asked.previous_response_id)
        previous = Message.objects.filter(conversation__in=mine, stream=stream).select_related("conversation").first()
        if stream is None or previous is None:
            missing = f"There is no response {asked.previous_response_id!r}."
            raise ApiError(400, "previous_response_not_found", missing, param="previous_response_id")
        return previous.conversation, previous.pk
    if asked.conversation is None:
        return None, None
    found = mine.filter(pk=private_id("conv", asked.conversation.id)).first()
    if found is None:
        missing = f"There is no conversation {asked.conversation.id!r}."
        raise ApiError(404, "conversation_not_found", missing, param="conversation")
    return found, None


def find(user: Any, stream: uuid.UUID | None) -> Answer:
    """The answer with this stream, if the user may see it."""
    mine = Message.objects.filter(conversation__in=Conversation.objects.visible_to(user), stream=stream)
    reply = mine.select_related("stream", "parent__parent").first()
    if stream is None or reply is None or reply.stream is None:
        raise ApiError(404, "not_found", "There is no such response.")
    before = reply.parent.parent if reply.parent else None
    return Answer(
        stream=stream,
        topic=reply.stream.topic,
        conversation=reply.conversation_id,
        previous=before.stream_id if before else None,
        created_at=int(reply.stream.created_at.timestamp()),
        request=reply.stream.request,
        waiting=reply.stream.status == Status.PENDING,
    )


async def answer_of(request: ASGIRequest, response: str) -> Answer:
    return await sync_to_async(find)(request.user, private_id("resp", response))


def as_it_stands(answer: Answer) -> dict[str, Any]:
    transcript = Transcript(answer)
    for row in Chunk.objects.rows(answer.stream):
        transcript.add(row)
    return transcript.response("queued" if answer.waiting else "in_progress")


async def stream_of(body: Any, headers: dict[str, str]) -> StreamingHttpResponse:
    await sync_to_async(let_go)()
    return StreamingHttpResponse(body, content_type="text/event-stream", headers=SSE_HEADERS | headers)


async def whole(access: Access, answer: Answer, into: Transcript | Completion) -> None:
    await sync_to_async(let_go)()
    await bodies.read_through(access, answer, into)


async def create_response(request: ASGIRequest, access: Access) -> HttpResponseBase:
    asked = ResponseInput.parse(body_of(request))
    answer, headers = await sync_to_async(ask)(request, asked, key_of(request))
    if asked.stream:
        begin = await sync_to_async(bodies.position)(answer.stream)
        return await stream_of(bodies.response_events(access, answer, begin), headers)
    if asked.background:
        return JsonResponse(await sync_to_async(as_it_stands)(answer), headers=headers)
    transcript = Transcript(answer)
    await whole(access, answer, transcript)
    return JsonResponse(transcript.response(), headers=headers)


async def retrieve_response(request: ASGIRequest, access: Access, response: str) -> HttpResponseBase:
    stream, after = reading(request.GET.dict())
    answer = await answer_of(request, response)
    if not stream:
        return JsonResponse(await sync_to_async(as_it_stands)(answer))
    begin = await sync_to_async(bodies.position)(answer.stream, after)
    return await stream_of(bodies.response_events(access, answer, begin), {})


def reading(query: dict[str, str]) -> tuple[bool, int]:
    """How to read a response: as a stream or not, and behind which event."""
    stream = query.pop("stream", "false")
    after = query.pop("starting_after", None)
    if query.pop("include_obfuscation", "false") != "false":
        raise unsupported("include_obfuscation")
    for name in query:
        raise unsupported(name)
    if stream not in ("true", "false"):
        raise ApiError(400, "invalid_value", "stream is true or false.", param="stream")
    if after is None:
        return stream == "true", -1
    if stream == "false":
        raise ApiError(400, "invalid_value", "starting_after is for stream=true.", param="starting_after")
    if not (after.isascii() and after.isdigit() and len(after) <= POSITION_DIGITS):
        raise ApiError(400, "invalid_value", "starting_after is a sequence_number.", param="starting_after")
    return True, int(after)


def unsupported(name: str) -> ApiError:
    return ApiError(400, "unsupported_parameter", f"{name[:100]}: This site does not support it.", param=name[:100])


async def cancel_response(request: ASGIRequest, access: Access, response: str) -> HttpResponseBase:
    answer = await answer_of(request, response)
    await sync_to_async(bodies.stop)(answer.stream)
    with suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_S):
            await whole(access, answer, Transcript(answer))
    return JsonResponse(await sync_to_async(as_it_stands)(answer))


async def delete_response(request: ASGIRequest, access: Access, response: str) -> HttpResponseBase:
    answer = await answer_of(request, response)
    await sync_to_async(remove)(answer.stream)
    return JsonResponse({"id": answer.id, "object": "response", "deleted": True})


def remove(stream: uuid.UUID) -> None:
    if reply := Message.objects.filter(stream=stream).first():
        reply.remove()


async def create_completion(request: ASGIRequest, access: Access) -> HttpResponseBase:
    asked = CompletionInput.parse(body_of(request))
    key = key_of(request)
    answer, headers = await sync_to_async(ask)(request, asked, key)
    # With a key a client can ask again for the same answer; without one nobody could ever get the rest of it.
    lasting = key is not None
    if asked.stream:
        begin = await sync_to_async(bodies.position)(answer.stream)
        usage = asked.wants_usage
        return await stream_of(
            bodies.completion_chunks(access, answer, begin.restart, usage=usage, lasting=lasting), headers
        )
    completion = Completion(answer)
    async with bodies.ending(answer, completion, lasting=lasting):
        await whole(access, answer, completion)
    if completion.failed:
        raise failure(completion.outcome)
    return JsonResponse(completion.whole(), headers=headers)


def model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "chatsite"}


async def list_models(request: ASGIRequest, access: Access) -> HttpResponseBase:
    return JsonResponse({"object": "list", "data": [model(name) for name in settings.LLM_MODELS]})


async def retrieve_model(request: ASGIRequest, access: Access, name: str) -> HttpResponseBase:
    if name not in settings.LLM_MODELS:
        raise no_model(name)
    return JsonResponse(model(name))


async def nothing(request: ASGIRequest, access: Access) -> HttpResponseBase:
    raise ApiError(404, "not_found", "There is nothing at this address.")


urlpatterns: list[URLPattern] = [
    path("responses", endpoint(POST=create_response)),
    path("responses/<str:response>", endpoint(GET=retrieve_response, DELETE=delete_response)),
    path("responses/<str:response>/cancel", endpoint(POST=cancel_response)),
    path("chat/completions", endpoint(POST=create_completion)),
    path("models", endpoint(GET=list_models)),
    path("models/<path:name>", endpoint(GET=retrieve_model)),
    # Must stay the last: also what is not there is refused in the one shape.
    re_path("", endpoint(**dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), nothing))),
]
