"""The layer between processes: channels_redis', with a flush of the journal as one command, not one a message, and
messages waited for, not asked for."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer, RedisSingleShardConnection  # type: ignore[import-untyped]
from redis.asyncio.client import PubSub

from streaming.layers import drained

logger = logging.getLogger(__name__)
PUBLISH_ALL = "for at = 1, #ARGV, 2 do redis.call('PUBLISH', ARGV[at], ARGV[at + 1]) end"
# A read of the socket brings some 300.
MANY = 50
MOST = 5_000
# What waits in a socket is read in the next turn of the event loop, and is in the queue in the one after its task woke.
LOOP_TURNS = 3


class RedisChannelLayer(RedisPubSubChannelLayer):  # type: ignore[misc]  # Its package has no types.
    """Publishing one message costs about 170 µs of the process, most of it waiting its turn; in a pipeline 20, most
    of it reading replies."""

    def _get_layer(self) -> Any:
        """The running loop's own."""
        is_new = asyncio.get_running_loop() not in self._layers
        layer = super()._get_layer()
        if is_new:
            layer._shards = [_Shard(shard.host, layer) for shard in layer._shards]
        return layer

    async def group_send_all(self, messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
        layer = self._get_layer()
        shards: defaultdict[Any, list[tuple[str, bytes]]] = defaultdict(list)
        for group, message in messages:
            name = layer._get_group_channel_name(group)
            shards[layer._get_shard(name)].append((name, self.serialize(message)))
        await asyncio.gather(*(_publish_all(shard, messages) for shard, messages in shards.items()))

    async def receive_all(self, channel: str) -> list[dict[str, Any]]:
        """The next message and those that came with it; where that is many, what waits in the socket as well: who hears
        them has fallen behind, and can make up for it only by seeing how many are about the same."""
        messages: list[dict[str, Any]] = [await self.receive(channel)]
        queue: asyncio.Queue[bytes] = self._get_layer().channels[channel]
        while came := drained(queue):
            for data in came:
                try:
                    messages.append(self.deserialize(data))
                except Exception:
                    logger.exception("a message could not be read; a tick will look")
            if len(came) < MANY or len(messages) > MOST:
                break
            for _ in range(LOOP_TURNS):
                await asyncio.sleep(0)
        return messages


class _Shard(RedisSingleShardConnection):  # type: ignore[misc]
    def _ensure_redis(self) -> None:
        if self._redis is None:
            super()._ensure_redis()
            pool: Any = self._redis.connection_pool  # type: ignore[attr-defined]
            self._pubsub = _Subscription(pool)
            self.publish_all = self._redis.register_script(PUBLISH_ALL)  # type: ignore[attr-defined]


class _Subscription(PubSub):
    """channels_redis asks ten times a second whether there is a message, and so sets a timer for each that comes."""

    async def get_message(self, ignore_subscribe_messages: bool = False, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """The next message, however long it takes to come."""
        return await super().get_message(ignore_subscribe_messages, timeout=None)


async def _publish_all(shard: Any, messages: list[tuple[str, bytes]]) -> None:
    """What the shard's `publish` does for one message."""
    async with shard._lock:
        shard._ensure_redis()
        await shard.publish_all(args=[each for message in messages for each in message])
