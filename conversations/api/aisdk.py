"""The AI SDK's `useChat` with its DefaultChatTransport: a log as a UI message stream (docs/clients.md).

The SDK sends the whole list of messages; the history here is the site's own, so only the last one, the prompt, counts.
Every body ends in words: `finish`, `abort` or `error`. Without one the SDK takes a cut answer for a whole one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson
from django.db.models import Max, Q
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import URLPattern, path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from conversations.access import Access
from conversations.api.following import COMMENT, SSE_HEADERS, Beat, BrokenOff, follow
from conversations.api.native import View
from conversations.api.serializers import EditInput, Input, Text, valid
from conversations.models import Conversation, Message, Role
from streaming import engine
from streaming.background import let_go
from streaming.frames import RESTART, Piece, Row, native_frames
from streaming.models import LIVE, Chunk, Status, Stream

HEADERS = SSE_HEADERS | {"X-Vercel-AI-UI-Message-Stream": "v1"}
SUBMIT, REGENERATE = "submit-message", "regenerate-message"
FINISH_REASONS = {"stop": "stop", "length": "length", "content_filter": "content-filter", "tool_calls": "tool-calls"}
UI_ID_CHARS = 200


class UiMessages:
    """The chunks of one body. Made anew for each, and always from the beginning: the SDK knows no position."""

    def __init__(self, message: UUID) -> None:
        self.message = str(message)
        self._part: tuple[str, str] | None = None
        self._said = False

    def begin(self) -> Iterator[dict[str, Any]]:
        # The id under which the message is stored: with it a client that resumes replaces what it has.
        yield {"type": "start", "messageId": self.message}
        yield {"type": "start-step"}

    def chunks(self, stream: str, rows: tuple[Row, ...]) -> Iterator[dict[str, Any]]:
        for frame in native_frames(stream, rows):
            if frame["type"] == "delta":
                yield from self._say(frame["kind"], frame["seq"], frame["text"])
            elif frame["type"] == "retry":
                data = {name: frame[name] for name in ("attempt", "of", "wait_s", "reason")}
                yield {"type": "data-retry", "data": data, "transient": True}
            elif frame["type"] == RESTART:
                yield from self._restart()
            else:
                yield from self._end(frame)

    def _say(self, kind: str, seq: int, text: str) -> Iterator[dict[str, Any]]:
        if self._part is None or self._part[0] != kind:
            yield from self._close()
            self._part = (kind, f"{kind}-{seq}")
            yield {"type": f"{kind}-start", "id": self._part[1]}
        self._said = True
        yield {"type": f"{kind}-delta", "id": self._part[1], "delta": text}

    def _close(self) -> Iterator[dict[str, Any]]:
        if self._part is not None:
            yield {"type": f"{self._part[0]}-end", "id": self._part[1]}
            self._part = None

    def _restart(self) -> Iterator[dict[str, Any]]:
        """What was said is void. Version 7 discards it; older ones do not know the chunk, fail, and have to resume."""
        yield from self._close()
        if self._said:
            yield {"type": "reset-step"}
            self._said = False

    def _end(self, frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._close()
        yield {"type": "finish-step"}
        how = {name: frame[name] for name in ("status", "finish_reason", "usage", "error")}
        yield {"type": "message-metadata", "messageMetadata": how}
        if frame["status"] == Status.DONE:
            yield {"type": "finish", "finishReason": FINISH_REASONS.get(frame["finish_reason"], "other")}
        elif frame["status"] == Status.STOPPED:
            yield {"type": "abort"}
        else:
            yield from self.fail((frame["error"] or {}).get("detail") or f"The answer ended as {frame['status']}.")

    def fail(self, detail: str) -> Iterator[dict[str, Any]]:
        yield {"type": "error", "errorText": detail}


async def ui_message_stream(access: Access, message: UUID, stream: Stream, after: int) -> AsyncIterator[bytes]:
    """A reply from its beginning, which is behind `after`, to its end."""
    ui = UiMessages(message)
    yield events(ui.begin())
    async for item in follow(access, stream.pk, stream.topic, after):
        if isinstance(item, Piece):
            yield events(ui.chunks(item.stream, item.rows))
        elif isinstance(item, Beat):
            yield COMMENT
        elif isinstance(item, BrokenOff):
            yield events(ui.fail(item.detail))
    yield b"data: [DONE]\n\n"


def events(chunks: Iterator[dict[str, Any]]) -> bytes:
    return b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks)


class UiPart(serializers.Serializer[Any]):
    type = serializers.ChoiceField(["text"])
    text = Text(allow_blank=True)


class UiPrompt(serializers.Serializer[Any]):
    id = Text(max_length=UI_ID_CHARS)
    role = serializers.ChoiceField([Role.USER])
    parts = UiPart(many=True, allow_empty=False)


class ChatInput(Input):
    id = Text(max_length=UI_ID_CHARS)
    messages = serializers.ListField(child=serializers.DictField(), allow_empty=False)
    trigger = serializers.ChoiceField([SUBMIT, REGENERATE], default=SUBMIT)
    messageId = Text(max_length=UI_ID_CHARS, required=False, allow_null=True)


def uuid_of(client_id: str, scope: object) -> UUID:
    """A client's id as one of ours: a UUID is itself, another name stands for one in its `scope` only."""
    try:
        return UUID(client_id)
    except ValueError:
        return uuid5(NAMESPACE_URL, f"chatsite:{scope}:{client_id}")


