"""The browser's own EventSource on an answer's events: it reconnects by itself and misses nothing."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.cable import Cable
from tests.browser.conftest import People
from tests.documents import example
from tests.modelscript import expected_text

WANTED = {"words": 200, "delay_s": 0.05, "reasoning": "Let me think about it."}


def test_an_event_source_goes_on_by_itself_where_it_was_cut_off(new_person: People, cable: Cable) -> None:
    chat = new_person(cable.url).visits()
    chat.ask(**WANTED)
    chat.begins()
    stream = chat.replies.last.get_attribute("data-stream")
    follow = example("js", "eventsource")
    with chat.page.expect_request("**/events/"):
        chat.page.evaluate(f"(stream) => {{ {follow}; globalThis.shown = shown; }}", stream)
    for _ in range(2):
        length = chat.page.evaluate("() => shown.text.length")
        chat.page.wait_for_function("(length) => shown.text.length > length", arg=length)
        with chat.page.expect_request("**/events/"):
            cable.cut()
            cable.mend()
    chat.page.wait_for_function("() => shown.status !== 'pending'")
    shown = chat.page.evaluate("() => shown")
    assert shown == {"text": expected_text(WANTED), "reasoning": WANTED["reasoning"], "status": "done"}
    expect(chat.replies).to_have_count(1)
