"""Log lines for people or for programs (LOG_FORMAT), each with the id of the request it is about.

What a line is about stands behind its words, from the `extra` of the call: `stream ended stream=… status=done`.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

request_id: ContextVar[str] = ContextVar("request_id", default="")

HEADER = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._:-]{1,100}")
_PLAIN = re.compile(r"[\w.:/+-]+")
_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class RequestIds:
    """Wraps an ASGI application: a request has the id that its client or proxy gave it, or a new one."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._application(scope, receive, send)
            return
        given = dict(scope["headers"]).get(HEADER, b"")
        known = given if _ID.fullmatch(given) else uuid.uuid4().hex.encode()

        async def send_with_id(message: dict[str, Any]) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message = message | {"headers": [*message.get("headers", ()), (HEADER, known)]}
            await send(message)

        token = request_id.set(known.decode())
        try:
            await self._application(scope, receive, send_with_id)
        finally:
            request_id.reset(token)


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What a line is about, beside its words."""
    found = {
        name: value if isinstance(value, int | float | str | None) else str(value)
        for name, value in vars(record).items()
        if name not in _OWN and isinstance(value, int | float | str | uuid.UUID | None)
    }
    return found | ({"request": request_id.get()} if request_id.get() else {})


class LineFormatter(logging.Formatter):
    """One line for people."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        said = " ".join(f"{name}={_plain(value)}" for name, value in facts(record).items())
        return f"{super().formatMessage(record)} {said}".rstrip()


def _plain(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


class JSONFormatter(logging.Formatter):
    """One JSON object, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **facts(record),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)
