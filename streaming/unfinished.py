"""Half-written Markdown: what a text of which more may follow should look like, so that nothing flashes.

A mark that is still being typed is held back; emphasis, code and links that are begun count as if they were closed.
Both are about the last lines of the text alone, so what comes before its last block never changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from streaming.markup import MASK, Node, html_of
from streaming.rendering import mask, normal, write

LINE_CHARS = 1000
WORDS_CHARS = 10_000
_ITEM = r"[ \t>]*(?:(?:[-+*]|\d{1,9}[.)])[ \t]+)*"
# What a last line may be that another character would turn into something else.
_UNDECIDED = re.compile(
    rf"{_ITEM}(?:"
    r"(?:\d{1,9}[.)]?|[-+*=_#|:~`>\\!\[\] \t])[-+*=_#|:~`>\\\[\] \t]*"  # a list's, table's, heading's or rule's mark
    r"|\[[xX]?\]?"  # a task's box
    r"|```+[^`]*|~~~+.*"  # the beginning of a block of code, with part of its language
    r"|\[[^\]]*\]:.*"  # a link's definition, which is not shown
    r")"
)
_MARKS = re.compile(r"\\[\s\S]|(`+)|([*_]+|~~+)|(!?\[)|(\])")
_ADDRESS = re.compile(r"\((?:[^()\\\n]|\\.|\([^()\n]*\))*\)")
_TYPING = re.compile(r"(?:(?<!\\)(?:[*_]+|~+)|(?<!\\)\\|!?\[)\Z")
_NO_ADDRESS = re.compile(r"\([ \t]*[^<\s]\S*[ \t]+[^\"'(\s)]")
# What may come to stand at a line's beginning when the bracket before it goes: nothing that could begin a block.
_PLAIN = re.compile(r"[^\W\d_]|`(?!`)|\*\*?\w|[\"'(]")
_NO_WORDS = re.compile(rf"(?:[^\n]*\n)*{_ITEM}[ \t]*")
_OPEN_MATH = re.compile(r"(?:\\[(\[]|\$\$)[^`\n]*\Z")
_LINE_END = re.compile(r"\n[ \t>\n]*\Z")


def render_live(text: str) -> str:
    """The HTML of a text of which more may follow."""
    return html_of(live_nodes(normal(text)))


def live_nodes(text: str, at: int = 0) -> list[Node]:
    """The elements of a normal text of which more may follow, from `at` on, where a block begins."""
    shown = mask(text[at:])[: max(decided(text) - at, 0)]
    shown = _OPEN_MATH.sub(lambda math: math[0].translate(MASK), shown)
    written = write(shown, unfinished=True)
    if written.words_at is None:
        return written.nodes
    words = shown[written.words_at :]
    closed = close(words)
    return written.nodes if closed == words else write(shown[: written.words_at] + closed, unfinished=True).nodes


def decided(text: str) -> int:
    """How much of a text to show: not a last line, or table's first, that may yet become something else."""
    end = len(text)
    start = text.rfind("\n") + 1
    if start < end <= start + LINE_CHARS and _UNDECIDED.fullmatch(text, start):
        end = start
    above = text.rfind("\n", 0, max(start - 1, 0)) + 1
    before = text.rfind("\n", 0, max(above - 1, 0)) + 1
    if _is_row(text[start:end]) and not _is_row(text[above:start]):
        return start
    if start == end and _is_row(text[above:start]) and not _is_row(text[before:above]):
        return above
    return end


def _is_row(line: str) -> bool:
    return line.lstrip(" \t>").startswith("|")


@dataclass(slots=True)
class _Open:
    """Marks that wait for their other half: `mark` repeated `count` times, from `at` to `end`."""

    mark: str
    count: int
    at: int
    end: int


@dataclass(slots=True)
class _Scan:
    """One pass over a run of words, keeping what is open. `text` loses brackets on the way."""

    text: str
    open: list[_Open] = field(default_factory=list)
    code: str = ""

    def run(self) -> None:
        at = 0
        while not self.code and (found := _MARKS.search(self.text, at)):
            at = found.end()
            if found[1]:
                at = self._ticks(found[1], at)
            elif found[2]:
                self._emphasis(found[2], found.start(), at)
            elif found[3]:
                self.open.append(_Open("[", 1, found.start(), at))
            elif found[4]:
                at = self._bracket(found.start(), at)

    def _ticks(self, ticks: str, at: int) -> int:
        closing = re.compile(f"(?<!`){ticks}(?!`)").search(self.text, at)
        if closing:
            return closing.end()
        self.text = self.text[:at] + self.text[at:].rstrip("`")
        if self.text[at:].strip():
            self.code = ticks
        else:
            self.text = self.text[: at - len(ticks)].rstrip()
        return at

    def _emphasis(self, run: str, start: int, end: int) -> None:
        before, after = self.text[start - 1 : start] or " ", self.text[end : end + 1] or " "
        mark, count = run[0], len(run)
        left = not after.isspace() and (after.isalnum() or not before.isalnum())
        right = not before.isspace() and (before.isalnum() or not after.isalnum())
        within = mark == "_" and before.isalnum() and after.isalnum()
        if right and not within:
            while count and (waiting := self._waiting(mark)):
                both = min(count, waiting.count)
                count -= both
                waiting.count -= both
                waiting.end -= both
                del self.open[self.open.index(waiting) + bool(waiting.count) :]
        if count and left and not within:
            self.open.append(_Open(mark, count, end - count, end))

    def _waiting(self, mark: str) -> _Open | None:
        return next((each for each in reversed(self.open) if each.mark == mark), None)

    def _bracket(self, start: int, end: int) -> int:
        opened = self._waiting("[")
        if opened is None or self._begins_line(opened):
            return end
        del self.open[self.open.index(opened) :]
        if address := _ADDRESS.match(self.text, end):
            return address.end()
        rest = self.text[end:]
        if rest and (not rest.startswith("(") or "\n" in rest or _NO_ADDRESS.match(rest)):
            return end  # Only brackets, or a link whose address is elsewhere.
        label = self.text[opened.end : start]
        self.text = self.text[: opened.at] + label
        return opened.at  # Its own marks are looked at once more, as any others.

    def _begins_line(self, bracket: _Open) -> bool:
        """Whether text that is more than words may come to stand at a line's beginning without the bracket."""
        return bool(_NO_WORDS.fullmatch(self.text, 0, bracket.at)) and not _PLAIN.match(self.text, bracket.end)

    def closed(self) -> str:
        """The text with everything that is open closed, or left out where nothing follows it."""
        text, closing = self.text, self.code
        if self.code:
            text = text.rstrip()
        for each in reversed(self.open):
            if each.mark == "[":
                text = text if self._begins_line(each) else text[: each.at] + text[each.end :]
                continue
            text = text if closing else text.rstrip()
            if each.end >= len(text) and not closing:
                text = text[: each.at]
            else:
                closing += each.mark * each.count
        return text + closing


def close(words: str) -> str:
    """A run of words at the end of a text as it will look once its marks are closed."""
    end = _LINE_END.search(words)
    body = words[: end.start()] if end else words
    if len(words) > WORDS_CHARS or words[len(body) :].count("\n") > 1:
        return words
    scan = _Scan(_TYPING.sub("", body))
    scan.run()
    closed = scan.closed()
    return words if end and _NO_WORDS.fullmatch(closed + " ") else closed + words[len(body) :]
