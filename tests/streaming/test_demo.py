"""The demo model says that it is one, answers alike to the same question, and takes any input."""

from __future__ import annotations

from typing import Any

import pytest

from streaming import demo
from streaming.frames import REASONING, TEXT


def ask(content: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": content}]}


def said(content: Any, kind: str = TEXT) -> str:
    return "".join(text for spoken, text in demo.deltas(ask(content)) if spoken == kind)


@pytest.mark.parametrize("question", ["hello", "a table", "plain words", "something long", "think", ""])
def test_it_says_that_it_is_a_demo(question: str) -> None:
    assert "demo model" in said(question)
    assert demo.deltas(ask(question)) == demo.deltas(ask(question))


def test_the_default_answer_reads_well_as_plain_text() -> None:
    answer = said("what is this")
    assert "You said: what is this" in answer
    assert not set("*`|>#\\") & set(answer)


def test_one_answer_can_hold_everything() -> None:
    for mark in ("\n\n", "- [x]", "```python", "| :--- |", "👨‍👩‍👧‍👦", "`seq`"):
        assert mark in said("a list, code, a table and emoji")


@pytest.mark.parametrize(("word", "mark"), [("list", "- [x]"), ("code", "```"), ("table", "| :---"), ("emoji", "🚀")])
def test_a_word_in_the_question_chooses_the_section(word: str, mark: str) -> None:
    others = {"- [x]", "```", "| :---", "🚀"} - {mark}
    assert mark in said(f"Show me {word.upper()}!")
    assert not [other for other in others if other in said(f"Show me {word}!")]


def test_plain_words_have_no_punctuation() -> None:
    assert said("plain").replace(" ", "").isalpha()
    assert said("without punctuation") == said("plain")


def test_long_is_as_long_as_asked_within_bounds() -> None:
    assert len(said("something long").split()) > demo.LONG_WORDS
    assert 5000 < len(said("a long text of 5000 words").split()) < 5300
    assert len(said("long 999999").split()) < demo.LONG_MAX_WORDS * 1.1


def test_think_gives_reasoning_first() -> None:
    kinds = [kind for kind, _ in demo.deltas(ask("think about it"))]
    assert kinds == sorted(kinds)
    assert kinds[0] == REASONING
    assert said("think about it", REASONING) == demo.THOUGHTS
    assert said("hello", REASONING) == ""


def test_the_question_is_quoted_as_text() -> None:
    assert "You said: <b> *x* [a](b)\n" in said("<b> *x*\n[a](b)")
    assert len(demo._echo("x" * 10_000)) < 2 * demo.QUOTE_MAX_CHARS


@pytest.mark.parametrize("question", ["hello", "plain", "think", "long", "emoji", "天" * 100])
def test_pieces_are_about_a_word(question: str) -> None:
    assert max(len(text) for _, text in demo.deltas(ask(question))) < 20
    assert all(text for _, text in demo.deltas(ask(question)))


@pytest.mark.parametrize(
    "content", [None, 5, "", "\0\ud83d", {}, {"text": 1}, [None, {"type": "text", "text": "table"}, {"image": "x"}]]
)
def test_strange_content_is_no_reason_to_fail(content: Any) -> None:
    assert said(content).encode()
    assert demo.usage(ask(content), 3)["completion_tokens"] == 3


@pytest.mark.parametrize("request_body", [{}, {"messages": None}, {"messages": [None, 3, []]}, {"messages": "x"}])
def test_strange_messages_are_no_reason_to_fail(request_body: dict[str, Any]) -> None:
    assert demo.deltas(request_body)
    assert demo.usage(request_body, 3)["total_tokens"] >= 3


def test_parts_of_a_message_are_read() -> None:
    assert "| :---" in said([{"type": "text", "text": "a table"}])
