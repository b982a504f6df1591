"""What Markdown becomes: each thing a model writes, as the elements a page gets."""

from __future__ import annotations

import pytest

from streaming.markup import HIGHLIGHT_CHARS, REL
from streaming.rendering import DEPTH, LEAF_CHARS, render
from tests.dom import Element, parse, text_of


def only(html: str, name: str) -> Element:
    (found,) = parse(html).find(name)
    return found


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("Hello", "<p>Hello</p>"),
        ("a *b* **c** ~~d~~ `e<f`", "<p>a <em>b</em> <strong>c</strong> <del>d</del> <code>e&lt;f</code></p>"),
        ("# One\n\n### Three", "<h4>One</h4><h6>Three</h6>"),
        ("> quoted\n> - item", "<blockquote><p>quoted</p><ul><li><p>item</p></li></ul></blockquote>"),
        ("3. c\n4. d", '<ol start="3"><li><p>c</p></li><li><p>d</p></li></ol>'),
        ("1. c", "<ol><li><p>c</p></li></ol>"),
        ("- a\n\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"),
        ("a\nb  \nc", "<p>a\nb<br>c</p>"),
        ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
        ("", ""),
        (" \n\n", ""),
    ],
)
def test_common_markdown(markdown: str, html: str) -> None:
    assert render(markdown) == html


def test_every_line_end_is_one() -> None:
    assert render("- a\r\n- b\r- c") == render("- a\n- b\n- c")


def test_a_table_has_its_columns_aligned_without_style() -> None:
    html = render("| a | b | c |\n|---|:-:|--:|\n| 1 | **2** | 3 |")
    assert [cell.attributes.get("class") for cell in parse(html).find("td")] == [None, "center", "right"]
    assert [cell.text for cell in parse(html).find("th")] == ["a", "b", "c"]
    assert only(html, "strong").text == "2"


def test_tasks_have_boxes_that_say_what_they_are_and_cannot_be_changed() -> None:
    boxes = parse(render("- [x] done\n- [ ] to do")).find("input")
    assert [box.attributes["aria-label"] for box in boxes] == ["Done", "To do"]
    assert ["checked" in box.attributes for box in boxes] == [True, False]
    assert all("disabled" in box.attributes and box.attributes["type"] == "checkbox" for box in boxes)


def test_code_has_its_language_a_button_and_colours() -> None:
    html = render('```python title="x"\nprint("<b>")\n```')
    assert only(html, "pre").text == 'print("<b>")\n'
    assert only(html, "button").attributes["data-action"] == "copy-code"
    assert "python" in parse(html).text
    assert '<span class="tok-builtin">print</span>' in html


@pytest.mark.parametrize("language", ["", "nonsense", "../../x", "<script>", "a" * 1000])
def test_code_of_no_known_language_is_plain(language: str) -> None:
    html = render(f"```{language}\nx = 1\n```")
    assert only(html, "pre").text == "x = 1\n"
    assert "tok-" not in html


@pytest.mark.parametrize(
    "language", ["js", "c++", "html", "json", "diff", "sh", "sql", "ts", "yaml", "rust", "go", "css"]
)
def test_colours_change_no_character_of_the_code(language: str) -> None:
    code = "\n\n  <a href='x'>&amp;</a>\t\"é😀\\\" */ -- # ${y}\n+ 1\n- 2 \n\n"
    assert only(render(f"```{language}\n{code}```"), "pre").text == code


