"""Log lines say what they are about, to people or to programs, and which request they belong to."""

from __future__ import annotations

import json
import logging
import sys
import uuid
from datetime import datetime
from typing import Any

import pytest

from chatsite.logs import JSONFormatter, LineFormatter, RequestIds, request_id

FORMATS = pytest.mark.parametrize("formatter", [LineFormatter("%(message)s"), JSONFormatter()])


def record(message: str = "stream ended", **extra: Any) -> logging.LogRecord:
    return logging.getLogger("tests").makeRecord("tests", logging.INFO, "f", 1, message, (), None, extra=extra)


@pytest.fixture
def in_request() -> Any:
    token = request_id.set("r-1")
    yield
    request_id.reset(token)


@pytest.mark.usefixtures("in_request")
def test_a_line_for_people_ends_in_what_it_is_about() -> None:
    line = LineFormatter("%(levelname)s %(message)s").format(record(stream=uuid.UUID(int=1), error="it broke"))
    assert line == 'INFO stream ended stream=00000000-0000-0000-0000-000000000001 error="it broke" request=r-1'


@pytest.mark.usefixtures("in_request")
def test_a_line_for_programs_is_one_json_object() -> None:
    said = json.loads(JSONFormatter().format(record(seq=3, request=object(), error="a\nb")))
    assert datetime.fromisoformat(said.pop("time")).tzinfo is not None
    assert said == {
        "level": "INFO", "logger": "tests", "message": "stream ended", "seq": 3, "error": "a\nb", "request": "r-1",
    }  # fmt: skip


@FORMATS
def test_no_value_begins_a_line_of_its_own(formatter: logging.Formatter) -> None:
    assert "\n" not in formatter.format(record(topic="a\nERROR forged"))


def test_a_traceback_is_part_of_the_object() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        failed = record()
        failed.exc_info = sys.exc_info()
    assert "ValueError: why" in json.loads(JSONFormatter().format(failed))["traceback"]


async def ids(given: bytes | None) -> tuple[str, str]:
    """The id that the application knows and the one that the client is told."""
    known: list[str] = []
    sent: list[dict[str, Any]] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        known.append(request_id.get())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [] if given is None else [(b"x-request-id", given)]
    await RequestIds(application)({"type": "http", "headers": headers}, None, send)
    told = dict(sent[0]["headers"])
    assert told[b"a"] == b"b" and request_id.get() == ""
    return known[0], told[b"x-request-id"].decode()


async def test_a_request_keeps_the_id_it_came_with() -> None:
    assert await ids(b"proxy-1:2.3") == ("proxy-1:2.3", "proxy-1:2.3")


@pytest.mark.parametrize("given", [None, b"", b"a b", b'"', b"x" * 101, "é".encode()])
async def test_a_request_without_a_fit_id_gets_one(given: bytes | None) -> None:
    known, told = await ids(given)
    assert known == told and len(uuid.UUID(known).hex) == 32
