"""What one can do with a turn on the page: answer again, edit, switch, continue, pause. On a desk and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.cable import Cable
from tests.browser.chat import Chat
from tests.browser.conftest import DESK, PHONE, People
from tests.browser.senses import HEARD
from tests.modelscript import expected_text
from tests.processes import RemoteGate, Server, directive, server

pytestmark = pytest.mark.page

ENDLESS = {"words": 3000, "delay_s": 0.03}
STEADY: dict[str, Any] = {"words": 80, "delay_s": 0.01}
Visits = Callable[..., Chat]


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def visit(request: pytest.FixtureRequest, new_person: People) -> Visits:
    """A page with one finished turn, on a desk or a phone."""

    def begin(url: str = "", **fields: Any) -> Chat:
        chat = new_person(**(request.param | ({"url": url} if url else {}))).visits()
        chat.ask(**(fields or {"words": 5}))
        chat.ends()
        chat.connects()
        return chat

    return begin


def versions(chat: Chat, message: str = ".reply") -> Any:
    """The switch of the last prompt or reply."""
    return chat.page.locator(f"#messages > {message}").last.locator(".branches")


def again(chat: Chat, turns: int = 1) -> None:
    old = chat.replies.last.get_attribute("id") or ""
    chat.replies.last.hover()
    chat.replies.last.get_by_role("button", name="Try again").click()
    expect(chat.replies.last).not_to_have_id(old)
    chat.ends(turns=turns)


def edit(chat: Chat, text: str) -> None:
    question = chat.page.locator("#messages > .prompt").last
    question.hover()
    question.get_by_role("button", name="Edit the question").click()
    chat.page.locator("#edited").fill(text)
    chat.page.locator(".edit").get_by_role("button", name="Send").click()


def elsewhere(chat: Chat) -> Chat:
    """Another tab of the same person on the same page."""
    there = Chat(chat.page.context.new_page())
    there.page.goto(chat.page.url)
    there.connects()
    return there


# Branches


def test_another_answer_stands_beside_the_first_and_the_switch_survives_a_reload(visit: Visits) -> None:
    chat = visit()
    expect(versions(chat)).to_be_hidden()
    again(chat)
    expect(versions(chat)).to_have_text("2/2")
    chat.looks_fresh()
    versions(chat).get_by_role("button", name="Earlier version").click()
    expect(versions(chat)).to_have_text("1/2")
    expect(versions(chat).get_by_role("button", name="Earlier version")).to_be_disabled()
    chat.looks_fresh()
    expect(versions(chat)).to_have_text("1/2")


def test_an_edited_question_is_another_branch_with_its_own_answer(visit: Visits) -> None:
    chat = visit()
    chat.ask("And why?")
    chat.ends(turns=2)
    edit(chat, "And why not?")
    expect(versions(chat, ".prompt")).to_have_text("2/2")
    chat.ends(turns=2)
    expect(chat.page.locator("#messages .prompt .body").last).to_have_text("And why not?")
    chat.looks_fresh()
    versions(chat, ".prompt").get_by_role("button", name="Earlier version").click()
    expect(chat.page.locator("#messages .prompt .body").last).to_have_text("And why?")
    chat.looks_fresh()


def test_what_follows_a_branch_comes_and_goes_with_it(visit: Visits) -> None:
    chat = visit()
    chat.ask("Second?")
    chat.ends(turns=2)
    first = chat.page.locator("#messages > .reply").first
    first.hover()
    first.get_by_role("button", name="Try again").click()
    expect(chat.page.get_by_text("Second?")).to_have_count(0)
    chat.ends()
    versions(chat).get_by_role("button", name="Earlier version").click()
    expect(chat.page.locator("#messages").get_by_text("Second?")).to_be_visible()
    expect(chat.replies).to_have_count(2)


@pytest.mark.both
def test_an_answer_asked_for_again_in_one_tab_comes_live_in_the_other(visit: Visits) -> None:
    chat = visit(**STEADY)
    there = elsewhere(chat)
    there.replies.last.hover()
    there.replies.last.get_by_role("button", name="Try again").click()
    expect(versions(chat)).to_have_text("2/2")
    chat.begins()
    chat.ends()
    there.ends()
    assert chat.text == there.text == expected_text(STEADY)
    assert chat.messages == there.messages


def test_a_tab_keeps_its_branch_and_its_next_question_follows_that(visit: Visits) -> None:
    chat = visit()
    again(chat)
    there = elsewhere(chat)
    versions(there).get_by_role("button", name="Earlier version").click()
    expect(versions(there)).to_have_text("1/2")
    expect(versions(chat)).to_have_text("2/2")
    chat.ask("Here?")
    chat.ends(turns=2)
    expect(chat.page.locator("#messages .branch-number:visible")).to_have_text("2/2")
    # The other tab shows what was begun, though it is on another branch.
    there.ends(turns=2)
    expect(there.page.locator("#messages").get_by_text("Here?")).to_be_visible()
    assert there.messages == chat.messages


@pytest.mark.both
def test_a_branch_chosen_right_after_a_reconnect_is_shown_and_gone_on_with(new_person: People, cable: Cable) -> None:
    chat = new_person(url=cable.url).visits()
    chat.ask(text="First.")
    for n, text in enumerate(("Second.", "Third."), start=2):
        chat.ends()
        edit(chat, directive(text=text))
        expect(versions(chat, ".prompt")).to_have_text(f"{n}/{n}")
    chat.ends()
    cable.cut()
    chat.page.context.set_offline(True)
    chat.is_cut_off()
    cable.mend()
    chat.page.context.set_offline(False)
    chat.connects()
    chat.page.evaluate(HEARD)
    versions(chat, ".prompt").get_by_role("button", name="Earlier version").click()
    expect(versions(chat, ".prompt")).to_have_text("2/3")
    expect(chat.replies.last.locator(".body")).to_have_text("Second.")
    chat.ask(**STEADY)
    chat.ends(turns=2)
    assert chat.text == expected_text(STEADY)
    assert chat.page.evaluate("window.heard.filter((text) => /^Version|connect/i.test(text))") == ["Version 2/3"]
    chat.looks_fresh()


def test_an_edit_can_be_given_up(visit: Visits) -> None:
    chat = visit()
    question = chat.page.locator("#messages > .prompt").last
    question.hover()
    question.get_by_role("button", name="Edit the question").click()
    box = chat.page.locator("#edited")
    expect(box).to_be_focused()
    box.fill("Something else")
    box.press("Escape")
    expect(box).to_have_count(0)
    expect(question.locator(".body")).to_be_visible()
    expect(question.get_by_role("button", name="Edit the question")).to_be_focused()
    chat.looks_fresh()


@pytest.mark.both
def test_an_edit_made_without_a_connection_is_asked_once_when_it_is_back(visit: Visits, cable: Cable) -> None:
    chat = visit(url=cable.url)
    cable.cut()
    chat.is_cut_off()
    edit(chat, "Changed?")
    expect(chat.page.locator("#outbox")).to_contain_text("Changed?")
    cable.mend()
    expect(versions(chat, ".prompt")).to_have_text("2/2")
    chat.ends()
    expect(chat.page.locator("#outbox")).to_be_hidden()
    chat.looks_fresh()


def test_while_an_answer_is_written_no_other_is_begun(visit: Visits) -> None:
    chat = visit()
    again(chat)
    chat.ask(**ENDLESS)
    chat.begins(turns=2)
    for name in ("Try again", "Earlier version"):
        chat.page.locator("#messages > .reply").first.hover()
        chat.page.locator("#messages > .reply").first.get_by_role("button", name=name).click()
        expect(chat.page.get_by_role("alert").first).to_contain_text("still being written")
    chat.composer.press("Escape")
    chat.ends("stopped", turns=2)


@pytest.mark.both
def test_a_page_that_was_cleared_elsewhere_shows_it_and_keeps_the_question(visit: Visits) -> None:
    chat = visit()
    there = elsewhere(chat)
    there.page.get_by_label("This conversation").click()
    there.page.get_by_text("Clear").first.click()
    there.page.get_by_role("button", name="Yes, delete all messages").click()
    expect(there.replies).to_have_count(0)
    chat.ask("Still there?")
    expect(chat.replies).to_have_count(0)
    expect(chat.composer).to_have_value("Still there?")


def test_without_javascript_one_can_answer_again_and_switch(new_person: People) -> None:
    chat = new_person(java_script_enabled=False).visits()
    chat.composer.fill('{"words": 5}')
    chat.page.get_by_role("button", name="Send").click()
    chat.ends()
    chat.replies.last.hover()
    chat.page.get_by_role("button", name="Try again").click()
    expect(versions(chat)).to_have_text("2/2")
    chat.ends()
    chat.page.get_by_role("button", name="Earlier version").click()
    expect(versions(chat)).to_have_text("1/2")


# After an end that was none


def test_a_stopped_answer_is_continued(visit: Visits) -> None:
    chat = visit()
    chat.ask(**ENDLESS)
    chat.begins(turns=2)
    chat.page.get_by_role("button", name="Stop the answer").click()
    chat.ends("stopped", turns=2)
    chat.page.get_by_role("button", name="Continue").click()
    chat.ends(turns=3)
    expect(chat.page.locator("#messages .prompt .body").last).to_have_text("Continue exactly where you stopped.")
    expect(chat.page.get_by_role("button", name="Continue")).to_have_count(0)
    chat.looks_fresh()


@pytest.mark.parametrize(
    ("fields", "status", "offered"),
    [
        ({"words": 9, "finish_reason": "length"}, "done", 1),
        ({"words": 20, "cut_after": 5}, "error", 1),
        ({"words": 3, "status": 400}, "error", 0),
        ({"words": 3}, "done", 0),
    ],
    ids=["cut at its limit", "broken off", "nothing said", "complete"],
)
def test_what_was_cut_can_be_continued(new_person: People, fields: dict[str, Any], status: str, offered: int) -> None:
    chat = new_person().visits()
    chat.ask(**fields)
    chat.ends(status)
    expect(chat.page.get_by_role("button", name="Continue")).to_have_count(offered)


def test_a_stopped_answer_can_be_tried_again_after_another_question(visit: Visits) -> None:
    chat = visit()
    chat.ask(**ENDLESS)
    chat.begins(turns=2)
    chat.composer.press("Escape")
    chat.ends("stopped", turns=2)
    chat.ask("Something else?")
    chat.ends(turns=3)
    expect(chat.replies.nth(1).get_by_text("Try again")).to_be_visible()


# Following


def test_a_paused_page_stays_as_it_is_and_catches_up_exactly(visit: Visits, gate: RemoteGate) -> None:
    chat = visit()
    there = elsewhere(chat)
    chat.ask(**STEADY, gate=gate.name)
    chat.begins(turns=2)
    chat.page.get_by_role("button", name="Pause").click()
    chat.says("Paused on this page")
    seen = chat.text
    gate.open()
    there.grows(len(seen) + 60)
    assert chat.text == seen
    there.ends(turns=2)
    assert chat.text == seen
    chat.page.get_by_role("button", name="Pause").click()
    chat.ends(turns=2)
    assert chat.text == there.text == expected_text(STEADY)
    chat.looks_fresh()


@pytest.mark.both
def test_a_paused_page_loses_nothing_with_its_connection(visit: Visits, cable: Cable, gate: RemoteGate) -> None:
    chat = visit(url=cable.url)
    chat.ask(**STEADY, gate=gate.name)
    chat.begins(turns=2)
    chat.page.get_by_role("button", name="Pause").click()
    chat.says("Paused on this page")
    seen = chat.text
    cable.cut()
    chat.is_cut_off()
    gate.open()
    cable.mend()
    chat.connects()
    assert chat.text == seen
    chat.page.get_by_role("button", name="Pause").click()
    chat.ends(turns=2)
    assert chat.text == expected_text(STEADY)


@pytest.mark.both
def test_a_paused_page_can_stop_the_answer_for_everybody(visit: Visits) -> None:
    chat = visit()
    there = elsewhere(chat)
    chat.ask(**ENDLESS)
    chat.begins(turns=2)
    chat.page.get_by_role("button", name="Pause").click()
    chat.page.get_by_role("button", name="Stop the answer").click()
    chat.ends("stopped", turns=2)
    there.ends("stopped", turns=2)
    assert chat.text == there.text


def test_thinking_is_folded_away_and_can_be_read(visit: Visits) -> None:
    chat = visit(text="Blue.", reasoning="Short waves scatter more.")
    thoughts = chat.replies.last.locator(".reasoning-text")
    expect(thoughts).to_be_hidden()
    chat.replies.last.get_by_text("Thinking").click()
    expect(thoughts).to_have_text("Short waves scatter more.")


def test_pace_is_told_while_an_answer_comes_and_tokens_at_its_end(visit: Visits, gate: RemoteGate) -> None:
    chat = visit()
    chat.ask(words=80, delay_s=0.04, gate=gate.name)
    chat.page.wait_for_function(
        "() => /^\\d+ s · \\d+ char/.test([...document.querySelectorAll('.reply .note')].at(-1).textContent.trim())"
    )
    gate.open()
    chat.ends(turns=2)
    expect(chat.note).to_have_text("80 tokens")


@pytest.mark.both
def test_one_who_waits_for_a_place_is_told_so(new_person: People, site: Server, tmp_path: Path) -> None:
    with server(tmp_path, site.model_url, STREAM_CONCURRENCY="1") as narrow:
        first, second = (new_person(url=narrow.url).visits() for _ in range(2))
        first.ask(**ENDLESS)
        first.begins()
        second.ask(words=3)
        second.says("Waiting for a free place")
        second.page.reload()
        second.says("Waiting for a free place")
        first.composer.press("Escape")
        second.ends()