def test_code_too_long_for_colours_is_plain_and_complete() -> None:
    code = "x = 1\n" * (HIGHLIGHT_CHARS // 6 + 1)
    html = render(f"```python\n{code}```")
    assert only(html, "pre").text == code
    assert "tok-" not in html


def test_a_lexer_that_fails_costs_the_colours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.highlighting.get_lexer_by_name", lambda *_, **__: 1 / 0)
    assert only(render("```python\nunseen = 1\n```"), "pre").text == "unseen = 1\n"


@pytest.mark.parametrize(
    "formula",
    [
        "$a_b + c_d$", "$$x*y*z$$", r"\(x*y*z \{a\} \\ b_1\)", r"\[ a_{b} _c_ \]",
        "\\[\nx_{1} = *a*\n- b_{2}\n= c \\\\\n\\]", "$$\n+ x\n= y\n$$", "- \\[\n  a_b_c\n  \\]",
    ],
)  # fmt: skip
def test_math_stays_as_it_was_written(formula: str) -> None:
    html = render(f"{formula}\n\nafter *it*")
    assert parse(html).children[0].text.replace(" ", "") == formula.removeprefix("- ").replace(" ", "")  # type: ignore[union-attr]
    assert only(html, "em").text == "it"


def test_what_only_looks_like_math_is_left_alone() -> None:
    assert render("It costs $5 and *then* $10.") == "<p>It costs $5 and <em>then</em> $10.</p>"
    assert only(render("```\n\\[\n```\n\n*x*"), "em").text == "x"
    assert only(render("`\\(` *x* `\\)`"), "em").text == "x"


@pytest.mark.parametrize(
    ("markdown", "address", "text"),
    [
        ("[here](https://a.b/c?d=1&e=2#f)", "https://a.b/c?d=1&e=2#f", "here"),
        ("<https://a.b>", "https://a.b", "https://a.b"),
        ("see https://a.b/c_d_e, ok", "https://a.b/c_d_e", "https://a.b/c_d_e"),
        ("(https://a.b/c_(d))", "https://a.b/c_(d)", "https://a.b/c_(d)"),
        ("[mail](mailto:a@b.c)", "mailto:a@b.c", "mail"),
        ("[here][1]\n\n[1]: http://a.b", "http://a.b", "here"),
        ("![A cat](https://a.b/cat.png)", "https://a.b/cat.png", "A cat"),
        ("![](https://a.b/cat.png)", "https://a.b/cat.png", "image"),
        ("[![badge](https://a.b/i.svg)](https://a.b)", "https://a.b", "badge"),
    ],
)
def test_links_lead_away_and_say_nothing_of_where_from(markdown: str, address: str, text: str) -> None:
    link = only(render(markdown), "a")
    assert (link.attributes["href"], link.text) == (address, text)
    assert (link.attributes["rel"], link.attributes["target"]) == (REL, "_blank")


@pytest.mark.parametrize("address", ["/logout/", "#x", "x.html", "//a.b", "?q", "ftp://a.b", "http:a.b", "https://"])
def test_an_address_that_is_none_of_the_web_is_no_link(address: str) -> None:
    assert render(f"[here]({address})") == "<p>here</p>"


def test_raw_html_is_text() -> None:
    assert (
        text_of(render("a <b>bold</b> <!-- x -->\n\n<div>\n*y*\n</div>"))
        == "a <b>bold</b> <!-- x --><div>\n*y*\n</div>"
    )


def test_a_line_break_is_one_in_a_table() -> None:
    assert "<td>a<br>b</td>" in render("| x |\n|---|\n| a<br/>b |")


@pytest.mark.parametrize("deep", ["> " * 3000, "- " * 400, "*a **b " * 3000, "[" * 20_000, "`" * 20_001, "$" * 9000])
def test_nesting_has_an_end(deep: str) -> None:
    html = render(f"{deep}x")
    assert "x" in text_of(html)
    assert depth(parse(html)) <= 2 * DEPTH + 3


def depth(element: Element) -> int:
    return 1 + max((depth(child) for child in element.children if isinstance(child, Element)), default=0)


@pytest.mark.parametrize("form", ["{}", "# {}", "- {}", "> **{}**", "| a |\n|---|\n| {} |"])
def test_what_is_too_long_for_a_frame_comes_in_pieces(form: str) -> None:
    words = "<word> & " * (LEAF_CHARS // 9)
    html = render(form.format(words))
    assert words.strip() in text_of(html)
    assert max(len(element.text) for element in parse(html).find("span")) < LEAF_CHARS
