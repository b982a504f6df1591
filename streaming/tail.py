"""The newest rows of a stream as one process keeps them, and the readers that have come as far as that.

A reader that has taken all there is stands at the tail, and moves on with it: what is added is written to its client at
once, and where many stand to all of them by one call. To wake a task would cost as much as sending; to look each reader
up and move it, half as much; to have each asked and written to by calls of its own, a sixth.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings

from streaming.document import Document
from streaming.frames import Piece, Reading

if TYPE_CHECKING:
    from streaming.reader import Reader

logger = logging.getLogger(__name__)
SINGLE_PIECES = 32
CROWD = 8
Form = Callable[[Piece | Reading], Any]
Write = Callable[[Any], bool]
Together = Callable[[Sequence[Any]], Write]


@dataclass(frozen=True, slots=True)
class Push:
    """How a client is written to at once. `form` makes of an item what all clients of a kind are written, or None if
    it is not for that; `write` writes it, or says that it cannot and has written nothing. `together` makes of many such
    one that writes to all of their clients, or to none; it may fail only before it has written anything."""

    form: Form
    write: Write
    together: Together | None = None


class Crowd:
    """Readers that stand at one tail and whose clients are written the same."""

    def __init__(self, stream: str, together: Together | None) -> None:
        self._stream = stream
        self._writes: dict[Reader, Write] = {}
        self._together = together
        self._to_all: Write | None = None  # as long as nobody comes or leaves

    def __len__(self) -> int:
        return len(self._writes)

    def __iter__(self) -> Iterator[Reader]:
        return iter(self._writes)

    def join(self, reader: Reader, write: Write) -> None:
        self._writes[reader] = write
        self._to_all = None

    def leave(self, reader: Reader) -> bool:
        """Whether `reader` was one of them."""
        if self._writes.pop(reader, None) is None:
            return False
        self._to_all = None
        return True

    def disband(self) -> None:
        self._writes.clear()
        self._to_all = None

    def write(self, data: Any) -> tuple[list[Reader], list[Reader]]:
        """Write to all. Returns those it could not be written to, and those whose write failed; both leave."""
        left: list[Reader] = []
        broken: list[Reader] = []
        if data is None:
            left += self
        elif not self._write_together(data):
            for reader, write in self._writes.items():
                try:
                    if not write(data):
                        left.append(reader)
                except Exception:
                    # It must not keep the data from those behind it.
                    logger.exception("a push of %s failed", self._stream)
                    broken.append(reader)
        for reader in left + broken:
            self.leave(reader)
        return left, broken

    def _write_together(self, data: Any) -> bool:
        if self._together is None or len(self._writes) < CROWD:
            return False
        try:
            if self._to_all is None:
                self._to_all = self._together(list(self._writes.values()))
            return self._to_all(data)
        except Exception:
            # Each is written to by itself then, and whose write fails is known.
            logger.exception("a push of %s to many failed", self._stream)
            return False


class Tail:
    """Every row of one stream in (start, last], a bounded number of bytes of them."""

    def __init__(self, stream: str, last: int | None = None) -> None:
        self.stream = stream
        self.start = self.last = last  # None: nobody here has looked yet
        self.heard = True  # since the last tick
        self.announced = False  # to every reader of the topic
        self.ended = False
        self.gone = False
        self.progress: Reading | None = None
        self.document: Document | None = None  # what the pages here show, once there is one
        self.filling = asyncio.Lock()  # held while the document catches up with the log
        self._pieces: list[Piece] = []
        self._joined = 0  # of them are several that came
        self._size = 0
        self._most = 2 * settings.HUB_RECENT_BYTES  # Looking a setting up takes half a microsecond.
        self._crowds: dict[tuple[Form, Together | None], Crowd] = {}

    def learn(self, seq: int) -> None:
        """A reader has read up to `seq` in the database; only the first to say so sets where the tail begins."""
        if self.last is None:
            self.start = self.last = seq

    def add(self, piece: Piece) -> bool:
        """Take rows that follow on, or overlap what is kept; False if rows before them are missing.

        They are written to those who stand here; the `others` are to be woken, who could not be written to among them.
        """
        self.learn(piece.after)
        assert self.last is not None
        if piece.seq <= self.last:
            return True
        if piece.after > self.last:
            return False
        new = piece if piece.after == self.last else piece.since(self.last)
        self._pieces.append(new)
        self.last = new.seq
        self.ended = new.ends
        self._size += new.size
        if len(self._pieces) - self._joined > 2 * SINGLE_PIECES:
            self._join()
        if self._size > self._most:
            self._trim()
        for (form, _), crowd in self._crowds.items():
            if crowd:
                self._write(self._formed(new, form), crowd, new.after)
            if new.ends:
                self._finish(crowd)
        return True

    def report(self, progress: dict[str, Any]) -> None:
        """Tell how the stream gets on. Clients of a kind that is not told of it do not hear of it later either."""
        reading = Reading(self.stream, progress)
        for (form, _), crowd in self._crowds.items():
            if crowd and (data := self._formed(reading, form)) is not None:
                self._write(data, crowd, self.last or 0)
        self.progress = reading

    def stand(self, reader: Reader, push: Push) -> None:
        """`reader` has taken all there is; what is added is written to its client until it leaves."""
        kind = push.form, push.together
        if kind not in self._crowds:
            self._crowds[kind] = Crowd(self.stream, push.together)
        self._crowds[kind].join(reader, push.write)

    def leave(self, reader: Reader, push: Push) -> bool:
        """Whether `reader` stood here, and so has come as far as this."""
        kind = push.form, push.together
        return kind in self._crowds and self._crowds[kind].leave(reader)

    def others(self, readers: set[Reader]) -> set[Reader]:
        """Those of `readers`, which are all who read the topic, that do not stand here."""
        if sum(map(len, self._crowds.values())) == len(readers):  # Nearly always, and to look each up takes a while.
            return set()
        return readers.difference(*self._crowds.values())

    def _formed(self, item: Piece | Reading, form: Form) -> Any:
        try:
            return form(item)
        except Exception:
            logger.exception("a push of %s could not be formed", self.stream)
            return None

    def _write(self, data: Any, crowd: Crowd, seq: int) -> None:
        """Whom it could not be written to stays where it stood, at `seq`, to go on by itself once it is woken."""
        left, broken = crowd.write(data)
        for reader in left + broken:
            reader.stay(self.stream, seq)
        for reader in broken:
            reader.cannot_push()

    def _finish(self, crowd: Crowd) -> None:
        for reader in crowd:
            reader.finish(self.stream)
        crowd.disband()

    def _join(self) -> None:
        """Keep only the newest as they came: the garbage collector walks everything there is, in one go."""
        old = self._pieces[self._joined : -SINGLE_PIECES]
        one = Piece.of(old)
        self._pieces[self._joined : -SINGLE_PIECES] = [one]
        self._joined += 1
        self._size += one.size - sum(piece.size for piece in old)

    def _trim(self) -> None:
        """Forget the oldest half; readers that far behind read the database. The newest piece is always kept."""
        dropped = 0
        while self._size > self._most // 2 and dropped < len(self._pieces) - 1:
            self._size -= self._pieces[dropped].size
            dropped += 1
        del self._pieces[:dropped]
        self._joined = max(self._joined - dropped, 0)
        self.start = self._pieces[0].after

    def behind(self, seq: int) -> bool:
        """Whether a reader at `seq` is too far back for what is kept here."""
        return self.start is not None and seq < self.start

    def piece_after(self, seq: int) -> Piece | None:
        """The first kept piece with rows behind `seq`, cut to them; None if there is none yet."""
        at = bisect_right(self._pieces, seq, key=lambda piece: piece.seq)
        if at == len(self._pieces):
            return None
        piece = self._pieces[at]
        return piece if piece.after == seq else piece.since(seq)
