"""A conversation read by whoever holds its link: made and revoked by the owner, read-only and live for everybody else.

The secret in the link has 192 random bits and is kept as it is, so that the owner can look it up again: who can read
the database needs no link to read what it leads to. An open connection is asked for it again and again.
"""

from __future__ import annotations

import secrets
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from conversations.access import owned
from conversations.models import Conversation
from streaming.models import LIVE


def share_url(request: HttpRequest, conversation: Conversation) -> str | None:
    """The whole address of a conversation's shared page, if it is shared."""
    if conversation.share is None:
        return None
    return request.build_absolute_uri(reverse("shared", args=[conversation.share]))


def begin(conversation: Conversation) -> None:
    """Share it, from now on or as before: whoever has the link already may go on reading."""
    Conversation.objects.filter(pk=conversation.pk, share=None).update(share=secrets.token_urlsafe(24))
    conversation.refresh_from_db()


def end(conversation: Conversation) -> None:
    """Its link leads nowhere from now on, and never will again."""
    Conversation.objects.filter(pk=conversation.pk).update(share=None)
    conversation.refresh_from_db()


def answer(request: HttpRequest, conversation: Conversation) -> HttpResponse:
    """The new state of the owner's dialogue, or the page it is on without JavaScript."""
    if "HX-Request" not in request.headers:
        return redirect("conversation", conversation.pk)
    context = {"conversation": conversation, "share_url": share_url(request, conversation)}
    return render(request, "conversations/_share.html", context)


@login_required
@require_POST
def share(request: HttpRequest, pk: UUID) -> HttpResponse:
    found = owned(request, pk)
    begin(found)
    return answer(request, found)


@login_required
@require_POST
def revoke(request: HttpRequest, pk: UUID) -> HttpResponse:
    found = owned(request, pk)
    end(found)
    return answer(request, found)


@require_GET
@never_cache
def shared(request: HttpRequest, secret: str) -> HttpResponse:
    """What was said so far, to be followed live. Search engines and the sites it links to never learn the address."""
    found = get_object_or_404(Conversation.objects.shared(secret))
    turns = [(message, message.describe()) for message in found.turns()]
    live = any(said["status"] in LIVE for _, said in turns)
    response = render(request, "conversations/shared.html", {"conversation": found, "turns": turns, "live": live})
    response["X-Robots-Tag"] = "noindex, nofollow"
    response["Referrer-Policy"] = "no-referrer"
    return response
