"""The layer between processes: channels_redis', with a flush of the journal as one round trip, not one a message."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer  # type: ignore[import-untyped]


class RedisChannelLayer(RedisPubSubChannelLayer):  # type: ignore[misc]  # Its package has no types.
    """Publishing one message costs about 170 µs of the process, most of it waiting its turn; in a pipeline 20."""

    async def group_send_all(self, messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
        layer = self._get_layer()
        shards: defaultdict[Any, list[tuple[str, bytes]]] = defaultdict(list)
        for group, message in messages:
            name = layer._get_group_channel_name(group)
            shards[layer._get_shard(name)].append((name, self.serialize(message)))
        await asyncio.gather(*(_publish_all(shard, messages) for shard, messages in shards.items()))


async def _publish_all(shard: Any, messages: list[tuple[str, bytes]]) -> None:
    """What the shard's `publish` does for one message."""
    async with shard._lock:
        shard._ensure_redis()
        async with shard._redis.pipeline(transaction=False) as pipeline:
            for name, data in messages:
                pipeline.publish(name, data)
            await pipeline.execute()