# What the three views share: refusals as plain text, which the SDK makes its error's message, and finding the chat.
class ChatView(View):
    schema = None

    def handle_exception(self, exc: Exception) -> HttpResponse:  # type: ignore[override]
        refused: Response = super().handle_exception(exc)
        headers = {name: value for name, value in refused.items() if name != "Content-Type"}
        text = str(refused.data["detail"])
        return HttpResponse(text, "text/plain; charset=utf-8", status=refused.status_code, headers=headers)

    def pk_of(self, chat: str) -> UUID:
        return uuid_of(chat, f"user-{self.person().pk}")

    def chat(self, chat: str) -> Conversation | None:
        """A person's own conversation, or None for an id that nobody has used yet."""
        pk = self.pk_of(chat)
        found = Conversation.objects.visible_to(self.request.user).filter(pk=pk).first()
        if found is None and Conversation.objects.filter(pk=pk).exists():
            raise Http404
        return found

    def streamed(self, reply: Message) -> HttpResponseBase:
        assert reply.stream is not None
        # From where its last attempt began to speak: what came before is void and need not be said to be taken back.
        restarts = Chunk.objects.filter(stream=reply.stream, kind=RESTART).aggregate(last=Max("seq"))
        body = ui_message_stream(
            Access.of_request(self.request._request), reply.pk, reply.stream, restarts["last"] or 0
        )
        let_go()
        return StreamingHttpResponse(body, content_type="text/event-stream", headers=HEADERS)


class Chat(ChatView):
    def post(self, request: Request) -> HttpResponseBase:
        asked = valid(ChatInput, request.data)
        prompt = valid(UiPrompt, asked["messages"][-1])
        text = valid(EditInput, {"text": "".join(part["text"] for part in prompt["parts"])})["text"]
        if self.chat(asked["id"]) is None:
            Conversation.objects.get_or_create(pk=self.pk_of(asked["id"]), defaults={"owner": self.person()})
        found = self.chat(asked["id"])
        if found is None:
            raise Http404
        return self.streamed(self.reply(found, asked, prompt["id"], text))

    def reply(self, chat: Conversation, asked: dict[str, Any], prompt: str, text: str) -> Message:
        """The prompt's id is the idempotency key: a request that is repeated gets the first reply again."""
        named = asked.get("messageId")
        key = uuid_of(prompt, chat.pk)
        if asked["trigger"] == REGENERATE:
            return chat.regenerate(self.message(chat, named or prompt))
        if named:
            # Another text under an id that was used: an edit. The text makes it a key of its own.
            key = uuid_of(f"{prompt}:{text}", chat.pk)
            return chat.edit(self.message(chat, named), text, key)
        return chat.ask(text, key)

    def message(self, chat: Conversation, client_id: str) -> UUID:
        """The message that a client calls so: by the id it is stored under, or by the one the client asked with."""
        pk = uuid_of(client_id, chat.pk)
        found = chat.messages.filter(Q(pk=pk) | Q(key=pk)).values_list("pk", flat=True).first()
        if found is None:
            raise Http404
        return found


class ChatStream(ChatView):
    def get(self, request: Request, chat: str) -> HttpResponseBase:
        """The answer being written, from its beginning; with ?replay=1 also one that has ended."""
        found = self.chat(chat)
        replies = Message.objects.filter(conversation=found, stream__isnull=False).select_related("stream")
        if request.query_params.get("replay") != "1":
            replies = replies.filter(stream__status__in=LIVE)
        newest = replies.defer("stream__request").order_by("-created_at", "-id").first()
        return self.streamed(newest) if newest else HttpResponse(status=HTTPStatus.NO_CONTENT)


class ChatStop(ChatView):
    def post(self, request: Request, chat: str) -> HttpResponseBase:
        found = self.chat(chat)
        if found is not None:
            engine.stop(Stream.objects.filter(topic=found.topic))
        return HttpResponse(status=HTTPStatus.NO_CONTENT)


urlpatterns: list[URLPattern] = [
    path("chat", Chat.as_view()),
    path("chat/<str:chat>/stream", ChatStream.as_view()),
    path("chat/<str:chat>/stop", ChatStop.as_view()),
]
