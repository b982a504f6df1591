"""Reads the body of an OpenAI-compatible chat completion, byte by byte as it arrives, into deltas and one finish.

Bytes may be split anywhere: inside a line, a UTF-8 character or a surrogate pair. What leaves here can be stored: it
holds no lone surrogate and no NUL. No socket and no loop; streaming/openai_provider.py feeds it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from streaming.frames import REASONING, TEXT

logger = logging.getLogger(__name__)

# A line that never ends must not fill the memory; a whole completion sent at once is one line.
LINE_MAX_BYTES = 32_000_000
# The length of Stream.finish_reason.
FINISH_REASON_MAX_CHARS = 40
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Delta(NamedTuple):
    """More of what the model says: `kind` is frames.TEXT or frames.REASONING, `text` is never empty."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The model came to its end. `usage` holds only numbers, flags and objects of them."""

    finish_reason: str | None
    usage: dict[str, Any] | None


class ProviderError(Exception):
    """An attempt failed. `detail` is fit for users: no key and nothing of what the model's server sent."""

    def __init__(self, code: str, detail: str, *, retriable: bool, retry_after_s: float | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.retriable = retriable
        self.retry_after_s = retry_after_s


def broken() -> ProviderError:
    return ProviderError("broken", "The model's server sent an answer that cannot be read.", retriable=True)


def cut() -> ProviderError:
    return ProviderError("cut", "The model's answer broke off.", retriable=True)


def parse(data: bytes) -> tuple[Any, bool]:
    """The JSON value in `data`, and whether its strings may hold lone surrogates."""
    try:
        return orjson.loads(data), False
    except orjson.JSONDecodeError:
        # orjson refuses the escape of half a surrogate pair, which servers send when a token ends inside a character.
        try:
            return json.loads(data.decode(errors="replace"), parse_constant=lambda _: None), True
        except (ValueError, RecursionError) as error:
            raise broken() from error


def mend(text: str) -> str:
    """`text` with surrogate pairs joined and halves without a partner replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def storable(text: str) -> str:
    return mend(text).replace("\0", REPLACEMENT)


def figures(value: Any) -> Any:
    """The numbers and flags of a usage object, however nested; anything else in it is None."""
    if isinstance(value, dict):
        return {storable(str(key)): figures(item) for key, item in value.items()}
    # Larger numbers, the infinite among them, are not the same in every JSON reader.
    return value if isinstance(value, int | float) and abs(value) < 2**53 else None


class Lines:
    """Splits bytes into lines ended by LF, CRLF or CR, without ever copying a long unfinished line twice."""

    def __init__(self) -> None:
        self._unfinished: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        if self._after_cr:
            data = data.removeprefix(b"\n")
        if not data:
            return []
        self._after_cr = data.endswith(b"\r")
        if b"\n" not in data and b"\r" not in data:
            self._hold(data)
            return []
        if self._unfinished:
            data = self.rest() + data
        lines = data.splitlines()
        if not data.endswith((b"\n", b"\r")):
            self._hold(lines.pop())
        return lines

    def rest(self) -> bytes:
        """The line that has no end yet."""
        line = b"".join(self._unfinished)
        self._unfinished.clear()
        self._size = 0
        return line

    def _hold(self, data: bytes) -> None:
        self._unfinished.append(data)
        self._size += len(data)
        if self._size > LINE_MAX_BYTES:
            raise broken()


class Decoder:
    """One body, fed as it arrives: server-sent events, or a whole completion from a server that never streams.

    A failure inside the body does not throw away what came before it: `feed` returns that, `finish` raises.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.done = False
        self.failure: ProviderError | None = None
        self._lines = Lines()
        self._begun = False
        self._document: list[bytes] | None = None
        self._data: list[bytes] = []
        self._said: list[Delta] = []
        self._held: dict[str, str] = {}

    @property
    def complete(self) -> bool:
        """Nothing that follows can change the text."""
        return self.done or self.failure is not None

    def feed(self, data: bytes) -> list[Delta]:
        """What `data` adds to the answer; neighbouring deltas of one kind are one."""
        try:
            self._read_lines(self._lines.feed(data))
        except ProviderError as error:
            self.failure = error
        return self._spoken()

    def close(self) -> list[Delta]:
        """The end of the body: what was still held back."""
        if not self.complete:
            try:
                self._read_line(self._lines.rest())
                self._read_line(b"")
                self._read_document()
            except ProviderError as error:
                # An unreadable end is where the connection broke; after the finish nothing more was needed.
                if error.code != "broken":
                    self.failure = error
                elif self.finish_reason is None:
                    self.failure = cut()
        for kind in list(self._held):
            del self._held[kind]
            self._said.append(Delta(kind, REPLACEMENT))
        return self._spoken()

    def finish(self) -> Finish:
        """How the model ended its answer; raises ProviderError if it did not."""
        if self.failure is not None:
            raise self.failure
        if not self.done and self.finish_reason is None:
            raise cut()
        return Finish(self.finish_reason, self.usage)

    def _read_lines(self, lines: list[bytes]) -> None:
        alone = len(lines) == 2 and not lines[1] and lines[0].startswith(b"data: {")
        if alone and not self._data and not self.done:
            # Nearly always an event of one line comes alone. Told from all others at once, it costs an eighth less.
            self._begun = True
            self._read_chunk(lines[0][6:], "delta")
            return
        for line in lines:
            if self.done:
                break
            self._read_line(line)

    def _read_line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._begun = True
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line:
            if self._data:
                data, self._data = self._data, []
                self._read_event(b"\n".join(data) if len(data) > 1 else data[0])
        elif self._document is not None:
            self._document.append(line)
        elif not self._begun:
            self._begin(line.removeprefix(b"\xef\xbb\xbf"))

    def _begin(self, line: bytes) -> None:
        """The first line with anything on it tells a stream of events from one JSON document."""
        self._begun = True
        if line.lstrip().startswith(b"{"):
            self._document = [line]
        else:
            self._read_line(line)

    def _read_document(self) -> None:
        if self._document is not None:
            self._read_chunk(b"\n".join(self._document), "message")
            self.done = True

    def _read_event(self, data: bytes) -> None:
        if data.strip() == b"[DONE]":
            self.done = True
        elif data:
            self._read_chunk(data, "delta")

    def _read_chunk(self, data: bytes, part: str) -> None:
        chunk, loose = parse(data)
        if not isinstance(chunk, dict):
            raise broken()
        if chunk.get("error") or chunk.get("object") == "error":
            logger.warning("The model's server reported an error inside its answer: %s", data[:2000])
            raise ProviderError("model_error", "The model's server reported an error.", retriable=True)
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            self._read_choice(choices[0], part, loose)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = figures(usage)

    def _read_choice(self, choice: dict[str, Any], part: str, loose: bool) -> None:
        message = choice.get(part)
        if isinstance(message, dict):
            # OpenAI-compatible servers disagree about the name; those that send both mean the same words.
            self._say(REASONING, message.get("reasoning_content") or message.get("reasoning"), loose)
            self._say(TEXT, message.get("content") or message.get("refusal"), loose)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = storable(reason)[:FINISH_REASON_MAX_CHARS]

    def _say(self, kind: str, text: Any, loose: bool) -> None:
        if not text or not isinstance(text, str):
            return
        if loose or kind in self._held:
            text = self._held.pop(kind, "") + text
            if "\ud800" <= text[-1] <= "\udbff":
                self._held[kind] = text[-1]
                text = text[:-1]
            text = mend(text)
        if "\0" in text:
            text = text.replace("\0", REPLACEMENT)
        if text:
            self._said.append(Delta(kind, text))

    def _spoken(self) -> list[Delta]:
        said, self._said = self._said, []
        if len(said) < 2:
            return said
        spoken = groupby(said, key=itemgetter(0))
        return [Delta(kind, "".join(text for _, text in group)) for kind, group in spoken]
