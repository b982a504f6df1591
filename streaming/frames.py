"""Rows of the log, what they add up to, and the native frames of the wire (docs/protocol.md).

Pure functions and values: no database, no loop, no socket. Every surface is a mapping of the `Row`s here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from typing import Any, NamedTuple

import orjson
from django.utils.functional import cached_property  # Before Python 3.12 that of functools takes a lock, a microsecond.

TEXT = "text"
REASONING = "reasoning"
RETRY = "retry"
RESTART = "restart"
END = "end"
SPOKEN = frozenset({TEXT, REASONING})
# Servers refuse to send websocket messages over 1 MiB (daphne's autobahn does); a character is at most 6 bytes of JSON.
ROW_CHARS = 64_000
FRAME_CHARS = 2 * ROW_CHARS


class Row(NamedTuple):
    """One row of a stream's log. `text` is set for text and reasoning, `data` for the other kinds.

    A row of words may stand for several (`joined`), up to `seq`: its `data` says how many characters each had.
    """

    seq: int
    kind: str
    text: str
    data: dict[str, Any] | None

    @property
    def chars(self) -> list[int]:
        """How many characters each of the rows had that this one stands for."""
        return self.data["chars"] if self.data and self.kind in SPOKEN else [len(self.text)]

    def behind(self, seq: int) -> Row:
        """What of this row is behind position `seq`, which is before its end."""
        if self.data is None:
            return self
        chars = self.chars
        known = seq - (self.seq - len(chars))
        return (
            self if known <= 0 else self._replace(text=self.text[sum(chars[:known]) :], data={"chars": chars[known:]})
        )

    def until(self, seq: int) -> Row | None:
        """What of this row is at or before position `seq`."""
        if seq >= self.seq:
            return self
        chars = self.chars
        left = len(chars) - (self.seq - seq)
        return Row(seq, self.kind, self.text[: sum(chars[:left])], {"chars": chars[:left]}) if left > 0 else None


def joined(rows: Iterable[Row]) -> list[Row]:
    """The same with neighbours of one spoken kind as one row, as long as that has at most ROW_CHARS."""
    groups: list[list[Row]] = []
    size = 0
    for row in rows:
        if row.kind in SPOKEN and groups and groups[-1][0].kind == row.kind and size + len(row.text) <= ROW_CHARS:
            groups[-1].append(row)
            size += len(row.text)
        else:
            groups.append([row])
            size = len(row.text)
    return [_one(group) for group in groups]


def _one(group: list[Row]) -> Row:
    if len(group) == 1:
        return group[0]
    return Row(group[-1].seq, group[0].kind, "".join(row.text for row in group), {"chars": _chars(group)})


def _chars(group: list[Row]) -> list[int]:
    """How many characters each of the rows had that those of `group` stand for."""
    first, *others = group
    chars = [*first.chars]
    if others[-1].seq - first.seq == len(others):  # Nearly always: each other stands for itself only.
        return chars + [len(row.text) for row in others]
    for row in others:
        last = row.seq - len(row.chars)
        # Between two rows that are neighbours now there may have been one that said nothing.
        chars += [0] * (last - (first.seq - len(first.chars) + len(chars))) + row.chars
    return chars


@dataclass(frozen=True, slots=True)
class Said:
    """What a log adds up to for a reader of its first `seq` rows."""

    seq: int
    text: str
    reasoning: str


class Sum:
    """What the rows of a log add up to, given from its first: a restart discards what was said before it."""

    def __init__(self) -> None:
        self.chars = 0
        self._seq = 0
        self._said = {TEXT: StringIO(), REASONING: StringIO()}

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._seq = row.seq
            if row.kind in SPOKEN:
                self.chars += self._said[row.kind].write(row.text)
            elif row.kind == RESTART:
                self.chars = 0
                self._said = {TEXT: StringIO(), REASONING: StringIO()}

    @property
    def said(self) -> Said:
        return Said(self._seq, self._said[TEXT].getvalue(), self._said[REASONING].getvalue())


def fold(rows: Iterable[Row]) -> Said:
    """Add up the rows of a log from its first."""
    total = Sum()
    total.add(rows)
    return total.said


def native_frames(stream: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The native frames of `rows`: neighbouring rows of one spoken kind are one delta, every other row is its own.

    A delta has at most FRAME_CHARS characters, given rows of at most ROW_CHARS.
    """
    return [_native_frame(stream, row) for row in (rows if len(rows) == 1 else _merged(rows))]


def _native_frame(stream: str, row: Row) -> dict[str, Any]:
    if row.kind in SPOKEN:
        return {"type": "delta", "stream": stream, "seq": row.seq, "kind": row.kind, "text": row.text}
    return {"type": row.kind, "stream": stream, "seq": row.seq, **(row.data or {})}


def _merged(rows: Iterable[Row]) -> Iterator[Row]:
    for kind, group in groupby(rows, key=lambda row: row.kind):
        if kind not in SPOKEN:
            yield from group
            continue
        texts: list[str] = []
        size = seq = 0
        for row in group:
            if size + len(row.text) > FRAME_CHARS and texts:
                yield Row(seq, kind, "".join(texts), None)
                texts, size = [], 0
            texts.append(row.text)
            size += len(row.text)
            seq = row.seq
        yield Row(seq, kind, "".join(texts), None)


def encode(frame: dict[str, Any]) -> str:
    """A frame as the JSON text that goes over the wire."""
    return orjson.dumps(frame).decode()


def _websocket_text(data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + data
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size) + data
    return struct.pack("!BBQ", 0x81, 127, size) + data


@dataclass(frozen=True)
class Piece:
    """Neighbouring rows of one log, ready for any reader at position `after`; encoded at most once per surface."""

    stream: str
    after: int
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Piece:
        """Pieces that follow on one another, as one of as few rows as there can be."""
        return cls(pieces[0].stream, pieces[0].after, tuple(joined(row for piece in pieces for row in piece.rows)))

    @property
    def seq(self) -> int:
        return self.rows[-1].seq

    @property
    def ends(self) -> bool:
        return self.rows[-1].kind == END

    @cached_property
    def size(self) -> int:
        """About how many bytes this piece is on the wire."""
        return sum(len(row.text) for row in self.rows) + 100 * len(self.rows)

    @cached_property
    def _encoded(self) -> tuple[bytes, ...]:
        return tuple(map(orjson.dumps, native_frames(self.stream, self.rows)))

    @cached_property
    def native(self) -> tuple[str, ...]:
        return tuple(data.decode() for data in self._encoded)

    @cached_property
    def whole(self) -> bytes:
        """The same as messages of a websocket, from a server and uncompressed (RFC 6455, 5.2)."""
        return b"".join(map(_websocket_text, self._encoded))

    @cached_property
    def events(self) -> bytes:
        """The same frames as server-sent events, each with its seq as the event's id."""
        return b"".join(
            b"id: %d\ndata: %b\n\n" % (frame["seq"], orjson.dumps(frame))
            for frame in native_frames(self.stream, self.rows)
        )

    def since(self, seq: int) -> Piece:
        """The part of this piece behind position `seq`, which lies inside it."""
        return Piece(self.stream, seq, tuple(row.behind(seq) for row in self.rows if row.seq > seq))


@dataclass(frozen=True)
class Reading:
    """How a stream gets on; not part of its log. Encoded at most once per surface."""

    stream: str
    progress: dict[str, Any]

    @cached_property
    def native(self) -> str:
        return encode({"type": "progress", "stream": self.stream, **self.progress})

    @cached_property
    def whole(self) -> bytes:
        return _websocket_text(self.native.encode())
