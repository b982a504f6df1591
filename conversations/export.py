"""A conversation as a file: what is on the page as Markdown, or everything that was said, all branches, as JSON.

And all that is stored of a person, as one archive of such files.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from tempfile import TemporaryFile
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile

import orjson
from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils.http import content_disposition_header
from django.utils.text import slugify

from conversations.budgets import Budget
from conversations.models import Conversation, Message, Role, User
from conversations.tree import Tree
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
    return _encode(_described(conversation, list(_messages().filter(conversation=conversation))))


def archive(user: User) -> IO[bytes]:
    """Everything of a person that is stored here: the account, and each conversation as JSON."""
    file = TemporaryFile()  # noqa: SIM115  # Whoever sends it closes it.
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        archive.writestr("account.json", _encode(_account(user)))
        # Also what was deleted a moment ago: it is stored until its undo has run out.
        mine = {conversation.pk: conversation for conversation in user.conversations.all()}
        said = _messages().filter(conversation__owner=user).order_by("conversation", "created_at", "id")
        for pk, messages in groupby(said.iterator(1000), key=lambda message: message.conversation_id):
            # One that began in this moment has messages already, and will be in the next archive.
            if conversation := mine.pop(pk, None):
                archive.writestr(_name(conversation), _encode(_described(conversation, list(messages))))
        for conversation in mine.values():
            archive.writestr(_name(conversation), _encode(_described(conversation, [])))
    file.seek(0)
    return file


def _name(conversation: Conversation) -> str:
    return f"conversations/{conversation.created_at:%Y-%m-%d}-{conversation.pk}.json"


def _account(user: User) -> dict[str, Any]:
    tokens = user.tokens.order_by("created_at").values("name", "created_at", "last_used_at")
    columns = ("username", "first_name", "last_name", "email", "is_visitor", "date_joined", "last_login")
    account = {column: getattr(user, column) for column in columns}
    limits = Budget.objects.filter(user=user).values("prompts_per_min", "streams", "day_chars").first()
    return {**account, "tokens": list(tokens), "limits": limits}


def _messages() -> QuerySet[Message]:
    return Message.objects.select_related("stream").defer("stream__request")


def _described(conversation: Conversation, messages: Sequence[Message]) -> dict[str, Any]:
    tree = Tree((message.pk, message.parent_id) for message in messages)
    for message in messages:
        message.branches = tree.branches(message.pk)
    return {
        "id": str(conversation.pk),
        "title": conversation.title,
        "model": conversation.model,
        "system_prompt": conversation.system_prompt,
        "created_at": conversation.created_at.isoformat(),
        "updated_at": conversation.updated_at.isoformat(),
        "deleted_at": conversation.deleted_at,
        "shared": conversation.share is not None,
        # What a program had said before the prompt stands nowhere else.
        "messages": [
            message.describe() | ({"context": message.context} if message.context else {}) for message in messages
        ],
    }


def _encode(data: dict[str, Any]) -> bytes:
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
