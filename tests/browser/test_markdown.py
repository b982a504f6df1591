"""Answers as Markdown on the page: as a fresh one while they grow, undisturbed under the reader's hands, harmless."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route, expect

from tests.attacks import attacks
from tests.browser.conftest import People
from tests.processes import Server
from tests.streaming.test_rendering_live import DOCUMENT

pytestmark = pytest.mark.page

WATCH = "window.ran = 0; for (const name of ['alert', 'print', 'open']) window[name] = () => { window.ran += 1; };"
LONG = "First words of it.\n\n" + "- an item with **bold** words\n" * 60


def test_markdown_that_came_live_is_that_of_a_fresh_page(new_person: People) -> None:
    chat = new_person().visits()
    chat.ask(text=DOCUMENT, chunk=7, delay_s=0.02)
    chat.ends()
    body = chat.replies.last.locator(".body")
    expect(body.locator("table td")).to_have_count(2)
    expect(body.locator("pre .tok-string")).to_have_text('"a | b"')
    expect(body.locator("a.image")).to_have_text("image")
    chat.looks_fresh()


def test_a_page_opened_in_mid_answer_shows_what_the_first_one_does(new_person: People) -> None:
    person = new_person()
    chat = person.visits()
    chat.ask(text=DOCUMENT * 3, chunk=9, delay_s=0.02)
    chat.grows(beyond=300)
    second = person.opens(chat.page.url)
    chat.ends()
    second.ends()
    assert second.messages == chat.messages


def test_what_is_selected_stays_selected_while_the_answer_grows(new_person: People) -> None:
    chat = new_person().visits()
    chat.ask(text=LONG, chunk=10, delay_s=0.02)
    chat.grows(beyond=60)
    chat.page.evaluate(
        """() => {
          const item = [...document.querySelectorAll(".reply li")].at(-1);
          getSelection().selectAllChildren(document.querySelector(".reply .body p"));
          getSelection().extend(item.querySelector("p").firstChild, 2);
        }"""
    )
    before = chat.page.evaluate("getSelection().toString()")
    assert before.startswith("First words of it.")
    chat.ends()
    assert chat.page.evaluate("getSelection().toString()") == before


def test_code_is_copied_as_it_was_written(new_person: People) -> None:
    person = new_person()
    person.profile.grant_permissions(["clipboard-read", "clipboard-write"])
    chat = person.visits()
    chat.ask(text='```python\nx = "<b>"\n\ty()\n```\n')
    chat.ends()
    chat.page.bring_to_front()  # A browser lets only the page that has the focus write to the clipboard.
    chat.page.get_by_role("button", name="Copy the code").click()
    expect(chat.page.locator(".copy-code.copied")).to_have_count(1)
    assert chat.page.evaluate("navigator.clipboard.readText()") == 'x = "<b>"\n\ty()\n'


def test_markdown_is_there_without_javascript(new_person: People) -> None:
    person = new_person()
    chat = person.visits()
    chat.ask(text=DOCUMENT)
    chat.ends()
    plain = new_person(java_script_enabled=False, storage_state=person.profile.storage_state())
    page = plain.opens(chat.page.url).page
    expect(page.locator(".reply table td")).to_have_count(2)
    expect(page.locator(".copy-code").first).to_be_hidden()


def test_no_attack_runs_loads_or_complains(new_person: People, site: Server) -> None:
    """In a real browser, live and stored; a policy's complaint counts as well, since nothing may even try."""
    person, abroad = new_person(), []

    def note(route: Route) -> None:
        if not route.request.url.startswith((site.url, "data:image/svg")):
            abroad.append(route.request.url)
        route.continue_()

    person.profile.route("**/*", note)
    person.profile.add_init_script(WATCH)
    chat = person.visits()
    chat.ask(text="\n\n".join(attacks()[::3]), chunk=37)
    chat.ends()
    chat.page.locator(".reply .body").click(position={"x": 5, "y": 5})
    chat.looks_fresh()
    assert chat.page.evaluate("window.ran") == 0
    assert abroad == []
