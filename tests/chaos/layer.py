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
            if not self._loses():
                return message

    async def receive_all(self, channel: str) -> list[dict[str, Any]]:
        first, *more = await super().receive_all(channel)
        return [first, *(message for message in more if not self._loses())]

    def _loses(self) -> bool:
        self._count += 1
        return bool(self._drop) and self._count % 3 == 0
