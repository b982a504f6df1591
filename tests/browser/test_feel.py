"""How the pages feel to everybody: read aloud, by keyboard, in the dark, at rest, on paper, on a bad line."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser.cable import Cable
from tests.browser.chat import Chat
from tests.browser.conftest import DESK, PHONE, People
from tests.browser.senses import HEARD, violations
from tests.modelscript import expected_text

pytestmark = pytest.mark.page

WINDOWS = pytest.mark.parametrize("window", [DESK, PHONE], ids=["desk", "phone"])
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
FIRST_LOAD_BYTES = 60_000
ENDLESS = {"words": 3000, "delay_s": 0.03}
SAID = "# The sky\n\nIt is **blue**. See [why](https://example.org/).\n\n- one\n- two\n\n```python\nprint(1)\n```\n"


def turned(people: People, **options: Any) -> Chat:
    """A page with two branches, thoughts, code and an answer that was stopped."""
    chat = people(**options).visits()
    chat.ask(text=SAID, reasoning="Short waves.")
    chat.ends()
    chat.replies.last.hover()
    chat.replies.last.get_by_role("button", name="Try again").click()
    expect(chat.replies.last.locator(".branch-number")).to_have_text("2/2")
    chat.ends()
    chat.ask(**ENDLESS)
    chat.begins(turns=2)
    return chat


# For everybody


@WINDOWS
@SCHEMES
def test_the_pages_of_accounts_break_no_rule_of_access(new_person: People, window: dict[str, Any], scheme: str) -> None:
    person = new_person(**window, color_scheme=scheme, reduced_motion="reduce")
    for path in ("/", "/login/", "/signup/", "/nowhere/"):
        assert violations(person.opens(path).page) == [], path
    page = person.opens("/login/").page
    page.get_by_label("Username").fill("nobody")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert violations(page) == []


@WINDOWS
@SCHEMES
def test_the_pages_of_conversations_break_no_rule_of_access(
    new_person: People, window: dict[str, Any], scheme: str
) -> None:
    chat = turned(new_person, **window, color_scheme=scheme, reduced_motion="reduce")
    assert violations(chat.page) == []
    chat.page.get_by_role("button", name="Pause").click()
    assert violations(chat.page) == []
    chat.page.get_by_role("button", name="Stop the answer").click()
    chat.ends("stopped", turns=2)
    chat.page.get_by_text("Thinking").first.click()
    chat.page.locator("[data-action=edit]").first.focus()
    chat.page.locator("[data-action=edit]").first.press("Enter")
    assert violations(chat.page) == []
    chat.page.get_by_label("This conversation").click()
    assert violations(chat.page) == []
    chat.page.goto("/")
    assert violations(chat.page) == []
    chat.page.goto("/search/?q=sky")
    assert violations(chat.page) == []


def test_whole_sentences_are_read_aloud_and_nothing_twice(new_person: People) -> None:
    sentences = [f"This is sentence number {n}." for n in range(30)]
    chat = new_person().visits()
    chat.ask(words=1)
    chat.ends()
    chat.page.evaluate(HEARD)
    chat.ask(text=" ".join(sentences), delay_s=0.03)
    chat.ends(turns=2)
    heard = [text for text in chat.page.evaluate("window.heard") if text]
    spoken = [text for text in heard if text.startswith("This is")]
    assert all(re.fullmatch(r"(This is sentence number \d+\.\s*)+", text) for text in spoken)
    assert " ".join(spoken) == " ".join(sentences)
    assert 2 <= len(spoken) <= 10
    assert [text for text in heard if text not in spoken] == ["An answer begins.", "The answer is complete."]


@WINDOWS
def test_a_slash_leads_to_the_search_unless_one_types(new_person: People, window: dict[str, Any]) -> None:
    chat = new_person(**window).visits()
    chat.ask(words=1)
    chat.ends()
    chat.composer.fill("")
    chat.composer.press_sequentially("either/or")
    expect(chat.composer).to_have_value("either/or")
    chat.page.locator("#main").focus()
    chat.page.keyboard.press("/")
    expect(chat.page.locator("#search")).to_be_focused()
    expect(chat.page.locator("#search")).to_have_value("")


def test_everything_can_be_reached_by_keyboard(new_person: People) -> None:
    chat = new_person().visits()
    chat.ask(words=1)
    chat.ends()
    chat.page.locator("#main").focus()
    names = []
    for _ in range(12):
        chat.page.keyboard.press("Tab")
        names.append(
            chat.page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.id")
        )
    wanted = ["Edit the question", "Copy the answer", "Try again", "prompt", "Send"]
    assert [name for name in names if name in wanted][: len(wanted)] == wanted


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/login/", "Log in · Chatsite"),
        ("/signup/", "Sign up · Chatsite"),
        ("/nowhere/", "Not found · Chatsite"),
        ("/", "Chatsite: chat whose answers survive anything"),
    ],
)
def test_every_page_has_a_title_of_its_own(new_person: People, path: str, title: str) -> None:
    assert new_person().opens(path).page.title() == title


def test_a_conversation_has_its_name_in_the_title_and_says_when_it_is_done(new_person: People) -> None:
    chat = new_person().visits()
    assert chat.page.title() == "New chat · Chatsite"
    chat.ask("Why is the sky blue?")
    chat.ends()
    expect(chat.page).to_have_title("Why is the sky blue? · Chatsite")


# Colours, motion, paper


def test_dark_and_light_follow_the_system(new_person: People) -> None:
    page = new_person().visits().page
    paper: Callable[[], Any] = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    page.emulate_media(color_scheme="light")
    light = paper()
    page.emulate_media(color_scheme="dark")
    assert (light, paper()) == ("rgb(255, 255, 255)", "rgb(22, 25, 24)")


def test_nothing_moves_for_who_wants_it_still(new_person: People) -> None:
    chat = new_person(reduced_motion="reduce").visits()
    chat.ask(**ENDLESS)
    chat.begins()
    moving = (
        "() => document.getAnimations().filter((each) => each.effect.getComputedTiming().activeDuration > 10).length"
    )
    assert chat.page.evaluate(moving) == 0
    chat.page.emulate_media(reduced_motion="no-preference")
    assert chat.page.evaluate(moving) > 0
    chat.composer.press("Escape")
    chat.ends("stopped")


def test_on_paper_there_is_all_that_was_said_and_nothing_to_press(new_person: People) -> None:
    chat = new_person().visits()
    chat.ask(words=600)
    chat.ends()
    chat.page.emulate_media(media="print")
    for part in ("#sidebar", "#composer", ".actions >> nth=0", ".conversation-menu", "#connection"):
        expect(chat.page.locator(part)).to_be_hidden()
    expect(chat.page.get_by_role("heading", level=1)).to_be_visible()
    hidden = "(m => m.scrollHeight - m.clientHeight)(document.querySelector('#main'))"
    assert chat.page.evaluate(hidden) == 0
    assert chat.page.evaluate("document.documentElement.scrollHeight") > 800


# The line


def weight(page: Page, visit: Callable[[], Any]) -> tuple[int, list[str]]:
    """How many bytes a visit loads when what the site sends is compressed, and what."""
    came: list[Response] = []
    page.on("response", lambda response: came.append(response))
    visit()
    page.wait_for_load_state("networkidle")
    bodies = {response.url: response.body() for response in came if response.status == 200}
    return sum(len(gzip.compress(body)) for body in bodies.values()), sorted(bodies)


def test_the_first_load_is_light(new_person: People) -> None:
    person = new_person()
    chat = person.visits()
    chat.ask("Why?")
    chat.ends()
    page = person.profile.new_page()
    person.profile.new_cdp_session(page).send("Network.setCacheDisabled", {"cacheDisabled": True})
    size, loaded = weight(page, lambda: page.goto(chat.page.url))
    assert any(url.endswith("chatsite.css") for url in loaded) and any(url.endswith("chat.js") for url in loaded)
    assert size < FIRST_LOAD_BYTES, (size, loaded)


def test_the_scripts_come_from_here_and_none_is_in_the_page(new_person: People) -> None:
    person = new_person()
    chat = person.visits()
    chat.ask("Why?")
    chat.ends()
    answer = person.profile.request.get(chat.page.url)
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'" and "unsafe" not in json.dumps(policy)
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", answer.text())


@pytest.mark.both
@WINDOWS
def test_ten_seconds_offline_on_a_slow_line_cost_no_character(
    new_person: People, cable: Cable, window: dict[str, Any]
) -> None:
    fields = {"words": 220, "delay_s": 0.06}
    chat = new_person(**window, url=cable.url).visits()
    slow = {"offline": False, "latency": 400, "downloadThroughput": 40_000, "uploadThroughput": 15_000}
    devtools = chat.page.context.new_cdp_session(chat.page)
    devtools.send("Network.enable")
    devtools.send("Network.emulateNetworkConditions", slow)
    chat.ask(**fields)
    chat.connects()
    chat.begins()
    cable.cut()
    devtools.send("Network.emulateNetworkConditions", slow | {"offline": True})
    chat.is_cut_off()
    chat.says("Waiting for the connection")
    before = chat.text
    chat.page.wait_for_timeout(10_000)
    assert chat.text == before
    cable.mend()
    devtools.send("Network.emulateNetworkConditions", slow)
    chat.connects()
    chat.ends()
    assert chat.text == expected_text(fields)
    chat.looks_fresh()


@WINDOWS
def test_the_reader_who_scrolls_up_is_left_alone_and_can_jump_back(new_person: People, window: dict[str, Any]) -> None:
    chat = new_person(**window).visits()
    chat.ask(words=800)
    chat.ends()
    chat.ask(**ENDLESS)
    chat.begins(turns=2)
    chat.page.evaluate("document.querySelector('#main').scrollTop = 50")
    jump = chat.page.get_by_role("button", name="Jump to latest")
    expect(jump).to_be_visible()
    chat.grows(len(chat.text) + 200)
    assert chat.page.evaluate("document.querySelector('#main').scrollTop") == 50
    jump.click()
    expect(jump).to_be_hidden()
    chat.page.get_by_role("button", name="Stop the answer").click()
    chat.ends("stopped", turns=2)
