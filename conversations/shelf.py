"""The conversations beside every page: their list, which pages ask for again and again, and the search in them.

A visible page asks every few seconds, and at once when it hears of a turn (`hx-trigger` in _chats.html). It names the
list it shows, and as long as that is the list there is, the answer is 204 and empty: nothing has to be kept open or
kept track of, and a page that slept or lost its connection is right again with its next question.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from django.views.decorators.vary import vary_on_headers

from conversations.access import person
from conversations.models import Conversation, User
from conversations.search import hits
from streaming.models import Stream

LISTED = 200
FOUND = 30
ANSWERING_CHECK_S = 2.0


@dataclass(frozen=True, slots=True)
class Shelf:
    """A person's conversations, newest first; `answering` are those being answered, `undoable` was deleted just now."""

    listed: list[Conversation]
    answering: set[UUID]
    undoable: Conversation | None
    more: bool

    @classmethod
    def of(cls, user: User) -> Shelf:
        found = list(user.conversations.defer("system_prompt")[: LISTED + 1])
        listed = [each for each in found if each.deleted_at is None]
        undoable = [each for each in found if each.undo_s > 0]
        topics = {each.topic: each.pk for each in listed}
        live = Stream.objects.live().filter(topic__in=topics).values_list("topic", flat=True)
        newest = max(undoable, key=lambda each: each.undo_s, default=None)
        return cls(listed[:LISTED], {topics[topic] for topic in live}, newest, len(found) > LISTED)

    @property
    def check_s(self) -> float:
        """When a page asks again."""
        return min(ANSWERING_CHECK_S, settings.SHELF_CHECK_S) if self.answering else settings.SHELF_CHECK_S

    @property
    def version(self) -> str:
        """Differs whenever the list would look different."""
        seen = [(each.pk, each.title, each.pk in self.answering) for each in self.listed]
        return blake2b(repr(seen).encode(), digest_size=9).hexdigest()


def page(request: HttpRequest, template: str, *, status: int = 200, **context: Any) -> HttpResponse:
    """A page with the conversations beside it."""
    context |= {"limit": settings.PROMPT_MAX_CHARS, "shelf": Shelf.of(person(request))}
    return render(request, template, context, status=status)


@require_GET
@never_cache
def chats(request: HttpRequest) -> HttpResponse:
    """The list for a page that shows the version `have`, beside the conversation `current`."""
    if not request.user.is_authenticated:
        return HttpResponse(status=401)  # Not the way to log in: it would be put in the list's place.
    shelf = Shelf.of(person(request))
    if shelf.version == request.GET.get("have"):
        return HttpResponse(status=204)
    current = request.GET.get("current", "")
    titled = next((str(each) for each in shelf.listed if str(each.pk) == current), None)
    return render(request, "conversations/_chats.html", {"shelf": shelf, "current": current, "titled": titled})


@login_required
@require_GET
@vary_on_headers("HX-Request")
def search(request: HttpRequest) -> HttpResponse:
    """What is found for `q`: in the list's place while one types, a page of its own without JavaScript."""
    sought = request.GET.get("q", "").strip()
    found = hits(Conversation.objects.visible_to(request.user).defer("system_prompt"), sought, FOUND)
    context: dict[str, Any] = {"q": sought, "hits": found, "full": len(found) == FOUND}
    if "HX-Request" in request.headers:
        return render(request, "conversations/_found.html", context)
    return page(request, "conversations/search.html", **context)
