"""Who follows an answer over HTTP gets its words at once where they can be written, and only as long as they may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from conversations.access import Access
from conversations.api import following
from conversations.api.following import Beat, Seen, follow, seen_by
from conversations.models import Conversation, Token
from conversations.watch import get_watch
from streaming.completions import Finish
from streaming.frames import Piece, Reading
from streaming.tail import Push
from tests.conftest import DEADLINE_S, engine_with
from tests.scripted import ScriptedProvider

pytestmark = pytest.mark.django_db(transaction=True)


def words(item: Piece | Reading) -> Piece | None:
    return item if isinstance(item, Piece) and not item.ends else None


class Listener:
    """A client that can be written to at once, unless it takes nothing in at the moment."""

    def __init__(self) -> None:
        self.takes = True
        self.said: list[str] = []
        self.pushed = 0
        self.told: list[Any] = []
        self._more = asyncio.Event()

    def push(self, piece: Piece) -> bool:
        if self.takes:
            self.pushed += 1
            self._hear(piece)
        return self.takes

    def _hear(self, piece: Piece) -> None:
        self.said += [row.text for row in piece.rows if row.text]
        self._more.set()

    async def listen(self, items: AsyncIterator[Any]) -> None:
        async for item in items:
            if isinstance(item, Piece):
                self._hear(item)
            else:
                self.told.append(item)
                self._more.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not reached():
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def gates() -> list[asyncio.Event]:
    return [asyncio.Event() for _ in range(4)]


@pytest.fixture
async def listener(
    conversation: Conversation, alices_token: str, hub_stopped: None, gates: list[asyncio.Event], settings: Any
) -> AsyncIterator[Listener]:
    """One that follows an answer of four words, each of which waits for its gate."""
    settings.ACCESS_CHECK_S = 3600  # The watch looks when a test says so.
    spoken = [step for gate in gates for step in (gate, "word ")]
    listener, access = Listener(), Access(alices_token, "")
    async with engine_with(ScriptedProvider([*spoken, Finish("stop", None)])):
        pk = (await sync_to_async(conversation.ask)("Hello?")).stream_id
        assert pk is not None
        seen = await sync_to_async(seen_by)(access, pk)
        assert isinstance(seen, Seen)
        items = follow(access, pk, seen.stream.topic, 0, seen.known, Push(words, listener.push))
        listening = asyncio.create_task(listener.listen(items))
        gates[0].set()
        await listener.until(lambda: len(listener.said) == 1)
        yield listener
        for gate in gates:
            gate.set()
        async with asyncio.timeout(DEADLINE_S):
            await listening


async def test_words_are_pushed_and_the_answer_ends(listener: Listener, gates: list[asyncio.Event]) -> None:
    for n, gate in enumerate(gates[1:], 2):
        gate.set()
        await listener.until(lambda n=n: len(listener.said) == n)  # type: ignore[misc]
    assert listener.said == ["word "] * 4 and listener.pushed


async def test_nothing_is_pushed_to_one_who_may_no_longer_see_it(
    listener: Listener, gates: list[asyncio.Event]
) -> None:
    await sync_to_async(Token.objects.all().delete)()
    await get_watch().look()
    gates[1].set()
    await listener.until(lambda: bool(listener.told))
    assert [item.code for item in listener.told] == ["not_found"] and listener.said == ["word "]


async def test_a_look_that_finds_nothing_changed_asks_nothing(
    listener: Listener, gates: list[asyncio.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would for all at once, a few seconds after a crowd has come."""
    asked: list[Access] = []
    monkeypatch.setattr(Access, "conversation", lambda access, pk: asked.append(access))
    await get_watch().look()
    gates[1].set()
    await listener.until(lambda: len(listener.said) == 2)
    assert not asked


async def test_signs_of_life_come_only_in_silence(
    listener: Listener, gates: list[asyncio.Event], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    now_s, looks = time.monotonic(), 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        listener._more.set()
        return now_s

    settings.SSE_HEARTBEAT_S = 0.02
    listener.takes = False
    gates[1].set()
    await listener.until(lambda: len(listener.said) == 2)
    listener.takes = True
    monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=clock))
    await listener.until(lambda: looks > 0)  # The next wait is of the length set here.
    now_s += 1000
    gates[2].set()
    await listener.until(lambda: len(listener.said) == 3)
    looked = looks
    await listener.until(lambda: looks > looked + 3)
    assert not listener.told
    now_s += 1000
    await listener.until(lambda: bool(listener.told))
    assert all(isinstance(item, Beat) for item in listener.told)
