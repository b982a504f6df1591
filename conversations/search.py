"""Search in what was said and in titles: PostgreSQL's full text with an index, a scan of one's own texts on SQLite.

A word finds the words it begins on PostgreSQL, and any place it stands in on SQLite. All words must be in one message
(or in the title). An answer can be found once it has ended. Taking its words apart takes PostgreSQL three times as long
as all else at its end, and what other answers say would wait for it; so a chore puts them into the index, and until
then they are looked for in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from uuid import UUID

from django.contrib.postgres.search import SearchQuery, SearchVectorExact, SearchVectorField
from django.db import connection, transaction
from django.db.models import F, Func, Q, QuerySet
from django.db.models.functions import Now
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from conversations.models import Conversation, ConversationQuerySet, Message
from streaming.models import Stream
from streaming.upkeep import Chore

WORDS = 8
BEFORE_CHARS = 50
SNIPPET_CHARS = 160


class Words(Func):
    """The expression of the indexes (migrations `search_index` and `index_answers_later`), which must be the same.

    Text beyond its limit is not found: PostgreSQL stores no more than 1 MB of words, and would refuse the whole row.
    """

    template = "to_tsvector('simple', left(%(expressions)s, 100000))"
    output_field = SearchVectorField()


def words_of(text: str) -> list[str]:
    return text.replace("\0", "").split()[:WORDS]


def _has_index() -> bool:
    return connection.vendor == "postgresql"


def unindexed() -> QuerySet[Stream]:
    """Answers that have ended and are not in the index."""
    if not _has_index():
        return Stream.objects.none()
    return Stream.objects.filter(indexed_at=None, finished_at__isnull=False).order_by("finished_at")


def index(streams: list[UUID], batch_rows: int) -> None:
    """Their update is what puts them in. What somebody has locked is left out: who deletes several locks them in an
    order of their own, and the two could wait for each other."""
    with transaction.atomic():
        there = Stream.objects.filter(pk__in=streams, indexed_at=None).order_by()
        free = there.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True)
        Stream.objects.filter(pk__in=list(free)).update(indexed_at=Now())


# A sixth of a core at most: the work is as much as there is said.
CHORES = [Chore("answers put into the index of words", unindexed, index, at_once=10, weight=20)]


def says(field: str, words: list[str]) -> Q:
    """Whether a text has all these words."""
    if _has_index():
        parts = [part for word in words for part in re.findall(r"\w+", word)]
        query = SearchQuery(" & ".join(f"{part}:*" for part in parts), config="simple", search_type="raw")
        return Q(SearchVectorExact(Words(F(field)), query)) if parts else Q(pk=None)
    # SQLite's LIKE knows upper and lower case in ASCII only.
    tests = (Q((f"{field}__icontains", w)) if w.isascii() else Q((f"{field}__iregex", re.escape(w))) for w in words)
    return reduce(and_, tests)


def saying(mine: QuerySet[Conversation], words: list[str]) -> Iterator[QuerySet[Message]]:
    """The prompts and the finished replies in these conversations that have the words."""
    said = Message.objects.filter(conversation__in=mine)
    # Apart: a condition on two tables joined by OR would use the index of neither.
    yield said.filter(says("text", words))
    # In this order: who looks at one after the other must not miss what came into the index in between.
    for indexed in [Q(stream__indexed_at=None), Q(stream__indexed_at__isnull=False)] if _has_index() else [Q()]:
        yield said.filter(indexed, says("stream__text", words))


def matching(mine: ConversationQuerySet, text: str) -> ConversationQuerySet:
    """Those of these conversations in which something is found."""
    words = words_of(text)
    if not words:
        return mine.none()
    said = (Q(pk__in=found.values("conversation")) for found in saying(mine, words))
    return mine.filter(reduce(or_, said, says("title", words)))


@dataclass(frozen=True, slots=True)
class Hit:
    """A conversation in which something was found, and the newest message that says it if it is not the title alone."""

    conversation: Conversation
    message: UUID | None
    snippet: SafeString


def hits(mine: ConversationQuerySet, text: str, limit: int) -> list[Hit]:
    """The newest matching conversations."""
    found = list(matching(mine, text)[:limit])
    words = words_of(text)
    newest: dict[UUID, UUID] = {}
    if found:
        rows = (each.values_list("created_at", "conversation", "pk") for each in saying(chosen(found), words))
        newest = {conversation: message for _, conversation, message in sorted(row for part in rows for row in part)}
    said = Message.objects.select_related("stream").defer("stream__request").in_bulk(newest.values())
    texts = {pk: message.stream.text if message.stream else message.text for pk, message in said.items()}
    return [
        Hit(each, message, snippet(texts.get(message, ""), words) if message else SafeString())
        for each in found
        for message in [newest.get(each.pk)]
    ]


def chosen(found: list[Conversation]) -> QuerySet[Conversation]:
    return Conversation.objects.filter(pk__in=[each.pk for each in found])


def snippet(text: str, words: list[str]) -> SafeString:
    """A line of `text` around the first of the words in it, escaped, the words marked."""
    any_word = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    first = any_word.search(text)
    start = max(0, first.start() - BEFORE_CHARS) if first else 0
    start = text.find(" ", start, first.start()) + 1 or start if first and start else start
    line = text[start : start + SNIPPET_CHARS]
    marked, at = "…" if start else "", 0
    for found in any_word.finditer(line):
        marked += f"{escape(line[at : found.start()])}<mark>{escape(found[0])}</mark>"
        at = found.end()
    more = "…" if start + SNIPPET_CHARS < len(text) else ""
    return mark_safe(f"{marked}{escape(line[at:])}{more}")  # nosec B308  # Every part of it is escaped.
