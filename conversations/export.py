"""A conversation as a file: what is on the page as Markdown, or everything that was said, all branches, as JSON."""

from __future__ import annotations

from typing import Any

import orjson
from django.http import HttpResponse
from django.utils.http import content_disposition_header
from django.utils.text import slugify

from conversations.models import Conversation, Message, Role
from streaming.models import Status

KINDS = {"md": "text/markdown; charset=utf-8", "json": "application/json"}


def download(conversation: Conversation, kind: str) -> HttpResponse:
    """The conversation as a response that a browser saves."""
    body = as_markdown(conversation) if kind == "md" else as_json(conversation)
    name = f"{slugify(conversation.title, allow_unicode=True)[:80] or 'conversation'}.{kind}"
    return HttpResponse(
        body,
        content_type=KINDS[kind],
        headers={"Content-Disposition": content_disposition_header(True, name), "Cache-Control": "private, no-store"},
    )


def as_json(conversation: Conversation) -> bytes:
    """The messages are as the API gives them; the `parent` of each says where it belongs."""
    said = conversation.messages.select_related("stream").defer("stream__request")
    data: dict[str, Any] = {
        "id": str(conversation.pk),
        "title": conversation.title,
        "model": conversation.model,
        "system_prompt": conversation.system_prompt,
        "created_at": conversation.created_at.isoformat(),
        "updated_at": conversation.updated_at.isoformat(),
        "messages": [message.describe() for message in said],
    }
    return orjson.dumps(data, option=orjson.OPT_INDENT_2)


def as_markdown(conversation: Conversation) -> str:
    """The branch that is on the page. What a model says is Markdown, and what a person says stays as it was typed."""
    turns = [part for message in conversation.turns() for part in _parts(message)]
    return "\n\n".join([f"# {conversation}", *turns]) + "\n"


def _parts(message: Message) -> list[str]:
    if message.role == Role.USER:
        return ["## You", message.text]
    assert message.stream is not None
    unfinished = [] if message.stream.status == Status.DONE else [f"*({message.stream.get_status_display().lower()})*"]
    return ["## Answer", message.content, *unfinished]
