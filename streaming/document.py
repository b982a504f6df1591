"""An answer that is being written, as HTML: rendered once per process and shared by all its pages.

What a page shows at any position equals `render_live` of the text up to there, and `render` of the whole at the end,
however it was cut; but only the last block is rendered again, and pages get the elements that changed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from streaming.frames import END, RESTART, TEXT, Piece, Row, encode, native_frames
from streaming.markup import Node, html_of, spans
from streaming.rendering import defines, mask, normal, starts, write
from streaming.unfinished import decided, live_nodes

PAUSE_S = 1 / 15
SHARE = 0.2  # of a core is the most that rendering one answer takes
HTML_CHARS = 128_000  # in one frame; a character is at most 6 bytes of JSON, and frames are to stay below 1 MiB

_OPENING = re.compile(r"(`{3,})[^`\n]*\n|(~{3,})[^\n]*\n")


@dataclass(frozen=True)
class Rendered(Piece):
    """Rows as pages get them: the text among them has become HTML."""

    frames: tuple[str, ...]
    version: int

    @cached_property
    def native(self) -> tuple[str, ...]:
        return self.frames

    @cached_property
    def size(self) -> int:
        return sum(map(len, self.frames)) + 100 * len(self.rows)


class Document:
    """The text of a stream up to `seq` and its elements; `version` counts the changes of these."""

    def __init__(self) -> None:
        self.seq = 0
        self.version = 0
        self.ended = False
        self.alarmed = False  # somebody sees to it that readers are woken when the pause is over
        self._due = 0.0
        self._nodes: list[Node] = []
        self._frames: dict[tuple[int, int], tuple[str, ...]] = {}
        self._begin()

    def _begin(self) -> None:
        self._text = ""
        self._cr = False
        self._stale = True
        self._nodes = []
        self._settled = 0  # so many elements are as they will be,
        self._at = 0  # and this is where the text of the others begins
        self._judged = 0  # of that text, what was looked at for elements to settle
        self._whole = False  # a link's definition may change any element
        self._fence: re.Pattern[str] | None = None  # ends the block of code that the text is in
        self._code_at = 0
        self._lines = 0

    def take(self, rows: Iterable[Row]) -> None:
        """Add the rows behind `seq`; the ones before it may come along."""
        words: list[str] = []
        for row in rows:
            if row.seq <= self.seq:
                continue
            new = row.behind(self.seq)
            self.seq = row.seq
            if row.kind == TEXT:
                words.append(new.text)
            elif row.kind == RESTART:
                words.clear()
                self._begin()
            elif row.kind == END:
                self.ended = self._stale = True
        if words:
            self._say("".join(words))

    def _say(self, text: str) -> None:
        if text:
            # The other half of a line's end may come alone.
            self._text += normal(text[1:] if self._cr and text[0] == "\n" else text)
            self._cr = text[-1] == "\r"
        self._stale = True

    @property
    def pause_s(self) -> float:
        """How long it is too early to render again."""
        return max(0.0, self._due - time.monotonic())

    def render(self) -> None:
        """Bring the elements up to the text."""
        if not self._stale:
            return
        begun = time.monotonic()
        self._stale = self.alarmed = False
        self._frames = {}
        self.version += 1
        if self.ended or not self._extend_code():
            settled = [] if self.ended else self._settle()
            fresh = self._last_nodes() if self.ended else live_nodes(self._text, self._at)
            merge(self._nodes, settled + fresh, self.version, self._settled)
            self._settled += len(settled)
        now = time.monotonic()
        self._due = now + max(PAUSE_S, (now - begun) * (1 - SHARE) / SHARE)

    def _last_nodes(self) -> list[Node]:
        """The elements that are left to render at the end; all of them if math might have gone beyond its block."""
        if mask(self._text) is not self._text:
            self._at = self._settled = 0
        return write(mask(self._text[self._at :])).nodes

    def _settle(self) -> list[Node]:
        """Leave the elements behind that no further text can change: all but the last one of the complete lines."""
        tail = self._text[self._at :]
        if not self._whole and "]:" in tail and defines(mask(tail)):
            self._whole = True
            self._at = self._settled = 0
        complete = self._text[self._at : self._text.rfind("\n", 0, decided(self._text)) + 1]
        if self._whole or len(complete) <= self._judged:
            return []
        last = starts(mask(complete))[-1:]
        start = complete.rfind("\n", 0, last[0]) + 1 if last else 0
        self._at += start
        self._judged = len(complete) - start
        self._enter_code(complete[start:])
        return write(mask(complete)).nodes[:-1] if start else []

    def _enter_code(self, tail: str) -> None:
        """See whether the text has come into a block of code that begins with `tail`."""
        if opening := _OPENING.match(tail):
            fence = (opening[1] or opening[2]).strip()
            closing = re.compile(rf"^ {{0,3}}{fence}{fence[0]}*[ \t]*\n", re.MULTILINE)
            if not closing.search(tail, opening.end()):
                self._fence, self._code_at, self._lines = closing, self._at + opening.end(), 0

    def _extend_code(self) -> bool:
        """Add lines to the block of code that the text is in; False if it is in none, or not any more."""
        if self._fence is None or self._fence.search(self._text, self._code_at):
            self._fence = None
            return False
        block = self._nodes[-1]
        pre = (block.children or [])[-1]
        code = (pre.children or [])[-1]
        assert code.children is not None
        block.changed = pre.changed = code.changed = self.version
        code_text = self._text[self._code_at : decided(self._text)]
        merge(code.children, spans(code_text), self.version, self._lines)
        # The last two lines may not be decided: these are looked at again.
        done = self._text[self._code_at :].rsplit("\n", 3)
        if len(done) == 4:
            self._code_at += len(done[0]) + 1
            self._lines += len(spans(done[0] + "\n"))
        return True

    @property
    def html(self) -> str:
        return html_of(self._nodes)

    def shown(self, piece: Piece, version: int) -> Rendered:
        """Rows for a page that shows `version`. Once they reach what is known here, the page gets what has changed."""
        self.take(piece.rows)
        if piece.seq < self.seq:
            return Rendered(piece.stream, piece.after, piece.rows, _native(piece.stream, piece.rows), version)
        self.render()
        at = max((n for n, row in enumerate(piece.rows, 1) if row.kind in (TEXT, RESTART)), default=0)
        seq = piece.seq if piece.ends else piece.rows[at - 1].seq if at else piece.after
        frames = _native(piece.stream, piece.rows[:at]) + self.frames(piece.stream, version, seq)
        frames += _native(piece.stream, piece.rows[at:])
        return Rendered(piece.stream, piece.after, piece.rows, frames, self.version)

    def frames(self, stream: str, version: int, seq: int) -> tuple[str, ...]:
        """What brings a page that shows `version` to this one; nothing if it does."""
        if version == self.version:
            return ()
        key = (version, seq)
        if key not in self._frames:
            self._frames[key] = tuple(
                encode({"type": "html", "stream": stream, "seq": seq, "keep": keep, "within": within, "html": html})
                for (keep, *within), html in changes(self._nodes, version)
            )
        return self._frames[key]


def _native(stream: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """The frames of all rows but the text's."""
    return tuple(encode(frame) for frame in native_frames(stream, [row for row in rows if row.kind != TEXT]))


