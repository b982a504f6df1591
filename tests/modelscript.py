"""What the tests' model server says to one request: a Script, also writable as JSON (a directive) in a prompt.

text, words, size  the answer: literal text, or that many words, or that many characters of numbered lines (fast)
reasoning          said before the text, in deltas of the same length
chunk              characters per delta; 0: word by word (`size`: 1000 characters)
delay_s            before each delta                   first_delay_s   before the response's first byte
surrogates         JSON escapes, and characters beyond the BMP split into two deltas of half a pair each
network_chunk      write the body in pieces of so many bytes
crlf, comments     CRLF line ends; a comment, an `event:` and an `id:` line with each event
gate               a Gate that each delta passes; in a directive its name: closed until POST /gates/NAME opens it
json               answer application/json with the whole completion, as a server that does not stream
finish_reason      "stop"; null: none is sent          usage, done     false: no usage chunk; no [DONE]

The faults, each after so many deltas (0: before the first):
silence_after      say nothing more, keep the connection
cut_after          close the TCP connection; in_line: after half a line of JSON; reset: by RST
clean_end_after    end the body as if all had been said
garbage_after      send an event that is not JSON      error_after     send an error object
status, retry_after, error_code    answer with this HTTP status (and Retry-After, and OpenAI error code)
fail_times         only the first n requests with this prompt meet the faults; 0: all
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

FAULTS = ("silence_after", "cut_after", "clean_end_after", "garbage_after", "error_after", "status")
BULK_CHUNK = 1000
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]


class Gate:
    """Lets deltas through one by one: `open(n)` allows n more, `await passed(n)` waits until n were written."""

    def __init__(self, allowed: int = 0) -> None:
        self.allowed: float = allowed
        self.count = 0
        self._changed = asyncio.Event()

    def open(self, more: float = float("inf")) -> None:
        self.allowed += more
        self._notify()

    async def passed(self, count: int) -> None:
        while self.count < count:
            await self._changed.wait()

    async def enter(self) -> None:
        while self.count >= self.allowed:
            await self._changed.wait()

    def leave(self) -> None:
        self.count += 1
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


@dataclass(frozen=True, slots=True)
class Script:
    """One answer; see the top of this module for the fields."""

    text: str = ""
    words: int = 0
    size: int = 0
    reasoning: str = ""
    chunk: int = 0
    delay_s: float = 0
    first_delay_s: float = 0
    surrogates: bool = False
    network_chunk: int = 0
    crlf: bool = False
    comments: bool = False
    json: bool = False
    finish_reason: str | None = "stop"
    usage: bool = True
    done: bool = True
    silence_after: int | None = None
    cut_after: int | None = None
    in_line: bool = False
    reset: bool = False
    clean_end_after: int | None = None
    garbage_after: int | None = None
    error_after: int | None = None
    status: int | None = None
    retry_after: float | str | None = None
    error_code: str | None = None
    fail_times: int = 0
    gate: Gate | None = None

    @property
    def answer(self) -> str:
        if self.size:
            line = "{:08d} the quick brown fox jumps over the lazy dog\n"
            return "".join(map(line.format, range(self.size // len(line.format(0)) + 1)))[: self.size]
        return self.text or " ".join(f"{WORDS[n % len(WORDS)]}{n}" for n in range(self.words))

    def healthy(self) -> Script:
        return replace(self, **dict.fromkeys(FAULTS))  # type: ignore[arg-type]

    def deltas(self) -> Iterator[dict[str, str]]:
        for name, text in (("reasoning_content", self.reasoning), ("content", self.answer)):
            yield from ({name: piece} for piece in self._pieces(text))

    def _pieces(self, text: str) -> Iterator[str]:
        if self.surrogates:
            for piece in self._cut(text):
                yield from _halves(piece)
        else:
            yield from self._cut(text)

    def _cut(self, text: str) -> Iterator[str]:
        length = self.chunk or (BULK_CHUNK if self.size else 0)
        if not length:
            words = text.split(" ")
            return (word if n == 0 else f" {word}" for n, word in enumerate(words) if word or n)
        return (text[start : start + length] for start in range(0, len(text), length))


def _halves(piece: str) -> Iterator[str]:
    """`piece` cut inside each character beyond the BMP."""
    units = piece.encode("utf-16-be", "surrogatepass")
    start = 0
    for at in range(0, len(units), 2):
        if 0xD8 <= units[at] <= 0xDB:
            yield units[start : at + 2].decode("utf-16-be", "surrogatepass")
            start = at + 2
    if units[start:]:
        yield units[start:].decode("utf-16-be", "surrogatepass")


def expected_text(directive: dict[str, Any]) -> str:
    """The text of the whole answer that a directive asks for, faults aside."""
    return Script(**directive).answer
