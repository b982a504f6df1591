"""The layer between processes: channels_redis', with a flush of the journal as one command, not one a message, and
messages waited for, not asked for."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import hiredis
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisSingleShardConnection  # type: ignore[import-untyped]
from channels_redis.utils import create_pool  # type: ignore[import-untyped]
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio.client import PubSub, Redis

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
        publishing = [shard.publish_all(messages) for shard, messages in shards.items()]
        await (publishing[0] if len(publishing) == 1 else asyncio.gather(*publishing))  # A task takes a tenth more.

    async def receive_all(self, channel: str) -> list[dict[str, Any]]:
        """The next message and those that came with it; where that is many, what waits in the socket as well: who hears
        them has fallen behind, and can make up for it only by seeing how many are about the same."""
        messages: list[dict[str, Any]] = [await self.receive(channel)]
        queue: asyncio.Queue[bytes] = self._get_layer().channels[channel]
        while came := [queue.get_nowait() for _ in range(queue.qsize())]:
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
    _redis: Redis | None
    _pubsub: _Subscription

    def _ensure_redis(self) -> None:
        if self._redis is None:
            pool = create_pool(self.host)
            # With a connection of its own for what is published: to fetch it from the pool takes a quarter of a flush.
            self._redis = Redis(connection_pool=pool, single_connection_client=True)
            self._pubsub = _Subscription(pool)

    async def publish_all(self, messages: list[tuple[str, bytes]]) -> None:
        """What `publish` does for one message."""
        async with self._lock:
            self._ensure_redis()
            assert self._redis is not None
            if self._redis.connection is None:
                await self._redis.initialize()
            connection: Any = self._redis.connection
            # Who publishes sets a limit itself; redis-py's own costs a task for each command.
            connection.socket_timeout = None
            if connection.is_connected and await connection.can_read():
                # Nothing was asked: the server has closed it since, and a command would find that out by failing.
                await connection.disconnect(nowait=True)
            await self._redis.eval(PUBLISH_ALL, 0, *(each for message in messages for each in message))

    def _receive_message(self, message: dict[str, Any] | None) -> None:
        super()._receive_message(message)
        for more in self._pubsub.arrived():
            super()._receive_message(more)


class _Subscription(PubSub):
    """channels_redis asks ten times a second whether there is a message, and so sets a timer for each that comes."""

    def __init__(self, pool: Any) -> None:
        super().__init__(pool)
        self._answers: deque[list[Any]] = deque()

    async def get_message(self, ignore_subscribe_messages: bool = False, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """The next message, however long it takes to come."""
        return await super().get_message(ignore_subscribe_messages, timeout=None)

    async def parse_response(self, block: bool = True, timeout: float = 0) -> Any:  # noqa: ASYNC109
        return self._answers.popleft() if self._answers else await super().parse_response(block, timeout)

    def arrived(self) -> Iterator[dict[str, Any]]:
        """The messages that came in one read with the last. One at a time each would take ten calls of redis-py's."""
        reader = getattr(getattr(self.connection, "_parser", None), "_reader", None)
        if not isinstance(reader, hiredis.Reader):
            return
        while (came := reader.gets(False)) is not NOT_ENOUGH_DATA:
            if isinstance(came, Exception):
                raise came
            if came[0] == b"message":
                yield {"channel": came[1], "data": came[2]}
            else:
                self._answers.append(came)
