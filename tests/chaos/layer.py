"""The site's channel layer, made to lose every third message on its way to this process while `drop` is on."""

from __future__ import annotations

from typing import Any

from streaming.redis_layer import RedisChannelLayer
from tests.chaos.switches import Switch


class LossyLayer(RedisChannelLayer):
    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self._drop = Switch("drop")
        self._count = 0

    async def receive(self, channel: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = await self._get_layer().receive(channel)
            self._count += 1
            if not (self._drop and self._count % 3 == 0):
                return message
