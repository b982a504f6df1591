"""The branches of a conversation: what stands in one place and which way leads to a message. Pure: no database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID


class Tree:
    """Messages and their parents, oldest first. `leaf` is where the chosen branch ends: if none is, at the newest."""

    def __init__(self, links: Iterable[tuple[UUID, UUID | None]], leaf: UUID | None = None) -> None:
        self._parents = dict(links)
        self._children: dict[UUID | None, list[UUID]] = defaultdict(list)
        for message, parent in self._parents.items():
            self._children[parent].append(message)
        self.leaf = leaf if leaf in self._parents else next(reversed(self._parents), None)

    def path(self, last: UUID | None) -> list[UUID]:
        """The messages from the first to `last`."""
        steps: list[UUID] = []
        while last is not None:
            steps.append(last)
            last = self._parents[last]
        return steps[::-1]

    def branches(self, message: UUID) -> list[UUID]:
        """The messages in this one's place, itself among them, oldest first."""
        return self._children[self._parents[message]]

    def leaf_under(self, message: UUID) -> UUID:
        """Where one gets to who takes the newest branch everywhere behind `message`."""
        while behind := self._children.get(message):
            message = behind[-1]
        return message
