"""The main job in a real browser: ask, leave, come back, from anywhere, without losing a character."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from streaming.rendering import render
from tests.browser.cable import Cable
from tests.browser.chat import Chat
from tests.browser.conftest import People
from tests.dom import text_of
from tests.modelscript import expected_text
from tests.processes import RemoteGate, Server, directive

SLOW: dict[str, Any] = {"words": 60, "delay_s": 0.01}
ENDLESS = {"words": 3000, "delay_s": 0.04}


def test_an_answer_arrives_word_by_word(new_person: People, gate: RemoteGate) -> None:
    chat = new_person().visits()
    chat.ask(**SLOW, gate=gate.name)
    chat.begins()
    seen = chat.text
    assert expected_text(SLOW).startswith(seen)
    gate.open()
    chat.grows(len(seen))
    chat.ends()
    assert chat.text == expected_text(SLOW)


def test_a_second_turn_follows_on_the_same_page(new_person: People) -> None:
    chat = new_person().visits()
    chat.ask(words=3)
    chat.ends()
    chat.ask(words=4)
    chat.ends(turns=2)
    assert chat.text == expected_text({"words": 4})
    chat.looks_fresh()


def test_a_reload_in_mid_answer_shows_the_text_so_far_and_the_rest(new_person: People, gate: RemoteGate) -> None:
    chat = new_person().visits()
    chat.ask(**SLOW, gate=gate.name)
    chat.begins()
    chat.grows(40)
    before = chat.text
    chat.page.reload()
    assert chat.text.startswith(before)
    gate.open()
    chat.ends()
    assert chat.text == expected_text(SLOW)


def test_the_text_so_far_is_in_the_page_itself(new_person: People, gate: RemoteGate) -> None:
    person = new_person()
    chat = person.visits()
    chat.ask(**SLOW, gate=gate.name)
    chat.begins()
    seen = chat.text
    assert seen in person.profile.request.get(chat.page.url).text()


def test_leaving_and_coming_back_loses_nothing(new_person: People, gate: RemoteGate) -> None:
    person = new_person()
    chat = person.visits()
    chat.ask(**SLOW, gate=gate.name)
    chat.begins()
    url = chat.page.url
    chat.page.close()
    again = person.opens(url)
    gate.open()
    again.ends()
    assert again.text == expected_text(SLOW)


def test_two_tabs_show_the_same_answer(new_person: People, gate: RemoteGate) -> None:
    person = new_person()
    first = person.visits()
    first.ask(**SLOW, gate=gate.name)
    first.begins()
    second = person.opens(first.page.url)
    gate.open()
    first.ends()
    second.ends()
    assert first.text == second.text == expected_text(SLOW)
    assert first.messages == second.messages


def test_an_idle_second_tab_sees_a_turn_begun_elsewhere(new_person: People, gate: RemoteGate) -> None:
    person = new_person()
    first = person.visits()
    first.ask(words=3)
    first.ends()
    second = person.opens(first.page.url)
    second.connects()
    first.ask(**SLOW, gate=gate.name)
    second.begins(turns=2)
    gate.open()
    second.ends(turns=2)
    first.ends(turns=2)
    assert second.text == expected_text(SLOW)
    assert second.messages == first.messages


def test_another_device_follows_after_log_in(new_person: People, gate: RemoteGate) -> None:
    desk, name = new_person().signs_up()
    desk.ask(**SLOW, gate=gate.name)
    desk.begins()
    phone = new_person(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    there = phone.logs_in(name, path=desk.path)
    there.begins()
    gate.open()
    there.ends()
    desk.ends()
    assert there.text == desk.text == expected_text(SLOW)


def test_stop_from_the_other_tab_ends_the_answer_for_both(new_person: People) -> None:
    person = new_person()
    first = person.visits()
    first.ask(**ENDLESS)
    first.begins()
    second = person.opens(first.page.url)
    second.connects()
    second.page.get_by_role("button", name="Stop the answer").click()
    first.ends("stopped")
    second.ends("stopped")
    assert first.text == second.text
    assert expected_text(ENDLESS).startswith(first.text)
    expect(first.note).to_have_text("Stopped.")
    first.looks_fresh()


def test_stop_before_the_first_word_and_after_a_reload(new_person: People) -> None:
    chat = new_person().visits()
    chat.ask(words=3, first_delay_s=30)
    expect(chat.replies).to_have_count(1)
    chat.page.reload()
    chat.connects()
    chat.composer.press("Escape")
    chat.ends("stopped")
    assert chat.text == ""


FINAL: list[tuple[str, dict[str, Any]]] = [
    ("done", {"words": 30, "delay_s": 0.01}),
    ("done", {"text": "Grüße 🎉👩‍👩‍👧 \r and \r\n\n  <b>&amp;</b>\u2028\t", "chunk": 1, "surrogates": True}),
    ("done", {"text": "Fine.", "reasoning": "Let me see. <i>", "delay_s": 0.02}),
    ("done", {"words": 9, "finish_reason": "length"}),
    ("done", {"words": 9, "usage": False}),
    ("done", {"words": 20, "cut_after": 5, "fail_times": 1}),
    ("error", {"words": 20, "cut_after": 5}),
    ("error", {"words": 3, "status": 400}),
    ("done", {"size": 300_000}),
]


@pytest.mark.parametrize(("status", "fields"), FINAL, ids=lambda value: str(value)[:40])
def test_the_page_ends_as_a_fresh_one_begins(new_person: People, status: str, fields: dict[str, Any]) -> None:
    chat = new_person().visits()
    chat.ask(words=1)
    chat.ends()
    chat.ask(**fields)
    chat.ends(status, turns=2)
    if status == "done":
        assert chat.text == text_of(render(expected_text(fields)))
    chat.looks_fresh()


def test_a_retry_is_shown_and_costs_no_text(new_person: People) -> None:
    fields = {"words": 12, "delay_s": 0.05, "cut_after": 8, "fail_times": 1}
    chat = new_person().visits()
    chat.ask(words=1)
    chat.ends()
    chat.ask(**fields)
    chat.says("Attempt 2 of 3")
    assert chat.text
    chat.ends(turns=2)
    assert chat.text == expected_text(fields)


def test_a_lost_connection_comes_back_by_itself_and_misses_nothing(
    new_person: People, cable: Cable, gate: RemoteGate
) -> None:
    chat = new_person(url=cable.url).visits()
    chat.ask(**SLOW, gate=gate.name)
    chat.begins()
    chat.connects()  # The text is in the page before its script runs.
    cable.cut()
    chat.page.context.set_offline(True)
    chat.is_cut_off()
    before = chat.text
    gate.open()
    cable.mend()
    chat.page.context.set_offline(False)
    chat.connects()
    chat.ends()
    assert chat.text.startswith(before)
    assert chat.text == expected_text(SLOW)
    chat.looks_fresh()


def test_a_connection_that_died_without_a_word_is_replaced(new_person: People, cable: Cable, gate: RemoteGate) -> None:
    chat = new_person(url=cable.url).visits()
    chat.page.clock.install()
    chat.ask(**SLOW, gate=gate.name)
    chat.connects()
    chat.begins()
    cable.fall_silent()
    gate.open()
    chat.page.clock.fast_forward("00:20")
    chat.ends()
    assert chat.text == expected_text(SLOW)


def test_the_answer_can_be_stopped_where_websockets_are_blocked(new_person: People) -> None:
    person = new_person()
    first = person.visits()
    first.ask(**ENDLESS)
    first.begins()
    blocked = person.profile.new_page()
    blocked.route_web_socket("**/ws/**", lambda socket: socket.close())
    blocked.goto(first.page.url)
    Chat(blocked).is_cut_off()
    blocked.get_by_role("button", name="Stop the answer").click()
    first.ends("stopped")


def test_the_page_acknowledges_what_it_has_rendered(new_person: People) -> None:
    chat = new_person().visits()
    chat.ask(words=3)
    chat.ends()
    chat.connects()
    sent: list[str | bytes] = []
    chat.page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    chat.page.reload()
    chat.ask(size=200_000, delay_s=0.01)
    chat.ends(turns=2)
    acks = [frame for frame in map(json.loads, sent) if frame["type"] == "ack"]
    assert len(acks) >= 2
    assert acks[-1]["seq"] == chat.seq


def test_a_turn_that_began_and_ended_while_offline_is_there_afterwards(
    new_person: People, site: Server, cable: Cable
) -> None:
    person = new_person(url=cable.url)
    chat = person.visits()
    chat.ask(words=3)
    chat.ends()
    chat.connects()
    elsewhere = person.opens(site.url + chat.path)
    elsewhere.connects()
    cable.cut()
    elsewhere.ask(words=5)
    elsewhere.ends(turns=2)
    assert chat.replies.count() == 1
    cable.mend()
    chat.ends(turns=2)
    assert chat.messages == elsewhere.messages


def test_a_prompt_sent_without_a_connection_is_asked_once_when_it_is_back(new_person: People, cable: Cable) -> None:
    chat = new_person(url=cable.url).visits()
    chat.ask(words=3)
    chat.ends()
    chat.connects()
    cable.cut()
    chat.is_cut_off()
    chat.ask("Are you there?")
    expect(chat.page.locator("#outbox")).to_contain_text("Are you there?")
    cable.mend()
    chat.ends(turns=2)
    expect(chat.page.locator("#outbox")).to_be_hidden()
    assert chat.page.locator("#messages .prompt").count() == 2
    chat.looks_fresh()


def test_a_killed_server_is_found_again_and_the_answer_ends(new_person: People, site: Server, gate: RemoteGate) -> None:
    chat = new_person().visits()
    chat.ask(**SLOW, gate=gate.name)
    chat.begins()
    chat.grows(60)
    site.kill()
    chat.is_cut_off()
    chat.says("Waiting for the connection")
    assert len(chat.text) > 60
    gate.open()
    site.start()
    chat.connects()
    chat.ends()
    assert chat.text == expected_text(SLOW)
    chat.looks_fresh()


def test_an_answer_begun_anew_says_so_until_it_ends(new_person: People, gate: RemoteGate) -> None:
    fields = {"words": 60, "delay_s": 0.04, "gate": gate.name, "cut_after": 8, "fail_times": 1}
    chat = new_person().visits()
    chat.ask(words=1)
    chat.ends()
    chat.ask(**fields)
    chat.says("Attempt 2 of 3")
    chat.page.wait_for_function(
        "() => /^Attempt 2\\d+ s/.test([...document.querySelectorAll('.reply .note')].at(-1).textContent)"
    )
    gate.open()
    chat.ends(turns=2)
    chat.looks_fresh()


def test_without_javascript_one_can_ask_follow_and_stop(new_person: People, gate: RemoteGate) -> None:
    chat = new_person(java_script_enabled=False).visits()
    chat.composer.fill(directive(words=40, gate=gate.name))
    chat.page.get_by_role("button", name="Send").click()
    expect(chat.replies).to_have_attribute("data-status", "streaming")
    expect(chat.replies.locator(".body")).to_contain_text("alpha0 beta1")
    gate.open()
    chat.ends()
    assert chat.text == expected_text({"words": 40})
    assert 'http-equiv="refresh"' not in chat.page.content()
    chat.composer.fill('{"words": 3000, "delay_s": 0.1}')
    chat.page.get_by_role("button", name="Send").click()
    expect(chat.replies).to_have_count(2)
    chat.page.get_by_role("button", name="Stop the answer").click()
    chat.ends("stopped", turns=2)
