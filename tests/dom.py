"""HTML as a parser sees it, not as it looks in a string: what the tests of rendering compare and judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"br", "hr", "input", "img", "link", "meta", "base", "embed", "source", "area", "col", "track", "wbr"}


@dataclass
class Element:
    """An element, its attributes and what is in it; text is never empty and never beside other text."""

    name: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self) -> Iterator[Element]:
        """Every element in this one."""
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.all()

    def find(self, name: str) -> list[Element]:
        return [element for element in self.all() if element.name == name]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> in <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        children = self.open[-1].children
        if children and isinstance(children[-1], str):
            children[-1] += data
        else:
            children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")


def parse(html: str) -> Element:
    """The elements of `html`; fails where tags do not match."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    assert len(parser.open) == 1, f"<{parser.open[-1].name}> has no end"
    return parser.open[0]


def text_of(html: str) -> str:
    return parse(html).text


def apply(body: Element, frame: dict[str, Any]) -> None:
    """What an `html` frame does to the page (docs/protocol.md)."""
    place, keep = body, frame["keep"]
    for inner in frame["within"]:
        place, keep = _element(place, keep), inner
    for n in range(keep):
        _element(place, n)
    place.children[keep:] = parse(frame["html"]).children


def _element(place: Element, n: int) -> Element:
    """Its n-th child; beside text there would be no counting of elements."""
    child = place.children[n]
    assert isinstance(child, Element), f"text among the elements of <{place.name}>: {child}"
    return child
