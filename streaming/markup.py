"""The only HTML there is for model text: elements with fixed tags, words that are escaped, links that are harmless.

What a model chooses inside an element (its words, links and emphasis) also passes nh3, which knows nothing of the rest:
two independent things must fail before a model says anything to a browser.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from html import escape as escape_html

import nh3

from streaming.highlighting import TOKENS, highlight

REL = "noopener noreferrer nofollow"
HIGHLIGHT_CHARS = 20_000
CLEANED_CHARS = 1000  # of what is worth remembering
PIECE_CHARS = 16_000
# Noncharacters, one for each ASCII punctuation mark (see `rendering.mask`).
MASK = {ord(mark): 0xFDD0 + n for n, mark in enumerate(string.punctuation)}
UNMASK = {mask: chr(mark) for mark, mask in MASK.items()}

_CLEANER = nh3.Cleaner(
    tags={"a", "br", "code", "del", "em", "span", "strong"},
    attributes={"a": {"href"}},
    tag_attribute_values={
        "a": {"rel": {REL}, "target": {"_blank"}, "class": {"image"}},
        "span": {"class": set(TOKENS)},
    },
    url_schemes={"http", "https", "mailto"},
    link_rel=None,
)
_SAFE_URL = re.compile(r"(?:https?://|mailto:)[^\s<>\"\x00-\x20\x7f]+", re.IGNORECASE)
_BARE_URL = re.compile(r"https?://[^\s<>\"`|()]+(?:\([^\s<>\"`|()]*\)[^\s<>\"`|()]*)*(?<![.,:;!?'*_~])")
_LANGUAGE = re.compile(r"[\w+#.-]{1,30}")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_COPY = (
    '<button class="copy-code needs-script" type="button" data-action="copy-code" aria-label="Copy the code"></button>'
)


@dataclass(slots=True)
class Node:
    """One element: a leaf with all its HTML in `open`, or a container with elements, and nothing else, for children.

    `born` and `changed` are versions of a document that is being written (streaming/document.py).
    """

    open: str
    close: str = ""
    children: list[Node] | None = None
    born: int = 0
    changed: int = 0

    @property
    def html(self) -> str:
        return self.open + html_of(self.children or ()) + self.close


def html_of(nodes: Iterable[Node]) -> str:
    return "".join(node.html for node in nodes)


def escape(text: str) -> str:
    """Text, masked or not, as HTML text."""
    return escape_html(text.translate(UNMASK), quote=False)


def clean(html: str) -> str:
    """Inline HTML without anything that `_CLEANER` does not know; what has no tag has nothing to clean."""
    if "<" not in html:
        return html
    return _clean(html) if len(html) <= CLEANED_CHARS else _CLEANER.clean(html)


@lru_cache(maxsize=4096)
def _clean(html: str) -> str:
    """The items of a list that grows come here again and again."""
    return _CLEANER.clean(html)


def link(url: str, kind: str = "") -> str:
    """The opening tag of a link; nothing if the address is not one that a page may offer."""
    url = url.translate(UNMASK)
    if not _SAFE_URL.fullmatch(url):
        return ""
    return f'<a{kind} href="{escape_html(url)}" rel="{REL}" target="_blank">'


def linked(text: str) -> str:
    """Text as HTML, with links on the addresses in it."""
    text = text.translate(UNMASK)
    parts, at = [], 0
    for found in _BARE_URL.finditer(text) if "://" in text else ():
        tag = link(found[0])
        parts += [escape(text[at : found.start()]), tag, escape(found[0]), "</a>" if tag else ""]
        at = found.end()
    return "".join([*parts, escape(text[at:])])


def spans(text: str) -> list[Node]:
    """Text as it is, an element for each line; the longest lines in several."""
    return [
        Node(f"<span>{escape(line[at : at + PIECE_CHARS])}</span>")
        for line in _LINES.findall(text)
        for at in range(0, len(line), PIECE_CHARS)
    ]


def code_block(info: str, code: str, *, unfinished: bool) -> Node:
    """A block of code with its head; in colours once it is finished, unless it is too long for that."""
    named = _LANGUAGE.match(info.translate(UNMASK))
    language = named[0] if named else ""
    code = code.translate(UNMASK)
    if unfinished or len(code) > HIGHLIGHT_CHARS:
        body = Node("<code>", "</code>", spans(code))
    else:
        body = Node(f"<code>{clean(highlight(language.lower(), code) or escape(code))}</code>")
    head = Node(f'<div class="code-head"><span>{escape(language)}</span>{_COPY}</div>')
    return Node('<div class="code">', "</div>", [head, Node('<pre tabindex="0">', "</pre>", [body])])
