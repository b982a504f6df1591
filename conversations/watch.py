"""Whether open connections may still see what they see, looked at for all connections of a process at once.

A full look costs a connection three queries; for a thousand idle ones every few seconds that is most of a core. So what
these queries read is fetched for all in three: as long as it is unchanged for a connection, so is the answer.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings
from django.utils import timezone

from conversations.access import Access
from conversations.models import Conversation, Token
from streaming.background import start_apart
from streaming.hub import get_hub

BATCH = 1000
Key = tuple[Access, uuid.UUID]


def evidence(keys: Sequence[Key]) -> dict[Key, Any]:
    """For each credentials and conversation: what the permission rests on. All that `Access.conversation`,
    `Conversation.shared` and they alone read must be in it."""
    digests = {access: Token.digest_of(access.bearer) for access, _ in keys if access.bearer is not None}
    tokens = _by_first(Token.objects.values_list("digest", "user"), "digest", digests.values())
    store = import_module(settings.SESSION_ENGINE).SessionStore.get_model_class()
    valid = store.objects.filter(expire_date__gt=timezone.now()).values_list("session_key", "session_data")
    sessions = _by_first(valid, "session_key", {access.session for access, _ in keys if access.bearer is None})
    columns = ("pk", "owner", "deleted_at", "share", "owner__is_active", "owner__password")
    conversations = _by_first(Conversation.objects.values_list(*columns), "pk", {pk for _, pk in keys})
    return {
        (access, pk): (
            conversations.get(pk),
            sessions.get(access.session) if access.bearer is None else tokens.get(digests[access]),
        )
        for access, pk in keys
    }


def _by_first(found: Any, field: str, values: Iterable[Any]) -> dict[Any, Any]:
    """The rows whose first column, `field`, is one of `values`, by that column."""
    rows: dict[Any, Any] = {}
    remaining = iter(set(values))
    while some := list(islice(remaining, BATCH)):
        rows |= {row[0]: row for row in found.filter(**{f"{field}__in": some}).order_by()}
    return rows


class Watch:
    """The connections of one event loop. Looks every ACCESS_CHECK_S as long as there is any."""

    def __init__(self) -> None:
        self._tells: dict[Key, set[Callable[[], None]]] = {}
        self._known: dict[Key, Any] = {}
        self._looking: asyncio.Task[None] | None = None

    def begin(self, key: Key, tell: Callable[[], None], known: Any = None) -> None:
        """Call `tell` whenever the permission has to be asked for again: after changes to what is `known`, the evidence
        from before it was asked for; without it once soon, then after changes."""
        if known is not None and key not in self._tells:
            self._known[key] = known
        self._tells.setdefault(key, set()).add(tell)
        if self._known.get(key) != known:  # Another connection's: a look may have seen a change in between.
            tell()
        if self._looking is None:
            self._looking = start_apart("access", self.look, _pause)

    def end(self, key: Key, tell: Callable[[], None]) -> None:
        """Call `tell` no more."""
        self._tells[key].discard(tell)
        if not self._tells[key]:
            del self._tells[key]
            self._known.pop(key, None)
        if not self._tells and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    @contextmanager
    def over(self, access: Access, conversation: uuid.UUID, known: Any = None) -> Iterator[asyncio.Event]:
        """The same as an event that is set."""
        changed = asyncio.Event()
        self.begin((access, conversation), changed.set, known)
        try:
            yield changed
        finally:
            self.end((access, conversation), changed.set)

    async def look(self) -> None:
        """Compare with the last look. What was not there then counts as changed: it was asked for before that look."""
        keys = list(self._tells)
        found = await get_hub().database().read(evidence, keys)
        for key in keys:
            if key in self._tells and (key not in self._known or self._known[key] != found[key]):
                self._known[key] = found[key]
                for tell in list(self._tells[key]):
                    tell()


async def _pause() -> None:
    await asyncio.sleep(settings.ACCESS_CHECK_S)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, Watch] = WeakKeyDictionary()


def get_watch() -> Watch:
    """The running loop's watch."""
    return _watches.setdefault(asyncio.get_running_loop(), Watch())
