"""Markdown to safe HTML: the one way from model text to markup, for stored pages and live frames alike.

The parser's events become elements of streaming/markup.py: raw HTML is shown as text, an image as a link, math as it
was written. What a page shows of a text of which more may follow is in streaming/unfinished.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape
from typing import Any

import pyromark

from streaming.markup import MASK, Node, clean, code_block, escape, html_of, link, linked, spans

_MARKDOWN = pyromark.Markdown(
    options=pyromark.Options.ENABLE_TABLES
    | pyromark.Options.ENABLE_STRIKETHROUGH
    | pyromark.Options.ENABLE_TASKLISTS
    | pyromark.Options.ENABLE_MATH
)
DEPTH = 24  # of blocks, and of inline markup; what is deeper is shown flat, before parsers and browsers give up
LEAF_CHARS = 128_000  # of the HTML of a leaf: longer ones are shown as they were written, in pieces that fit a frame

# The page's own headings go down to h3.
_HEADINGS = {"H1": "h4", "H2": "h5", "H3": "h6", "H4": "h6", "H5": "h6", "H6": "h6"}
_INLINE = {"Emphasis": "em", "Strong": "strong", "Strikethrough": "del"}
_ALIGNED = {"Center": ' class="center"', "Right": ' class="right"'}
_CHECKBOX = '<input type="checkbox" disabled aria-label="To do">'
_CHECKED = '<input type="checkbox" disabled checked aria-label="Done">'
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")

_UNFIT = re.compile("[\0\ufdd0-\ufdef]")
_INLINE_MATH = re.compile(r"\\\([^`\n]+?\\\)|\\\[[^`\n]+?\\\]|\$\$[^`$\n]+\$\$")
_DISPLAY_MATH = re.compile(r"[ \t]*(?:(?:[-+*]|\d{1,9}[.)])[ \t]+)*(\\\[|\$\$)")
_CLOSING = {"\\[": "\\]", "$$": "$$"}
_LEAVES_MATH = re.compile(r"[ \t>]*(?:```|~~~|\Z)|.*(?:-->|\?>|\]\]>|</)")


def render(text: str) -> str:
    """The HTML of a finished text."""
    return html_of(write(mask(normal(text))).nodes)


def normal(text: str) -> str:
    """`text` with LF for every line's end, without NUL and the characters that `mask` uses."""
    return _UNFIT.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def mask(text: str) -> str:
    r"""Replace the punctuation of \(…\), \[…\] and $$…$$, so that nothing in math means Markdown.

    One character for one, so positions stay. A display formula that begins a line goes on to its end or to where its
    paragraph must end: how a line is masked never depends on later ones.
    """
    if "\\(" not in text and "\\[" not in text and "$$" not in text:
        return text
    closing, indent, lines = "", 0, []
    for line in text.split("\n"):
        if closing and (_LEAVES_MATH.match(line) or len(line) - len(line.lstrip(" \t")) < indent):
            closing = ""
        opened = None if closing else _DISPLAY_MATH.match(line)
        if opened and _CLOSING[opened[1]] not in line[opened.end() :]:
            closing, indent = _CLOSING[opened[1]], opened.start(1)
            lines.append(line[:indent] + line[indent:].translate(MASK))
        elif closing:
            end = line.find(closing) + len(closing) if closing in line else len(line)
            closing = "" if closing in line else closing
            lines.append(line[:end].translate(MASK) + line[end:])
        else:
            lines.append(_INLINE_MATH.sub(lambda math: math[0].translate(MASK), line))
    return "\n".join(lines)


def defines(masked: str) -> bool:
    """Whether a link's definition is in a masked text: any element may need it."""
    return bool(_MARKDOWN.reference_definitions(masked))


@dataclass(frozen=True, slots=True)
class Written:
    """The top-level elements of a text, and where (in characters) the run of words begins that ends it, if one does."""

    nodes: list[Node]
    words_at: int | None


def starts(masked: str) -> list[int]:
    """Where each top-level element of a masked text begins, in characters."""
    found, nesting = [], 0
    for event, span in _MARKDOWN.events_with_range(masked):
        if nesting == 0:
            found.append(span["start"])
        nesting += 0 if isinstance(event, str) else ("Start" in event) - ("End" in event)
    source = masked.encode()
    return [len(source[:start].decode()) for start in found]


def write(masked: str, *, unfinished: bool = False) -> Written:
    """The elements of a masked text; `unfinished`: more may follow, so a block of code at its end is still open."""
    writer = _Writer(masked.encode(), unfinished)
    for event, span in _MARKDOWN.events_with_range(masked, merge_text=True):
        name, value = (event, None) if isinstance(event, str) else next(iter(event.items()))
        writer.take(name, value, span["start"], span["end"])
    return writer.written()


