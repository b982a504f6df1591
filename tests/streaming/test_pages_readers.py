"""Readers of pages: one rendering for all of them in a process, not too often, whole whatever they miss."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from conversations.models import Message
from streaming import document as documents
from streaming import tail as tails
from streaming.document import Rendered
from streaming.frames import Piece, Row
from streaming.hub import get_hub
from streaming.models import Chunk, ChunkQuerySet, Stream
from streaming.reader import Reader
from tests.conftest import add, finish
from tests.dom import Element, apply, parse

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("hub_stopped")]


class Follower:
    """A page's connection: reads until a position and shows what it is told."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.body = Element("")
        self.frames: list[dict[str, Any]] = []

    async def until(self, seq: int) -> None:
        at = 0
        while at < seq:
            item = await self.reader.next()
            if isinstance(item, Rendered):
                at = item.seq
                self.show(json.loads(frame) for frame in item.native)

    def show(self, frames: Any) -> None:
        for frame in frames:
            self.frames.append(frame)
            if frame["type"] == "html":
                apply(self.body, frame)


async def test_pages_share_one_document(running_stream: Stream) -> None:
    stream = str(running_stream.pk)
    async with (
        Reader(running_stream.topic, rendered=True) as one,
        Reader(running_stream.topic, rendered=True) as other,
    ):
        pages = [Follower(one), Follower(other)]
        for page in pages:
            await page.reader.attach({stream: 0})
            await page.until(2)
        feed = await get_hub().join(one, running_stream.topic)
        document = feed.tails[stream].document
    assert document is not None and document.version == 1
    assert [page.body for page in pages] == [parse("<p>Hello</p>")] * 2


async def test_a_page_that_comes_back_gets_one_frame_for_all_it_missed(running_stream: Stream) -> None:
    stream = str(running_stream.pk)
    for seq in range(3, 60):
        await sync_to_async(add)(running_stream, seq, f" word{seq}")
    async with Reader(running_stream.topic, rendered=True) as reader:
        page = Follower(reader)
        await reader.attach({stream: 2})
        await page.until(59)
    (frame,) = page.frames
    assert (frame["keep"], frame["seq"]) == (0, 59)
    assert page.body.text.startswith("Hello word3") and page.body.text.endswith("word59")


async def test_rendering_pauses_and_the_end_does_not_wait_for_it(
    running_stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PAUSE_S", 3600.0)
    async with Reader(running_stream.topic, rendered=True) as reader:
        page = Follower(reader)
        await reader.attach({str(running_stream.pk): 0})
        await page.until(2)
        await sync_to_async(add)(running_stream, 3, ", **you**")
        await sync_to_async(finish)(running_stream, 4)
        await page.until(4)
    assert [(frame["type"], frame["seq"]) for frame in page.frames] == [("html", 2), ("html", 4), ("end", 4)]
    assert page.body == parse("<p>Hello, <strong>you</strong></p>")


async def test_a_page_that_had_everything_gets_the_finished_text_and_its_end(running_stream: Stream) -> None:
    await sync_to_async(add)(running_stream, 3, " **half")
    await sync_to_async(finish)(running_stream, 4)
    async with Reader(running_stream.topic, rendered=True) as reader:
        page = Follower(reader)
        await reader.attach({str(running_stream.pk): 4})
        await page.until(4)
    assert [(frame["type"], frame["seq"]) for frame in page.frames] == [("html", 4), ("end", 4)]
    assert page.body.text == "Hello **half"


async def test_a_deleted_answer_is_gone_for_pages_too(running_stream: Stream, settings: Any) -> None:
    settings.HUB_TICK_S = 0.05
    async with Reader(running_stream.topic, rendered=True) as reader:
        await reader.attach({str(running_stream.pk): 0})
        await Follower(reader).until(2)
        await sync_to_async(Message.objects.all().delete)()
        await sync_to_async(running_stream.delete)()
        assert type(await reader.next()).__name__ == "Gone"


async def test_a_page_that_joins_ahead_of_the_others_costs_nobody_the_rows_between(
    running_stream: Stream, settings: Any
) -> None:
    settings.HUB_TICK_S = 3600
    stream = str(running_stream.pk)
    async with (
        Reader(running_stream.topic, rendered=True) as one,
        Reader(running_stream.topic, rendered=True) as other,
    ):
        early, late = Follower(one), Follower(other)
        await one.attach({stream: 0})
        await early.until(2)
        await sync_to_async(add)(running_stream, 3, " dear")  # No message tells of it: the layer is away.
        await other.attach({stream: 3})
        await sync_to_async(add)(running_stream, 4, " world")
        await late.until(4)
    assert late.body == parse("<p>Hello dear world</p>")


async def test_a_page_that_lags_while_it_is_too_early_to_render_repeats_nothing(
    running_stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tails, "SINGLE_PIECES", 1)
    stream, words = str(running_stream.pk), [f" {seq}" for seq in range(3, 12)]
    async with (
        Reader(running_stream.topic, rendered=True) as one,
        Reader(running_stream.topic, rendered=True) as other,
    ):
        ahead, lagging = Follower(one), Follower(other)
        for page in (ahead, lagging):
            await page.reader.attach({stream: 0})
            await page.until(2)
        tail = get_hub()._feeds[running_stream.topic].tail(stream)
        for seq, word in enumerate(words, 3):
            await sync_to_async(add)(running_stream, seq, word)
            tail.add(Piece(stream, seq - 1, (Row(seq, "text", word, None),)))
            if seq == 3:
                one.wake()
                await ahead.until(3)
                monkeypatch.setattr(documents.Document, "pause_s", 3600.0)
        other.wake()
        await lagging.reader.next()
        monkeypatch.undo()
        await sync_to_async(finish)(running_stream, 12)
        tail.add(Piece(stream, 11, (Row(12, "end", "", {"status": "done"}),)))
        for page in (ahead, lagging):
            page.reader.wake()
            await page.until(12)
    assert ahead.body == lagging.body == parse(f"<p>Hello{''.join(words)}</p>")


async def test_a_crowd_of_pages_reads_the_log_once(running_stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, whole = str(running_stream.pk), []
    rows = ChunkQuerySet.rows

    def counted(queryset: ChunkQuerySet, *where: Any) -> Any:
        whole.append(where)
        return rows(queryset, *where)

    monkeypatch.setattr(Chunk.objects, "rows", lambda *where: counted(Chunk.objects.all(), *where))

    async def come_back() -> None:
        async with Reader(running_stream.topic, rendered=True) as reader:
            await reader.attach({stream: 1})
            await Follower(reader).until(2)

    await asyncio.gather(*(come_back() for _ in range(20)))
    assert len(whole) == 1
