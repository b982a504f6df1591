"""What is removed by itself: conversations whose undo has run out, old ones, visitors who do not come back, sessions.

The settings say when; streaming/upkeep.py sees to it.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from conversations.models import Conversation, Token, User, topic_of
from streaming import engine
from streaming.models import Chunk, Stream
from streaming.upkeep import Chore


def old() -> QuerySet[Conversation]:
    """Conversations in which nothing was asked for CONVERSATION_DAYS."""
    if settings.CONVERSATION_DAYS <= 0:
        return Conversation.objects.none()
    before = Now() - timedelta(days=settings.CONVERSATION_DAYS)
    return Conversation.objects.filter(updated_at__lt=before, deleted_at=None)


def abandoned() -> QuerySet[User]:
    """Visitors who gave no sign of life for VISITOR_DAYS, and of whom nothing is wanted any more."""
    if settings.VISITOR_DAYS <= 0:
        return User.objects.none()
    before = Now() - timedelta(days=settings.VISITOR_DAYS)
    alive = Conversation.objects.filter(owner=OuterRef("pk"), updated_at__gte=before)
    calling = Token.objects.filter(Q(last_used_at__gte=before) | Q(created_at__gte=before), user=OuterRef("pk"))
    visitors = User.objects.filter(is_visitor=True, date_joined__lt=before).exclude(last_login__gte=before)
    return visitors.filter(~Exists(alive), ~Exists(calling)).order_by("pk")


def expired() -> QuerySet[Any]:
    """Log-ins that have run out."""
    return Session.objects.filter(expire_date__lt=Now())


def left() -> QuerySet[Conversation]:
    """Conversations of visitors who abandoned them."""
    return Conversation.objects.filter(deleted_at=None, owner__in=abandoned())


def gone() -> QuerySet[User]:
    """Such visitors, of whom nothing is left."""
    return abandoned().filter(conversations=None)


def discard(pk: uuid.UUID, batch_rows: int) -> None:
    """From here on it is like one that somebody deleted; not if somebody asked in it in the meantime."""
    with transaction.atomic():
        if old().filter(pk=pk).update(deleted_at=Now()):
            engine.stop(Stream.objects.filter(topic=topic_of(pk)))


def leave(pk: uuid.UUID, batch_rows: int) -> None:
    """The same of a conversation of a visitor who stayed away; nobody is there who could undo it."""
    with transaction.atomic():
        # Whoever asks locks it as well. Then a statement of its own: one that had to wait does not look again.
        list(Conversation.objects.filter(pk=pk).select_for_update().values_list("pk"))
        if left().filter(pk=pk).update(deleted_at=Now() - timedelta(seconds=settings.UNDO_S + 1)):
            engine.stop(Stream.objects.filter(topic=topic_of(pk)))


def remove(pk: uuid.UUID, batch_rows: int) -> None:
    """A conversation that nobody can see any more, with all that was said in it."""
    empty([pk], batch_rows)
    Conversation.objects.filter(pk=pk).remove()


def remove_visitor(pk: int, batch_rows: int) -> None:
    """A visitor's account, unless they came back in the meantime."""
    with transaction.atomic():
        # Whoever begins a conversation locks it as well.
        list(User.objects.filter(pk=pk).select_for_update().values_list("pk"))
        gone().filter(pk=pk).delete()


def empty(conversations: list[uuid.UUID], batch_rows: int) -> None:
    """Delete the logs of answers, which are most of what there is, a part at a time."""
    rows = Chunk.objects.filter(stream__topic__in=[topic_of(pk) for pk in conversations]).order_by()
    while some := list(rows.values_list("pk", flat=True)[:batch_rows]):
        Chunk.objects.filter(pk__in=some).delete()


def forget(pk: str, batch_rows: int) -> None:
    expired().filter(pk=pk).delete()


CHORES = [
    Chore("old conversations deleted", old, discard),
    Chore("abandoned conversations deleted", left, leave),
    Chore("deleted conversations removed", lambda: Conversation.objects.overdue(), remove),
    Chore("abandoned visitors removed", gone, remove_visitor),
    Chore("expired sessions removed", expired, forget),
]
