"""How the pages feel: typing, scrolling, the phone, what errors say, and that nothing foreign runs on them."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chat import Chat
from tests.browser.conftest import PHONE, People
from tests.processes import Server

pytestmark = pytest.mark.page

SPOILED = """() => {
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (text) { send.call(this, text.replace("Again?", " ")); };
}"""
LONG = {"words": 3000, "delay_s": 0.02}


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def gap(page: Page) -> int:
    """How far above its end the list of messages is scrolled."""
    return int(page.evaluate("(m => m.scrollHeight - m.scrollTop - m.clientHeight)(document.querySelector('#main'))"))


def finished(people: People, **fields: object) -> Chat:
    """A page with one finished turn, its script running."""
    chat = people().visits()
    chat.ask(**(fields or {"words": 3}))
    chat.ends()
    chat.connects()
    return chat


# Typing


def test_enter_sends_and_shift_enter_is_a_new_line(new_person: People) -> None:
    chat = finished(new_person)
    chat.composer.press_sequentially("one")
    chat.composer.press("Shift+Enter")
    chat.composer.press_sequentially("two")
    assert chat.composer.input_value() == "one\ntwo"
    chat.composer.press("Enter")
    chat.ends(turns=2)
    expect(chat.page.locator("#messages .prompt .body").last).to_have_text("one\ntwo")
    expect(chat.composer).to_have_value("")


def test_the_composer_grows_with_the_text_up_to_a_limit(new_person: People) -> None:
    chat = finished(new_person)
    heights = []
    for lines in (1, 5, 200):
        chat.composer.fill("line\n" * lines)
        heights.append(chat.composer.bounding_box()["height"])
    assert heights[0] < heights[1] < heights[2] <= 320


def test_a_draft_outlives_the_tab_and_belongs_to_its_conversation(new_person: People) -> None:
    chat = finished(new_person)
    chat.composer.fill("half a thou")
    chat.page.reload()
    expect(chat.composer).to_have_value("half a thou")
    chat.page.get_by_role("link", name="New chat").first.click()
    expect(chat.page.get_by_role("heading", name="What is on your mind?")).to_be_visible()
    expect(chat.composer).to_have_value("")


def test_the_draft_of_a_new_chat_is_gone_once_it_was_asked(new_person: People) -> None:
    chat = finished(new_person)
    chat.page.goto("/")
    expect(chat.composer).to_have_value("")


def test_an_example_is_put_in_the_composer(new_person: People) -> None:
    chat = new_person().visits()
    example = chat.page.locator("[data-example]").first
    example.click()
    expect(chat.composer).to_have_value(example.text_content() or "?")
    expect(chat.composer).to_be_focused()


def test_a_prompt_while_an_answer_is_written_stays_in_the_composer(new_person: People) -> None:
    chat = finished(new_person)
    chat.ask(**LONG)
    chat.begins(turns=2)
    chat.composer.fill("And then?")
    chat.composer.press("Enter")
    expect(chat.page.get_by_role("alert").first).to_contain_text("still being written")
    expect(chat.composer).to_have_value("And then?")
    chat.composer.press("Escape")
    chat.ends("stopped", turns=2)


def test_what_the_server_refuses_comes_back_to_the_composer(new_person: People) -> None:
    person = new_person()
    first = person.visits()
    first.ask(words=3)
    first.ends()
    first.connects()
    # On its way the prompt becomes one that the server refuses.
    first.page.evaluate(SPOILED)
    first.ask("Again?")
    expect(first.page.get_by_role("alert").first).to_contain_text("empty")
    expect(first.composer).to_have_value("Again?")
    expect(first.page.locator("#outbox")).to_be_hidden()


def test_a_prompt_that_is_too_long_stays_and_is_not_sent(new_person: People) -> None:
    chat = finished(new_person)
    chat.composer.fill("x" * 100_001)
    chat.composer.press("Enter")
    expect(chat.page.get_by_role("alert").first).to_contain_text("100,001 characters")
    assert len(chat.composer.input_value()) == 100_001
    expect(chat.replies).to_have_count(1)


# Scrolling


def test_the_page_follows_until_the_reader_scrolls_up(new_person: People) -> None:
    chat = finished(new_person, words=400)
    chat.ask(**LONG)
    chat.begins(turns=2)
    chat.grows(1500)
    assert gap(chat.page) < 30
    chat.page.locator("#main").hover()
    chat.page.mouse.wheel(0, -300)
    jump = chat.page.get_by_role("button", name="Jump to latest")
    expect(jump).to_be_visible()
    top = chat.page.evaluate("document.querySelector('#main').scrollTop")
    chat.grows(len(chat.text) + 1000)
    assert chat.page.evaluate("document.querySelector('#main').scrollTop") == top
    jump.click()
    expect(jump).to_be_hidden()
    chat.page.wait_for_function(
        "(m => m.scrollHeight - m.scrollTop - m.clientHeight < 30)(document.querySelector('#main'))"
    )
    chat.composer.press("Escape")
    chat.ends("stopped", turns=2)


# The phone


def test_nothing_is_wider_than_a_phone(new_person: People) -> None:
    person = new_person(**PHONE)
    for path in ("/", "/login/", "/signup/"):
        assert overflow(person.opens(path).page) == 0
    chat = person.visits()
    assert overflow(chat.page) == 0
    chat.ask(text="unbroken" * 200 + "\n| a | table |" + "wide " * 50)
    chat.ends()
    assert overflow(chat.page) == 0


def test_the_conversations_are_behind_a_button_on_a_phone(new_person: People) -> None:
    chat = new_person(**PHONE).visits()
    chat.ask(words=3)
    chat.ends()
    sidebar = chat.page.locator("#sidebar")
    expect(sidebar).to_be_hidden()
    chat.page.get_by_role("button", name="Show conversations").click()
    expect(sidebar).to_be_visible()
    assert overflow(chat.page) == 0
    sidebar.get_by_role("link", name="New chat").click()
    expect(chat.page.get_by_role("heading", name="What is on your mind?")).to_be_visible()
    expect(sidebar).to_be_hidden()


@pytest.mark.parametrize("window", [{}, PHONE], ids=["desk", "phone"])
def test_a_long_word_in_the_composer_leaves_the_page_its_width(new_person: People, window: dict[str, Any]) -> None:
    chat = new_person(**window).visits()
    for turns in (1, 2):
        chat.composer.fill("x" * 320)
        assert overflow(chat.page) <= 0
        assert chat.page.evaluate("document.querySelector('.send').getBoundingClientRect().right <= innerWidth")
        chat.ask(words=3)
        chat.ends(turns=turns)


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_the_menu_of_a_conversation_stays_on_the_screen(new_person: People, width: int) -> None:
    chat = new_person(viewport={"width": width, "height": 800}).visits()
    chat.ask("Why? " * 40)
    chat.ends()
    chat.page.get_by_label("This conversation").click()
    expect(chat.page.get_by_role("button", name="Rename")).to_be_in_viewport(ratio=1)
    expect(chat.page.locator(".conversation-menu > .menu-items")).to_be_in_viewport(ratio=1)


# What is said and done


def test_a_visitor_is_asked_before_the_chats_are_forgotten(new_person: People) -> None:
    page = new_person().visits().page
    page.locator(".account > button").click()
    page.get_by_text("Leave and forget these chats").click()
    expect(page.locator("#prompt")).to_be_visible()
    page.get_by_role("button", name="Yes, leave and forget them").click()
    expect(page.get_by_role("button", name="Start chatting")).to_be_visible()


def test_an_answer_that_failed_can_be_asked_again(new_person: People) -> None:
    chat = finished(new_person)
    chat.ask(words=3, status=400)
    chat.ends("error", turns=2)
    chat.replies.last.get_by_role("button", name="Try again").click()
    expect(chat.replies.last.locator(".branch-number")).to_have_text("2/2")
    chat.ends("error", turns=2)
    assert "secret" not in chat.page.content()


def test_the_title_and_the_sidebar_show_that_an_answer_is_being_written(new_person: People) -> None:
    chat = finished(new_person)
    chat.ask(**LONG)
    chat.begins(turns=2)
    dot = chat.page.locator(".conversation-list .live-dot").first
    expect(dot).to_be_visible()
    assert chat.page.title().startswith("… ")
    chat.composer.press("Escape")
    chat.ends("stopped", turns=2)
    expect(dot).to_be_hidden()
    assert not chat.page.title().startswith("…")


def test_copy_puts_the_answer_on_the_clipboard(new_person: People) -> None:
    chat = finished(new_person, words=5)
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    before = chat.messages
    chat.page.get_by_role("button", name="Copy the answer").click()
    expect(chat.page.locator("#announcer")).to_have_text("Copied.")
    assert chat.page.evaluate("navigator.clipboard.readText()") == chat.text
    expect(chat.page.locator(".copied")).to_have_count(0)
    assert chat.messages == before


@pytest.mark.both
def test_a_log_out_elsewhere_is_said_on_the_open_page(new_person: People) -> None:
    chat, _ = new_person().signs_up()
    chat.ask(words=3)
    chat.ends()
    chat.connects()
    chat.composer.fill("kept")
    chat.page.context.clear_cookies()
    chat.page.evaluate("dispatchEvent(new Event('online'))")
    banner = chat.page.get_by_text("You are signed out")
    expect(banner).to_be_visible()
    assert "next=/c/" in (banner.get_by_role("link").get_attribute("href") or "")
    expect(chat.composer).to_have_value("kept")


@pytest.mark.both
def test_a_conversation_deleted_elsewhere_is_said_to_be_gone(new_person: People) -> None:
    person = new_person()
    first = person.visits()
    first.ask(words=3)
    first.ends()
    first.connects()
    second = person.opens(first.page.url)
    second.page.get_by_label("This conversation").click()
    second.page.get_by_role("button", name="Delete").click()
    expect(second.page.get_by_text("is deleted.")).to_be_visible()
    first.page.evaluate("dispatchEvent(new Event('online'))")
    expect(first.page.get_by_text("This conversation is gone")).to_be_visible()


@pytest.mark.both
def test_a_conversation_deleted_in_mid_answer_keeps_the_other_tab(new_person: People) -> None:
    person = new_person()
    first = person.visits()
    first.ask(**LONG)
    first.begins()
    second = person.opens(first.page.url)
    second.page.get_by_label("This conversation").click()
    second.page.get_by_role("button", name="Delete").click()
    expect(first.page.get_by_text("This conversation is gone")).to_be_visible()
    assert first.text


def test_the_composer_says_when_one_can_send_again(new_person: People) -> None:
    chat = finished(new_person)
    chat.ask(**LONG)
    chat.begins(turns=2)
    expect(chat.page.get_by_placeholder("You can send when it ends")).to_be_visible()
    chat.composer.press("Escape")
    chat.ends("stopped", turns=2)
    expect(chat.page.get_by_placeholder("Ask anything")).to_be_visible()


# Safety


EVIL = """<img src=x onerror="document.title='owned'">
<script>document.title='owned'</script><style>*{display:none}</style>"""


def test_markup_of_the_model_or_the_person_stays_text(new_person: People) -> None:
    chat = finished(new_person)
    chat.ask(EVIL)
    chat.ends(turns=2)
    chat.ask(text=EVIL, reasoning=EVIL)
    chat.ends(turns=3)
    for _ in range(2):
        assert chat.text == EVIL
        assert "owned" not in chat.page.title()
        assert chat.page.locator("#messages :is(img, script, style)").count() == 0
        chat.page.reload()


@pytest.mark.parametrize("path", ["/admin/login/", "/admin/", "/admin/password_change/"])
def test_other_pages_live_under_the_same_policy(new_person: People, site: Server, path: str) -> None:
    name = f"staff-{path.strip('/').replace('/', '-')}"
    make = "from conversations.models import User; User.objects.create_superuser({!r}, password='tall blue tulips')"
    site.manage("shell", "-v0", "-c", make.format(name))
    page = new_person().logs_in(name).page
    answer = page.goto(path)
    assert answer is not None
    assert "default-src 'self'" in (answer.header_value("content-security-policy") or "")
    page.wait_for_load_state("networkidle")