@dataclass(slots=True)
class _Writer:
    """Events in, elements out. A leaf is under way from the first word of a paragraph, heading, item or cell on."""

    source: bytes
    unfinished: bool
    words_at: int | None = None
    containers: list[Node] = field(default_factory=lambda: [Node("", "", [])])
    leaf: tuple[str, str] | None = None
    words: list[str] = field(default_factory=list)
    closers: list[str] = field(default_factory=list)
    row: list[str] = field(default_factory=list)
    aligned: tuple[str, ...] = ()
    code: list[str] | None = None

    def written(self) -> Written:
        words_at = None if self.words_at is None else len(self.source[: self.words_at].decode())
        return Written(self.containers[0].children or [], words_at)

    def take(self, name: str, value: Any, start: int, end: int) -> None:
        if name == "Start":
            tag, data = (value, None) if isinstance(value, str) else next(iter(value.items()))
            self._start(tag, data, start)
        elif name == "End":
            self._end(value if isinstance(value, str) else next(iter(value)), start, end)
        elif name == "Rule":
            self._end_leaf()
            self._add(Node("<hr>"))
            self.words_at = None
        elif self.code is not None:
            self.code.append(value)
        elif name == "TaskListMarker":
            self.leaf = ('<p class="task">' + (_CHECKED if value else _CHECKBOX), "</p>")
        else:
            self._say(self._inline(name, value))

    def _start(self, tag: str, data: Any, start: int) -> None:
        if tag in _INLINE:
            self._say(self._opened(f"<{_INLINE[tag]}>", f"</{_INLINE[tag]}>"))
        elif tag in ("Link", "Image"):
            opening = (
                "" if "</a>" in self.closers else link(data["dest_url"], ' class="image"' if tag == "Image" else "")
            )
            self._say(self._opened(opening, "</a>" if opening else ""))
        else:
            self._end_leaf()
            # A block of code and raw HTML are no run of words, or not one that could end in half a mark.
            self.words_at = None if tag in ("CodeBlock", "HtmlBlock") else start
            self._start_block(tag, data)

    def _start_block(self, tag: str, data: Any) -> None:
        if tag == "Paragraph" or tag == "HtmlBlock":
            self.leaf = ("<p>", "</p>")
        elif tag == "Heading":
            level = _HEADINGS[data["level"]]
            self.leaf = (f"<{level}>", f"</{level}>")
        elif tag == "CodeBlock":
            self.code = [data["Fenced"] if isinstance(data, dict) else ""]
        elif tag == "BlockQuote":
            self._enter("<blockquote>", "</blockquote>")
        elif tag == "List":
            numbered = f'<ol start="{data}">' if data != 1 else "<ol>"
            self._enter(*(("<ul>", "</ul>") if data is None else (numbered, "</ol>")))
        elif tag == "Item":
            self._enter("<li>", "</li>")
        elif tag == "Table":
            self.aligned = data
            self._enter('<div class="table" tabindex="0">', "</div>")
            self._enter("<table>", "</table>")
        elif tag == "TableHead":
            self._enter("<thead>", "</thead>")
        elif tag == "TableCell":
            aligned = _ALIGNED.get(self.aligned[len(self.row)], "") if len(self.row) < len(self.aligned) else ""
            cell = "th" if self.containers[-1].open == "<thead>" else "td"
            self.leaf = (f"<{cell}{aligned}>", f"</{cell}>")

    def _end(self, tag: str, start: int, end: int) -> None:
        if tag in _INLINE or tag in ("Link", "Image"):
            if tag == "Image" and self.words and self.words[-1].startswith("<a"):
                self.words.append("image")  # It has no name of its own.
            self.words.append(self.closers.pop())
        elif tag == "CodeBlock" and self.code is not None:
            info, *code = self.code
            self._add(code_block(info, "".join(code), unfinished=self.unfinished and end == len(self.source)))
            self.code = None
        else:
            if tag in ("Heading", "TableCell") and (end < len(self.source) or b"\n" in self.source[start:end]):
                self.words_at = None  # Words that follow are not part of it.
            self._end_leaf()
            self._end_block(tag)

    def _end_block(self, tag: str) -> None:
        if tag in ("TableHead", "TableRow"):
            self._add(_sized("<tr>", "".join(self.row), "</tr>"))
            self.row = []
        if tag in ("BlockQuote", "List", "Item", "TableHead"):
            self.containers.pop()
        if tag == "TableHead":
            self._enter("<tbody>", "</tbody>")
        if tag == "Table":
            del self.containers[-3:]

    def _inline(self, name: str, value: Any) -> str:
        """The HTML of an event that is not a tag's."""
        if name == "Code":
            return f"<code>{escape(value)}</code>"
        if name == "Text":
            return escape(value) if "</a>" in self.closers else linked(value)
        if name == "HardBreak" or (name == "InlineHtml" and _BREAK.fullmatch(value)):
            return "<br>"
        marks = {"SoftBreak": "\n", "InlineMath": f"${value}$", "DisplayMath": f"$${value}$$"}
        return escape(marks.get(name, value))

    def _say(self, html: str) -> None:
        if self.leaf is None:
            self.leaf = ("<p>", "</p>")  # The item of a tight list has no paragraphs.
        self.words.append(html)

    def _opened(self, opening: str, closing: str) -> str:
        """An inline tag that is to be closed, or nothing where there are too many already."""
        deep = len(self.closers) >= DEPTH
        self.closers.append("" if deep else closing)
        return "" if deep else opening

    def _end_leaf(self) -> None:
        if self.leaf is None:
            return
        opening, closing = self.leaf
        html = clean("".join(self.words))
        self.leaf, self.words = None, []
        if closing in ("</td>", "</th>"):
            self.row.append(opening + html + closing)
        else:
            self._add(_sized(opening, html, closing))

    def _add(self, node: Node) -> None:
        children = self.containers[-1].children
        assert children is not None
        children.append(node)

    def _enter(self, opening: str, closing: str) -> None:
        node = self.containers[-1]
        if len(self.containers) <= DEPTH:
            node = Node(opening, closing, [])
            self._add(node)
        self.containers.append(node)


def _sized(opening: str, html: str, closing: str) -> Node:
    """A leaf; one too long for a frame has its text in pieces, without markup."""
    if len(html) <= LEAF_CHARS:
        return Node(opening + html + closing)
    pieces = spans(unescape(_TAG.sub("", html)))
    if opening == "<tr>":
        return Node("<tr>", "</tr>", [Node("<td>", "</td>", pieces)])
    return Node("<p>", "</p>", pieces)
