"""The newest rows of a stream as one process keeps them, and the readers that have come as far as that.

A reader that has taken all there is stands at the tail, and moves on with it: what is added is written to its client at
once. To wake a task would cost as much as sending; to look each reader up and move it, half as much.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings

from streaming.document import Document
from streaming.frames import Piece, Reading

if TYPE_CHECKING:
    from streaming.reader import Reader

logger = logging.getLogger(__name__)
SINGLE_PIECES = 32
Form = Callable[[Piece | Reading], Any]


@dataclass(frozen=True, slots=True)
class Push:
    """How a client is written to at once. `form` makes of an item what all clients of a kind are written, or None if
    it is not for that; `write` writes it, or says that it cannot and has written nothing."""

    form: Form
    write: Callable[[Any], bool]


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
        self._standing: dict[Form, dict[Reader, Callable[[Any], bool]]] = {}

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
        if self._size > 2 * settings.HUB_RECENT_BYTES:
            self._trim()
        for form, standing in self._standing.items():
            if standing:
                self._write(self._formed(new, form), standing, new.after)
            if new.ends:
                self._finish(standing)
        return True

    def report(self, progress: dict[str, Any]) -> None:
        """Tell how the stream gets on. Clients of a kind that is not told of it do not hear of it later either."""
        reading = Reading(self.stream, progress)
        for form, standing in self._standing.items():
            if standing and (data := self._formed(reading, form)) is not None:
                self._write(data, standing, self.last or 0)
        self.progress = reading

    def stand(self, reader: Reader, push: Push) -> None:
        """`reader` has taken all there is; what is added is written to its client until it leaves."""
        self._standing.setdefault(push.form, {})[reader] = push.write

    def leave(self, reader: Reader, push: Push) -> bool:
        """Whether `reader` stood here, and so has come as far as this."""
        return self._standing.get(push.form, {}).pop(reader, None) is not None

    def others(self, readers: set[Reader]) -> set[Reader]:
        """Those of `readers` that do not stand here."""
        return readers.difference(*self._standing.values())

    def _formed(self, item: Piece | Reading, form: Form) -> Any:
        try:
            return form(item)
        except Exception:
            logger.exception("a push of %s could not be formed", self.stream)
            return None

    def _write(self, data: Any, standing: dict[Reader, Callable[[Any], bool]], seq: int) -> None:
        """Whom it could not be written to stays where it stood, at `seq`, to go on by itself once it is woken."""
        left: list[Reader] = []
        broken: list[Reader] = []
        for reader, write in standing.items():
            try:
                if data is None or not write(data):
                    left.append(reader)
            except Exception:
                # It must not keep the piece from those behind it.
                logger.exception("a push of %s failed", self.stream)
                broken.append(reader)
        for reader in left + broken:
            del standing[reader]
            reader.stay(self.stream, seq)
        for reader in broken:
            reader.cannot_push()

    def _finish(self, standing: dict[Reader, Callable[[Any], bool]]) -> None:
        for reader in standing:
            reader.finish(self.stream)
        standing.clear()

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
        while self._size > settings.HUB_RECENT_BYTES and dropped < len(self._pieces) - 1:
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
