"""What the log asks of a channel layer beyond Channels' interface, and the layer of a site that is one process.

Channels' in-memory layer scans every channel and group on each call, which costs more than the rest of a broadcast once
hundreds of groups exist.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer

logger = logging.getLogger(__name__)
Listener = Callable[[dict[str, Any]], object]


async def group_send_all(layer: BaseChannelLayer, messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Send each (group, message), together if the layer can; what could not be sent is raised after the rest was."""
    if send_all := getattr(layer, "group_send_all", None):
        await send_all(messages)
        return
    sends = (layer.group_send(group, message) for group, message in messages)
    for result in await asyncio.gather(*sends, return_exceptions=True):
        if result is not None:
            raise result


async def receive_all(layer: BaseChannelLayer, channel: str) -> list[dict[str, Any]]:
    """The next message on a channel and, if the layer can tell, all that have come by then."""
    if receive := getattr(layer, "receive_all", None):
        messages: list[dict[str, Any]] = await receive(channel)
        return messages
    await asyncio.sleep(0)  # A layer that has many does not wait for anything.
    return [await layer.receive(channel)]


async def probe(layer: BaseChannelLayer) -> None:
    """Fails as a broadcast would; nobody hears it."""
    await group_send_all(layer, [("probe", {"type": "probe"})])


class LocalChannelLayer(BaseChannelLayer):
    """Channels and groups of one event loop. A full channel drops new messages, as the layer specification allows;
    one that is listened to is never full."""

    extensions = ("groups", "flush")

    def __init__(self, expiry: int = 60, capacity: int = 10_000, channel_capacity: Any = None) -> None:
        super().__init__(expiry=expiry, capacity=capacity, channel_capacity=channel_capacity)
        self._queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._groups: defaultdict[str, set[str]] = defaultdict(set)
        self._listeners: dict[str, tuple[Listener, asyncio.AbstractEventLoop]] = {}

    def listen(self, channel: str, listener: Listener | None) -> None:
        """Have messages of a channel handed over as they are sent, to `listener` in this event loop. None: nobody
        listens any more, and messages wait to be received."""
        if listener is None:
            self._listeners.pop(channel, None)
        else:
            self._listeners[channel] = listener, asyncio.get_running_loop()

    async def new_channel(self, prefix: str = "specific") -> str:
        return f"{prefix}!{secrets.token_hex(8)}"

    def _queue(self, channel: str) -> asyncio.Queue[dict[str, Any]]:
        if channel not in self._queues:
            self._queues[channel] = asyncio.Queue(self.get_capacity(channel))
        return self._queues[channel]

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        try:
            self._queue(channel).put_nowait(message)
        except asyncio.QueueFull:
            raise ChannelFull(channel) from None

    async def receive(self, channel: str) -> dict[str, Any]:
        return await self._queue(channel).get()

    async def group_add(self, group: str, channel: str) -> None:
        self._groups[group].add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self._groups[group].discard(channel)
        if not self._groups[group]:
            del self._groups[group]

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.group_send_all_nowait([(group, message)])

    async def group_send_all(self, messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
        self.group_send_all_nowait(messages)

    def group_send_all_nowait(self, messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Send each (group, message), here and now."""
        here = asyncio.get_running_loop()
        for group, message in messages:
            for channel in list(self._groups.get(group, ())):
                if listening := self._listeners.get(channel):
                    listener, loop = listening
                    try:
                        if loop is here:
                            listener(message)
                        else:
                            loop.call_soon_threadsafe(listener, message)
                    except Exception:  # The loop may have ended.
                        logger.exception("a message was not taken")
                elif not (queue := self._queue(channel)).full():
                    queue.put_nowait(message)

    async def flush(self) -> None:
        self._queues.clear()
        self._groups.clear()
        self._listeners.clear()
