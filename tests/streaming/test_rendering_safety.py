"""Whatever a model says, nothing of it runs, loads or disguises itself: judged on the elements a parser finds.

Each attack (tests/attacks.py) is tried in many surroundings, stored and in the middle of a stream, cut anywhere.
"""

from __future__ import annotations

import json
import re

import pytest

from streaming.document import Document
from streaming.frames import TEXT, Piece, Row
from streaming.highlighting import TOKENS
from streaming.markup import REL, clean
from streaming.rendering import render
from streaming.unfinished import render_live
from tests.attacks import ADDRESSES, LINKS, PLACES, TAGS, attacks
from tests.dom import Element, apply, parse

# Every element and attribute there may be, and the values the latter may have.
ALLOWED: dict[str, dict[str, str]] = {
    "h4": {}, "h5": {}, "h6": {}, "ul": {}, "li": {}, "blockquote": {}, "table": {}, "thead": {}, "tbody": {}, "tr": {},
    "hr": {}, "code": {}, "em": {}, "strong": {}, "del": {}, "br": {},
    "p": {"class": "task"},
    "ol": {"start": r"\d+"},
    "th": {"class": "center|right"},
    "td": {"class": "center|right"},
    "pre": {"tabindex": "0"},
    "div": {"class": "code|code-head|table", "tabindex": "0"},
    "span": {"class": "|".join(TOKENS)},
    "input": {"type": "checkbox", "disabled": "", "checked": "", "aria-label": "Done|To do"},
    "button": {
        "class": "copy-code needs-script",
        "type": "button",
        "data-action": "copy-code",
        "aria-label": "Copy the code",
    },
    "a": {"href": r"(?i:https?://|mailto:)[^\s<>\"]+", "rel": re.escape(REL), "target": "_blank", "class": "image"},
}  # fmt: skip


def judge(body: Element) -> None:
    for element in body.all():
        assert element.name in ALLOWED, element
        for name, value in element.attributes.items():
            pattern = ALLOWED[element.name].get(name)
            assert pattern is not None, element
            assert re.fullmatch(pattern, value or ""), element
        if element.name == "a":
            assert {"rel", "target"} <= set(element.attributes)
        if element.name == "input":
            assert "disabled" in element.attributes


@pytest.mark.parametrize("tag", TAGS, ids=range(len(TAGS)))
def test_no_element_of_a_models_own(tag: str) -> None:
    for place in PLACES:
        said = place.replace("{}", tag)
        judge(parse(render(said)))
        judge(parse(render_live(said)))


@pytest.mark.parametrize("address", ADDRESSES, ids=range(len(ADDRESSES)))
def test_no_address_but_of_the_web(address: str) -> None:
    for link in LINKS:
        said = link.replace("{}", address)
        judge(parse(render(said)))
        judge(parse(render_live(said)))


def test_there_are_several_thousand_attacks() -> None:
    assert len(set(attacks())) > 3000


@pytest.mark.parametrize("nth", range(8))
def test_nothing_appears_when_it_is_cut_anywhere(nth: int) -> None:
    """A fifth of the attacks in two frames each, cut at every position."""
    for said in attacks()[nth::37]:
        for cut in range(1, len(said)):
            document, body, version = Document(), Element(""), 0
            for row in (Row(1, TEXT, said[:cut], None), Row(2, TEXT, said[cut:], None)):
                shown = document.shown(Piece("s", row.seq - 1, (row,)), version)
                version = shown.version
                for frame in shown.native:
                    apply(body, json.loads(frame))
                judge(body)


def test_attacks_one_after_the_other_do_not_add_up() -> None:
    for between in ("", " ", "\n", "\n\n"):
        judge(parse(render(between.join(attacks()))))


def test_raw_html_is_there_to_be_read() -> None:
    for tag in TAGS:
        if "\x00" not in tag and "&" not in tag and "\x0b" not in tag:
            assert parse(render(f"```\n{tag}\n```")).text.endswith(f"{tag}\n")


@pytest.mark.parametrize("hostile", TAGS, ids=range(len(TAGS)))
def test_the_second_lock_holds_alone(hostile: str) -> None:
    """Were nothing escaped any more, what nh3 lets through would still do nothing."""
    for element in parse(clean(hostile)).all():
        assert element.name in ALLOWED
        assert set(element.attributes) <= set(ALLOWED[element.name])


def test_the_first_lock_holds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were there no nh3, every attack would still be text."""
    monkeypatch.setattr("streaming.rendering.clean", lambda html: html)
    monkeypatch.setattr("streaming.markup.clean", lambda html: html)
    for said in attacks():
        judge(parse(render(said)))


def test_the_judge_knows_an_attack() -> None:
    for html in ("<script></script>", "<p onclick='x'>", "<a href='javascript:x'>", "<img src='x'>", "<p id='x'>"):
        with pytest.raises(AssertionError):
            judge(parse(html if "script>" in html or "img" in html else f"{html}</{html[1]}>"))
