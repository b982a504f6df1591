"""Markdown while it is being written: equal to a fresh page at every position, without flashes, and cheap."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming.document import Document
from streaming.frames import END, REASONING, RESTART, RETRY, TEXT, Piece, Row, joined
from streaming.rendering import render, write
from streaming.unfinished import render_live
from tests.dom import Element, apply, parse

PIECES = [
    "# ", "## h", "\n", "\n\n", "- ", "* ", "1. ", "2) ", "> ", "```", "```py\n", "~~~", "    ", "  ", "|",
    " | a | b |\n", "|---|---|\n", "---", "===", "**", "*", "_", "`", "``", "~~", "[", "](http://x.y)", "]", "![",
    "[foo]: /url\n", "[foo]", "<div>", "</div>", "<!--", "-->", "<br>", "<script>", "\\(", "\\)", "\\[", "\\]", "$$",
    "$", "\\", "word", "two words", "é", "😀", "\r", "\r\n", "&amp;", "&", "1", "- [ ] ", "- [x] ", "\t", "x_y_z",
    "https://a.b/c", "<a@b.c>", "'title", "def f():\n", "]: /u\n", "{", ":", "+", "http://q", "\u2028", "\x00",
    "\ufdd0",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
DOCUMENT = """\
# A title

Some *soft*, **loud** and ***both*** words, `code`, ~~gone~~ and a [link *to*](https://a.b "there").

1. First **item**
2. Second

   ```python
   x = "a | b"
   ```

- [x] a task
- [ ] another with `code`

| Name | What *it* is |
|:-----|-----:|
| one | **1** |

> A quote with an ![image](https://a.b/c.png)

~~~
1 | 2
~~~

The formula \\(a*b*c\\) and the end.
"""


class Page:
    """A page that was opened at some position, and is kept up to date by frames."""

    def __init__(self, text: str = "") -> None:
        self.body = parse(render_live(text))
        self.version = 0

    def catch_up(self, document: Document, *rows: Row) -> list[dict[str, Any]]:
        shown = document.shown(Piece("s", rows[0].seq - 1, rows), self.version)
        frames = [json.loads(frame) for frame in shown.native]
        for frame in frames:
            if frame["type"] == "html":
                apply(self.body, frame)
            elif frame["type"] == "restart":
                self.body.children.clear()
        self.version = shown.version
        return frames


def end(seq: int) -> Row:
    return Row(seq, END, "", {"status": "done", "finish_reason": "stop", "usage": None, "error": None})


def rows_of(pieces: list[str]) -> list[Row]:
    return [Row(seq, TEXT, piece, None) for seq, piece in enumerate(pieces, 1)]


@st.composite
def cuttings(draw: st.DrawFn) -> tuple[list[str], list[int]]:
    """A text in pieces, and after which of these each of three pages looks."""
    text = draw(TEXTS)
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=30)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return pieces, draw(st.lists(st.integers(0, 7), min_size=len(pieces), max_size=len(pieces)))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuttings())
def test_every_page_equals_a_fresh_one_at_every_position_it_comes_to(cutting: tuple[list[str], list[int]]) -> None:
    pieces, looks = cutting
    document, pages, text = Document(), [Page(), Page(), Page()], ""
    for row, look in zip(rows_of(pieces), looks, strict=True):
        text += row.text
        document.take([row])
        for n, page in enumerate(pages):
            if look >> n & 1:
                page.catch_up(document, row)
                assert page.body == parse(render_live(text))
                assert document.html == render_live(text)
    for page in pages:
        page.catch_up(document, end(len(pieces) + 1))
        assert page.body == parse(render(text))
    assert document.html == render(text)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.data())
def test_a_page_opened_in_mid_answer_is_kept_up_to_date(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    document, page = Document(), Page(text[:cut])
    document.take([Row(1, TEXT, text[:cut], None)])
    page.catch_up(document, Row(2, TEXT, text[cut:], None), end(3))
    assert page.body == parse(render(text))


def test_nothing_flashes_while_a_document_is_written() -> None:
    """No mark appears that is taken back, and no block changes its kind."""
    kinds: list[str] = []
    for size in range(len(DOCUMENT) + 1):
        body = parse(render_live(DOCUMENT[:size]))
        assert not set(body.text.partition("The formula")[0]) & set("#*~[]_")
        now = [child.name for child in body.children if isinstance(child, Element)]
        assert now[: len(kinds)] == kinds
        kinds = now
    assert body.text.endswith("The formula \\(a*b*c\\) and the end.")
    assert kinds == ["h4", "p", "ol", "ul", "div", "blockquote", "div", "p"]


@pytest.mark.parametrize(
    ("half", "html"),
    [
        ("a **b", "<p>a <strong>b</strong></p>"),
        ("a **b*", "<p>a <strong>b</strong></p>"),
        ("a **b** *c **d", "<p>a <strong>b</strong> <em>c <strong>d</strong></em></p>"),
        ("a **", "<p>a</p>"),
        ("a `b c", "<p>a <code>b c</code></p>"),
        ("a `", "<p>a</p>"),
        ("a ``b`", "<p>a <code>b</code></p>"),
        ("~~gon", "<p><del>gon</del></p>"),
        ("a [b", "<p>a b</p>"),
        ("a [b]", "<p>a b</p>"),
        ("a [b](https://c", "<p>a b</p>"),
        ("a [**b", "<p>a <strong>b</strong></p>"),
        ("a ![b](https://c", "<p>a b</p>"),
        ("a [0] b", "<p>a [0] b</p>"),
        ("2 * 3 * 4", "<p>2 * 3 * 4</p>"),
        ("snake_case_name", "<p>snake_case_name</p>"),
        (r"a \*b", "<p>a *b</p>"),
        ("a\n-", "<p>a</p>"),
        ("a\n==", "<p>a</p>"),
        ("12", ""),
        ("#", ""),
        ("- [", ""),
        ("a\n\n```pyth", "<p>a</p>"),
        ("a\n\n| b | c", "<p>a</p>"),
        ("a\n\n| b |\n|--", "<p>a</p>"),
        ("a\n\n[b]: https://c", "<p>a</p>"),
        ("> **a", "<blockquote><p><strong>a</strong></p></blockquote>"),
        ("- a\n- **b", "<ul><li><p>a</p></li><li><p><strong>b</strong></p></li></ul>"),
        ("# *a", "<h4><em>a</em></h4>"),
        ("**a\n\nb", "<p>**a</p><p>b</p>"),
    ],
)
def test_half_written_marks(half: str, html: str) -> None:
    assert render_live(half) == html


def test_a_block_of_code_is_open_until_its_fence_closes() -> None:
    assert "<span>x = 1</span>" in render_live("```py\nx = 1")
    assert "tok-number" in render_live("```py\nx = 1\n```\n")


def test_a_row_of_a_table_appears_cell_by_cell() -> None:
    html = render_live("| a | b |\n|---|---|\n| c | **d")
    assert [cell.text for cell in parse(html).find("td")] == ["c", "d"]


def test_a_restart_begins_an_empty_page() -> None:
    document, page = Document(), Page()
    page.catch_up(document, Row(1, TEXT, "Same\n\nother", None))
    page.catch_up(document, Row(2, RESTART, "", {"attempt": 2}))
    assert page.body.children == []
    page.catch_up(document, Row(3, TEXT, "Same", None))
    assert page.body == parse("<p>Same</p>")


def test_what_a_restart_leaves_unseen_is_never_shown() -> None:
    document, page = Document(), Page()
    frames = page.catch_up(
        document, *rows_of(["Wrong"]), Row(2, RESTART, "", {"attempt": 2}), Row(3, TEXT, "Right", None)
    )
    assert [frame["type"] for frame in frames] == ["restart", "html"]
    assert page.body.text == "Right"


def test_frames_of_a_page_come_in_the_order_of_the_log() -> None:
    rows = [
        Row(1, REASONING, "hm", None), Row(2, TEXT, "a", None), Row(3, REASONING, "so", None),
        Row(4, RETRY, "", {"attempt": 2, "of": 3, "wait_s": 1.0, "reason": "cut"}), end(5),
    ]  # fmt: skip
    frames = Page().catch_up(Document(), *rows[:4])
    assert [(frame["type"], frame["seq"]) for frame in frames] == [
        ("delta", 1),
        ("html", 2),
        ("delta", 3),
        ("retry", 4),
    ]


def test_the_end_comes_behind_the_finished_text() -> None:
    document, page = Document(), Page()
    page.catch_up(document, *rows_of(["a **b"]))
    frames = page.catch_up(document, end(2))
    assert [(frame["type"], frame["seq"]) for frame in frames] == [("html", 2), ("end", 2)]
    assert page.body.text == "a **b"


def test_of_a_row_that_stands_for_several_only_what_is_new_is_added() -> None:
    document, rows = Document(), rows_of([f"{n} " for n in range(8)])
    for some in (rows[:4], joined(rows[2:6]), joined(rows)):
        document.take(some)
    document.render()
    assert parse(document.html) == parse("<p>0 1 2 3 4 5 6 7</p>")


def test_pages_at_the_same_version_share_their_frames() -> None:
    document, row = Document(), Row(1, TEXT, "Hello", None)
    frames = [document.shown(Piece("s", 0, (row,)), 0).native[0] for _ in range(2)]
    assert frames[0] is frames[1]


def test_of_a_long_list_only_the_last_item_is_sent() -> None:
    document, page = Document(), Page()
    page.catch_up(document, Row(1, TEXT, "- item\n" * 1000, None))
    (frame,) = page.catch_up(document, Row(2, TEXT, "- la", None))
    assert (frame["keep"], frame["within"], frame["html"]) == (0, [1000], "<li><p>la</p></li>")


def test_a_long_block_of_code_costs_and_weighs_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0

    def count(masked: str, **options: Any) -> Any:
        nonlocal written
        written += len(masked)
        return write(masked, **options)

    monkeypatch.setattr("streaming.document.write", count)
    monkeypatch.setattr("streaming.unfinished.write", count)
    document, page, line = Document(), Page(), "so many characters in one line of code\n"
    page.catch_up(document, Row(1, TEXT, "```py\n", None))
    weights = [
        len(frame["html"]) for seq in range(2, 2002) for frame in page.catch_up(document, Row(seq, TEXT, line, None))
    ]
    assert max(weights) < 500
    assert written < 1000
    assert page.body == parse(render_live("```py\n" + line * 2000))


@pytest.mark.parametrize(
    "text",
    [
        "word " * 100_000, "<&" * 200_000, "- item\n" * 9000, "```\n" + "code\n" * 9000, "```\n" + "<" * 400_000,
        "```py\n" + "f()\n" * 5000 + "```", "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 5000, "\1" * 300_000,
        "> " + "a\n\n> " * 9000,
    ],
    ids=lambda text: text[:9],
)  # fmt: skip
@pytest.mark.parametrize("ended", [False, True])
def test_no_frame_of_a_page_is_larger_than_the_limit(text: str, ended: bool) -> None:
    document = Document()
    document.take([Row(1, TEXT, text, None), *[end(2)] * ended])
    document.render()
    frames = document.frames("01a1fcba-f9b5-735e-9f13-81f029314cee", 0, 1)
    body = Element("")
    for frame in frames:
        assert len(frame.encode()) <= 1_048_576
        apply(body, orjson.loads(frame))
    assert body == parse(document.html)
