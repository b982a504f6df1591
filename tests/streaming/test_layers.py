"""The layers of both columns tell a group's members every message, in order, and nobody else."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest
from channels.layers import BaseChannelLayer
from redis import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from streaming.layers import LocalChannelLayer, group_send_all, receive_all
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
async def test_a_server_that_forgot_the_script_is_told_it_again(layer: BaseChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("one", channel)
    for n in range(2):
        with Redis.from_url(os.environ["REDIS_URL"]) as server:
            server.script_flush()
        await group_send_all(layer, [("one", {"n": n})])
        async with asyncio.timeout(DEADLINE_S):
            assert await receive_all(layer, channel) == [{"n": n}]


async def test_all_that_waits_is_received_together(layer: BaseChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("one", channel)
    await group_send_all(layer, [("one", {"n": n}) for n in range(5)])
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < 5:
            found += await receive_all(layer, channel)
    assert found == [{"n": n} for n in range(5)]


@pytest.mark.scaled
async def test_who_is_behind_receives_what_is_still_in_the_socket(layer: RedisChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("one", channel)
    name = layer._get_layer()._get_group_channel_name("one")
    with Redis.from_url(os.environ["REDIS_URL"]) as server:
        for n in range(1000):  # In one turn of the loop: none of it is read meanwhile.
            server.publish(name, layer.serialize({"n": n, "pad": "x" * 300}))
        server.publish(name, b"of another format")
        server.publish(name, layer.serialize({"n": 1000}))
    async with asyncio.timeout(DEADLINE_S):
        found = await receive_all(layer, channel)
    assert [message["n"] for message in found] == list(range(1001))


@pytest.mark.scaled
async def test_groups_are_joined_and_left_between_messages_that_come_together(layer: RedisChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("first", channel)
    with Redis.from_url(os.environ["REDIS_URL"]) as server:
        for n in range(50):  # The server's answers to this come among messages, and are read with them.
            server.publish(layer._get_layer()._get_group_channel_name("first"), layer.serialize({"n": n}))
            await layer.group_add(f"group {n}", channel)
            if n:
                await layer.group_discard(f"group {n - 1}", channel)
    await group_send_all(layer, [("group 48", {"n": 50}), ("group 49", {"n": 51}), ("first", {"n": 52})])
    found: list[int] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < 52:
            found += [message["n"] for message in await receive_all(layer, channel)]
    assert found == [*range(50), 51, 52]
    # Nothing is kept of groups that were left; redis-py would ask for them anew with each connection.
    assert len(layer._get_layer()._get_shard("first")._pubsub.channels) == 3


@pytest.mark.scaled
async def test_connections_that_the_server_closed_are_made_anew(layer: RedisChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("one", channel)
    await group_send_all(layer, [("one", {"n": 0})])
    publisher = layer._get_layer()._get_shard("one")._redis
    number = await publisher.client_id()
    with Redis.from_url(os.environ["REDIS_URL"]) as server:
        server.client_kill_filter(_id=number)
    async with asyncio.timeout(DEADLINE_S):
        while not await publisher.connection.can_read():
            await asyncio.sleep(0)
        await group_send_all(layer, [("one", {"n": 1})])
        assert [await layer.receive(channel), await layer.receive(channel)] == [{"n": 0}, {"n": 1}]


@pytest.mark.scaled
async def test_only_a_broadcast_relies_on_its_own_limit(layer: RedisChannelLayer) -> None:
    await layer.group_add("one", await layer.new_channel())
    await group_send_all(layer, [("one", {"n": 0})])
    shard = layer._get_layer()._get_shard("one")
    assert shard._redis.connection.socket_timeout is None
    # The receiver has none: it must not wait for ever for a server that takes it and says nothing.
    assert shard._pubsub.connection.socket_timeout > 0


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


@pytest.fixture
def local(layer: BaseChannelLayer) -> LocalChannelLayer:
    assert isinstance(layer, LocalChannelLayer)
    return layer


@pytest.mark.embedded
async def test_who_listens_is_handed_each_message_as_it_is_sent(
    local: LocalChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []
    ear, other = await local.new_channel(), await local.new_channel()
    for channel in (ear, other):
        await local.group_add("one", channel)

    def listen(message: dict[str, Any]) -> None:
        heard.append(message["n"])
        if message["n"] == 2:
            raise ValueError("what nobody expected")

    local.listen(ear, listen)
    local.group_send_all_nowait([("one", {"n": n}) for n in (1, 2, 3)])
    assert heard == [1, 2, 3] and "was not taken" in caplog.text
    assert [await receive_all(local, other) for _ in range(3)] == [[{"n": 1}], [{"n": 2}], [{"n": 3}]]
    local.listen(ear, None)
    local.group_send_all_nowait([("one", {"n": 4})])
    assert heard == [1, 2, 3] and await local.receive(ear) == {"n": 4}


@pytest.mark.embedded
async def test_a_listener_whose_loop_has_ended_keeps_nobody_from_telling_the_others(local: LocalChannelLayer) -> None:
    gone, other = await local.new_channel(), await local.new_channel()
    heard: list[Any] = []
    for channel in (gone, other):
        await local.group_add("one", channel)
    local.listen(other, heard.append)

    async def listen() -> None:
        local.listen(gone, heard.append)

    await asyncio.to_thread(asyncio.run, listen())
    local.group_send_all_nowait([("one", {"n": 1}), ("one", {"n": 2})])
    assert heard == [{"n": 1}, {"n": 2}]


@pytest.mark.embedded
async def test_who_listens_is_handed_the_messages_of_other_threads_in_its_own(local: LocalChannelLayer) -> None:
    channel, heard = await local.new_channel(), asyncio.Event()
    threads: list[threading.Thread] = []

    def listen(message: dict[str, Any]) -> None:
        threads.append(threading.current_thread())
        heard.set()

    await local.group_add("one", channel)
    local.listen(channel, listen)
    await asyncio.to_thread(asyncio.run, group_send_all(local, [("one", {"n": 1})]))
    async with asyncio.timeout(DEADLINE_S):
        await heard.wait()
    assert threads == [threading.current_thread()]
