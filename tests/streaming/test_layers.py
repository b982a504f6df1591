"""The layers of both columns tell a group's members every message, in order, and nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.layers import BaseChannelLayer
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from streaming.layers import group_send_all
from streaming.redis_layer import RedisChannelLayer
from tests.conftest import DEADLINE_S


async def test_a_batch_reaches_each_group_in_order(layer: BaseChannelLayer) -> None:
    first, second = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("one", first)
    await layer.group_add("two", second)
    batch = [("one", {"n": 1}), ("two", {"n": 2}), ("one", {"n": 3}), ("nobody", {"n": 4})]
    await group_send_all(layer, batch)
    async with asyncio.timeout(DEADLINE_S):
        assert [await layer.receive(first), await layer.receive(first)] == [{"n": 1}, {"n": 3}]
        assert await layer.receive(second) == {"n": 2}


async def test_who_left_a_group_hears_no_more_of_it(layer: BaseChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("one", channel)
    await layer.group_add("two", channel)
    await layer.group_discard("one", channel)
    await group_send_all(layer, [("one", {"n": 1}), ("two", {"n": 2})])
    async with asyncio.timeout(DEADLINE_S):
        assert await layer.receive(channel) == {"n": 2}


@pytest.mark.scaled
async def test_a_server_that_is_away_is_said(layer: BaseChannelLayer) -> None:
    away = RedisChannelLayer(hosts=["redis://127.0.0.1:1/0"])
    with pytest.raises(RedisConnectionError):
        await group_send_all(away, [("one", {"n": 1})])


@pytest.mark.scaled
async def test_who_hears_nothing_is_not_woken(layer: BaseChannelLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    ask = PubSub.parse_response

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal asked
        asked += 1
        return ask(*args, **kwargs)

    monkeypatch.setattr(PubSub, "parse_response", counting)
    channel = await layer.new_channel()
    await layer.send(channel, {"n": 1})
    async with asyncio.timeout(DEADLINE_S):
        assert await layer.receive(channel) == {"n": 1}
    asked = 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await layer.receive(channel)
    assert asked <= 1
