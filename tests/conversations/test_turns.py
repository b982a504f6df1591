"""What pages are sent of a turn: the HTML of a fresh page, once for all readers, with nothing a guest may not."""

from __future__ import annotations

from typing import Any

import pytest

from conversations.models import Conversation
from conversations.templatetags import turns
from conversations.templatetags.turns import begun, note
from streaming.frames import Row
from streaming.models import Stream
from tests.conftest import finish

pytestmark = pytest.mark.django_db
RETRY = Row(3, "retry", "", {"attempt": 2, "of": 3, "wait_s": 0.2, "reason": "<b>No trout.</b>"})
RESTART = Row(4, "restart", "", {"attempt": 2})
END = Row(5, "end", "", {"status": "done", "finish_reason": "length", "usage": None, "error": None})


@pytest.fixture
def turn(running_stream: Stream) -> dict[str, Any]:
    turn = Conversation.objects.get().turn(str(running_stream.pk))
    assert turn is not None
    return turn


def test_a_reply_is_as_before_its_first_row_whatever_it_is_by_now(running_stream: Stream, turn: dict[str, Any]) -> None:
    finish(running_stream, 3)
    late = Conversation.objects.get().turn(str(running_stream.pk))
    assert late and late["reply"]["status"] == "done"
    assert begun(late, mine=True)["reply"] == begun(turn, mine=True)["reply"]
    assert 'data-seq="0" data-status="streaming"' in begun(late, mine=True)["reply"]["html"]


def test_what_only_the_owner_may_do_is_sent_to_nobody_else(turn: dict[str, Any]) -> None:
    mine, others = (begun(turn, mine=mine) for mine in (True, False))
    for who, control in (("prompt", 'data-action="edit"'), ("reply", "again-form"), ("reply", "branches")):
        assert control in mine[who]["html"] and control not in others[who]["html"]


def test_a_turn_is_rendered_once_for_all_readers(turn: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first = begun(turn, mine=True)
    monkeypatch.setattr(turns, "Context", None)
    assert begun(turn, mine=True) == first


def test_what_a_person_asks_is_text_on_every_page(turn: dict[str, Any]) -> None:
    turn["prompt"] |= {"id": "new", "branches": ["new"], "text": "<img src=x>\r&"}
    assert "&lt;img src=x&gt;&#13;&amp;" in begun(turn, mine=True)["prompt"]["html"]


@pytest.mark.parametrize(
    ("rows", "state", "words"),
    [
        ([RETRY], "retry", 'Attempt 2<span class="follows"> of 3 follows in 1 s. &lt;b&gt;No trout.'),
        ([RETRY, RESTART], "streaming", "Attempt 2</span>"),
        ([RETRY, Row(4, "text", "So", None)], "streaming", "Attempt 2"),
        ([Row(4, "text", "So", None), END], "length", "Cut at the length limit."),
    ],
    ids=["a retry", "a restart", "words behind a retry", "an end"],
)
def test_a_note_tells_what_has_become_of_the_answer(rows: list[Row], state: str, words: str) -> None:
    html = note(rows) or ""
    assert html.startswith(f'<div class="note" data-state="{state}">') and words in html


def test_words_leave_the_note_as_it_is() -> None:
    assert note([Row(1, "text", "Hel", None), Row(2, "reasoning", "hm", None)]) is None