def merge(old: list[Node], new: list[Node], version: int, at: int = 0) -> bool:
    """Make `old` equal `new` from `at` on, keeping the elements that stay; whether any changed."""
    changed = len(old) - at > len(new)
    del old[at + len(new) :]
    if changed and old:  # What is gone leaves no mark but on its neighbour.
        old[-1].born = old[-1].changed = version
    for n, node in enumerate(new, at):
        was = old[n] if n < len(old) else None
        if was is None or was.open != node.open or (was.children is None) != (node.children is None):
            node.born = node.changed = version
            old[n : n + 1] = [node]
            changed = True
        elif was.children is not None and merge(was.children, node.children or [], version):
            was.changed = version
            changed = True
    return changed


Path = tuple[int, ...]


def changes(nodes: list[Node], version: int, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Where, and by what HTML, the end of `nodes` as of `version` is to be replaced.

    A path leads to the place: so many elements are kept, of the next one's children so many, and so on.
    """
    keep = next((n for n, node in enumerate(nodes) if node.changed > version), len(nodes))
    last = nodes[keep] if keep == len(nodes) - 1 else None
    if last and last.children is not None and last.born <= version:
        yield from changes(last.children, version, (*path, keep))
    else:
        yield from portions(nodes, keep, path)


def portions(nodes: list[Node], at: int, path: Path) -> Iterator[tuple[Path, str]]:
    """The HTML of `nodes` from `at` on in portions that fit a frame; a larger container comes empty at first."""
    html, begin = "", at
    for n, node in enumerate(nodes[at:], at):
        own = node.html
        if html and len(html) + len(own) > HTML_CHARS:
            yield (*path, begin), html
            html, begin = "", n
        if len(own) > HTML_CHARS and node.children:
            yield (*path, n), node.open + node.close
            yield from portions(node.children, 0, (*path, n))
            begin = n + 1
        else:
            html += own
    if html or begin == at:
        yield (*path, begin), html
