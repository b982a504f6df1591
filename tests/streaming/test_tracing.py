"""Each stream leaves lines in the log, and each generation one OpenTelemetry span, where that is installed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from conversations.models import Message
from streaming import tracing
from streaming.models import Stream
from tests.conftest import ended, engine_with, stream_of
from tests.scripted import ScriptedProvider

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What is exported; the process's own provider, which can be set only once, stays as it is."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace.get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


async def answered(reply: Message) -> Stream:
    async with engine_with(ScriptedProvider(["Hello"])):
        return await ended(stream_of(reply))


async def test_a_generation_is_one_span_that_says_how_it_ended(reply: Message, spans: InMemorySpanExporter) -> None:
    stream = await answered(reply)
    (span,) = spans.get_finished_spans()
    told = {"stream": str(stream.pk), "attempt": 1, "model": "demo", "status": "done", "seq": stream.seq}
    assert (span.name, dict(span.attributes or {})) == ("generation", told)


async def test_without_opentelemetry_nothing_is_missed(reply: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "trace", None)
    assert (await answered(reply)).status == "done"


async def test_an_answers_lines_bear_its_id(reply: Message, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stream = await answered(reply)
    lines: list[Any] = [record for record in caplog.records if getattr(record, "stream", "") == str(stream.pk)]
    begun, end = (line for line in lines if line.getMessage() in ("stream begun", "stream ended"))
    assert (begun.attempt, begun.after, begun.worker) == (1, 0, stream.worker)
    assert (end.status, end.seq, 0 <= end.took_s < 60) == ("done", stream.seq, True)
