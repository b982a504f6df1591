"""The layer between processes: channels_redis', with a flush of the journal as one round trip, not one a message, and
messages waited for, not asked for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer, RedisSingleShardConnection  # type: ignore[import-untyped]
from redis.asyncio.client import PubSub


class RedisChannelLayer(RedisPubSubChannelLayer):  # type: ignore[misc]  # Its package has no types.
    """Publishing one message costs about 170 µs of the process, most of it waiting its turn; in a pipeline 20."""

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


class _Shard(RedisSingleShardConnection):  # type: ignore[misc]
    def _ensure_redis(self) -> None:
        if self._redis is None:
            super()._ensure_redis()
            pool: Any = self._redis.connection_pool  # type: ignore[attr-defined]
            self._pubsub = _Subscription(pool)


class _Subscription(PubSub):
    """channels_redis asks ten times a second whether there is a message, and so sets a timer for each that comes."""

    async def get_message(self, ignore_subscribe_messages: bool = False, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """The next message, however long it takes to come."""
        return await super().get_message(ignore_subscribe_messages, timeout=None)


async def _publish_all(shard: Any, messages: list[tuple[str, bytes]]) -> None:
    """What the shard's `publish` does for one message."""
    async with shard._lock:
        shard._ensure_redis()
        async with shard._redis.pipeline(transaction=False) as pipeline:
            for name, data in messages:
                pipeline.publish(name, data)
            await pipeline.execute()
