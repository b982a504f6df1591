"""The websocket of a conversation: commands in, frames of its streams out (docs/protocol.md)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from operator import attrgetter
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from autobahn.exception import Disconnected
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import Error as DatabaseError

from conversations.access import Access
from conversations.commands import Ack, Ask, Asking, Attach, BadFrame, Edit, Stop, parse
from conversations.direct import direct
from conversations.models import Conversation, Message, Refused
from conversations.templatetags.turns import begun, note
from conversations.watch import Key, evidence, get_watch
from streaming.frames import Piece, encode
from streaming.hub import get_hub
from streaming.reader import Gone, Item, Opened, Reader
from streaming.tail import Push

logger = logging.getLogger(__name__)
FORBIDDEN = 4403
NOT_FOUND = 4404
AT_ONCE_S = 1.0
WHOLE = attrgetter("whole")
BROKEN = 4500  # An application may not send 1011: daphne would raise and leave the client hanging.


class ConversationConsumer(AsyncWebsocketConsumer):
    """One client on one conversation."""

    # No such layer, on purpose: the process's hub subscribes once for all its connections.
    channel_layer_alias = ""
    mine = True

    conversation: Conversation
    reader: Reader | None = None
    watched: Key | None = None
    forwarding: asyncio.Task[None] | None = None
    reviewing: asyncio.Task[None] | None = None
    doubted = open = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One message after the other. Channels would listen to a layer beside, and for each message have a thread look
        after its connection to the database: here is no layer, and each thread that queries sees to its own."""
        self.scope, self.base_send = scope, send
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                if message["type"] == "websocket.connect":
                    await self.connect()
                else:
                    await self.receive(message.get("text"))
        finally:
            # However it came here: a handler may have failed, or the server given the client up.
            self.open = False
            if self.watched is not None:
                get_watch().end(self.watched, self._doubt)
            if self.reader is not None:
                self.reader.leave()
            await asyncio.gather(*self._end_tasks(), return_exceptions=True)

    async def connect(self) -> None:
        self.turns: set[str] = set()
        self.turning = asyncio.Lock()
        self.access = Access.of(self.scope)
        client = direct(self.scope)
        self.push = Push(WHOLE, client.write, client.together) if client else None
        self.rendered = parse_qs(self.scope["query_string"]).get(b"render") == [b"html"]
        self.pk: UUID = self.scope["url_route"]["kwargs"]["pk"]
        await self.accept()
        known, found = await get_hub().database().read(self._find_with_evidence)
        if await self._let_in(found):
            self.open = True
            self.watched = (self.access, self.pk)
            get_watch().begin(self.watched, self._doubt, known)

    async def _permitted(self) -> bool:
        """Whether the client may still see the conversation; if not, it is told why and the connection closed."""
        return await self._let_in(await get_hub().database().read(self._find))

    async def _let_in(self, found: Conversation | int) -> bool:
        """The same for what was found already."""
        if isinstance(found, Conversation):
            self.conversation = found
            self.pk = found.pk
            self.permitted_at = time.monotonic()
            return True
        self.open = False
        self._end_tasks()
        if self.reader is not None:
            self.reader.leave()
        await self.close(found)
        return False

    def _find(self) -> Conversation | int:
        """The conversation, or the code to close with."""
        found = self.access.conversation(self.pk)
        return found if isinstance(found, Conversation) else FORBIDDEN if found is None else NOT_FOUND

    def _find_with_evidence(self) -> tuple[Any, Conversation | int]:
        """The same behind what it rests on, which is read first: a change in between is one to the watch."""
        return evidence([(self.access, self.pk)])[self.access, self.pk], self._find()

    def _doubt(self) -> None:
        """Something has changed that the permission rests on."""
        self.doubted = True
        if self.reviewing is None or self.reviewing.done():
            self.reviewing = asyncio.create_task(self._review(), name=f"review {self.pk}")

    async def _review(self) -> None:
        """Ask for the permission again, once more if something changes meanwhile."""
        while self.open and self.doubted:
            self.doubted = False
            try:
                await self._permitted()
            except Exception:
                # A database that is away answers nothing about permission; the next look will.
                await asyncio.sleep(settings.ACCESS_CHECK_S)
                self.doubted = True

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if not self.open:
            return
        try:
            command = parse(text_data)
        except BadFrame as error:
            await self._refuse("bad_frame", str(error))
            return
        if isinstance(command, Ack):
            if self.reader is not None:
                self.reader.ack(str(command.stream), command.seq)
            return
        try:
            if self._attaches_at_once(command) or await self._permitted():
                await self._obey(command)
        except Conversation.DoesNotExist:
            await self._permitted()
        except DatabaseError:
            logger.exception("%s could not be obeyed on %s", command.type, self.pk)
            about = {"key": str(command.key)} if isinstance(command, Asking) else {}
            await self._refuse("unavailable", "The server cannot do this at the moment. Try again.", **about)

    def _attaches_at_once(self, command: Attach | Asking | Stop) -> bool:
        """Whether this is the usual first frame, right behind the connection's own check: a crowd that comes back
        after a restart would pay for both."""
        return isinstance(command, Attach) and time.monotonic() - self.permitted_at < AT_ONCE_S

    async def _obey(self, command: Attach | Asking | Stop) -> None:
        if isinstance(command, Attach):
            await self._attach(command)
        elif self.reader is None:
            await self._refuse("attach_first", "The first frame on a connection is attach.")
        elif isinstance(command, Asking):
            await self._ask(command, self.reader)
        elif not await database_sync_to_async(self.conversation.stop)(command.stream):
            await self._refuse("unknown_stream", "This conversation has no such answer.")

    async def _attach(self, command: Attach) -> None:
        if self.reader is not None:
            await self._refuse("attached", "This connection is attached already.")
            return
        # Joined before the next command is taken up: an ask may come right behind, and its stream is to be followed.
        reader = Reader(self.conversation.topic, rendered=self.rendered, push=self.push)
        await reader.join()
        self.reader = reader
        if self.open:  # The permission may have been refused meanwhile.
            self.forwarding = asyncio.create_task(self._forward(reader, command), name=f"forward {self.pk}")

    async def _ask(self, command: Asking, reader: Reader) -> None:
        try:
            reply = await database_sync_to_async(self._reply_to)(command)
        except Refused as refused:
            await self._refuse(refused.code, refused.detail, key=str(command.key))
            return
        stream = str(reply.stream_id)
        if not reader.follow_new(stream):
            await self._send_turn(stream)

    def _reply_to(self, command: Asking) -> Message:
        if isinstance(command, Ask):
            return self.conversation.ask(command.text, command.key, command.parent)
        if isinstance(command, Edit):
            return self.conversation.edit(command.message, command.text, command.key)
        return self.conversation.regenerate(command.message, command.key)

    async def _forward(self, reader: Reader, command: Attach) -> None:
        """Everything the reader yields, in order, as fast as the client takes it."""
        after = {str(stream): seq for stream, seq in command.after.items()}
        try:
            await reader.attach(after, str(command.since) if command.since else None)
            del command, after  # They would be kept as long as the connection.
            async for item in reader.items():
                await self._send_item(item)
        except Exception as error:
            # A server's `send` fails like this once the client has left; there is nobody to tell then.
            level = logging.DEBUG if isinstance(error, OSError | Disconnected) else logging.ERROR
            logger.log(level, "forwarding of %s failed", self.pk, exc_info=True)
            with contextlib.suppress(Exception):
                await self.close(BROKEN)

    async def _send_item(self, item: Item) -> None:
        if isinstance(item, Piece):
            for text in self._frames(item) if self.rendered else item.native:
                await self._send_text(text)
        elif isinstance(item, Opened):
            await self._send_turn(item.stream)
        elif isinstance(item, Gone):
            await self._refuse("gone", "This answer was deleted.", stream=item.stream)
        else:
            await self._send_text(item.native)

    def _frames(self, piece: Piece) -> list[str]:
        """A page's: with the note that a row asks for."""
        frames = list(piece.native)
        if html := note(piece.rows):
            frames.insert(len(frames) - piece.ends, encode({"type": "note", "stream": piece.stream, "html": html}))
        return frames

    async def _send_turn(self, stream: str) -> None:
        """Announce a stream, once on this connection."""
        # Whoever finds it announced goes on to its rows: not before the announcement that was begun has left.
        async with self.turning:
            if stream in self.turns:
                return
            key = (self.pk, stream, self.rendered, self.mine)
            turn = await get_hub().read_once(key, partial(self._turn, stream))
            self.turns.add(stream)
            if turn is not None:
                await self._send_text(turn)

    def _turn(self, stream: str) -> str | None:
        """The frame as every connection of this kind gets it."""
        turn = self.conversation.turn(stream)
        return encode(begun(turn, mine=self.mine) if self.rendered else turn) if turn else None

    async def _refuse(self, code: str, detail: str, **about: str) -> None:
        await self._send({"type": "error", "code": code, "detail": detail, **about})

    async def _send(self, frame: dict[str, Any]) -> None:
        await self._send_text(encode(frame))

    async def _send_text(self, text: str) -> None:
        # `send` of the generic consumer goes through three more calls to the same end.
        await self.base_send({"type": "websocket.send", "text": text})  # type: ignore[arg-type]

    def _end_tasks(self) -> list[asyncio.Task[None]]:
        """Cancel what runs beside, but for the task that asks for it; returns what was cancelled."""
        beside = [task for task in (self.forwarding, self.reviewing) if task and task is not asyncio.current_task()]
        for task in beside:
            task.cancel()
        return beside
