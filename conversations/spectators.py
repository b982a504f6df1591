"""The websocket of a shared conversation: everything that is said comes out, and nothing that is asked goes in."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from conversations.commands import Asking, Attach
from conversations.consumers import NOT_FOUND, ConversationConsumer
from conversations.models import Conversation

NOBODYS = UUID(int=0)


class SharedConsumer(ConversationConsumer):
    """One reader with a link, whoever it is; the connection ends with the link (ACCESS_CHECK_S)."""

    mine = False

    async def connect(self) -> None:
        route = self.scope["url_route"]["kwargs"]
        self.secret: str = route["secret"]
        route["pk"] = NOBODYS  # Until it is found.
        await super().connect()

    def _find_with_evidence(self) -> Any:
        if isinstance(found := self._find(), Conversation):
            self.pk = found.pk
        return super()._find_with_evidence()

    def _find(self) -> Conversation | int:
        return Conversation.objects.shared(self.secret).first() or NOT_FOUND

    async def _obey(self, command: Any) -> None:
        if isinstance(command, Attach):
            await self._attach(command)
            return
        about = {"key": str(command.key)} if isinstance(command, Asking) else {}
        await self._refuse("read_only", "This conversation is shared for reading only.", **about)
