"""The conversations beside the page: always up to date, found, shared, and brought back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cable import Cable
from tests.browser.chat import Chat, Person
from tests.browser.conftest import People
from tests.modelscript import expected_text
from tests.processes import RemoteGate, Server

pytestmark = pytest.mark.page

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WINDOWS = pytest.mark.parametrize("window", [{}, PHONE], ids=["desk", "phone"])
ENDLESS = {"words": 3000, "delay_s": 0.04}
SLOW: dict[str, Any] = {"words": 100, "delay_s": 0.01}
# A list asks every few seconds.
SOON_MS = 15_000


def asked(person: Person, prompt: str = "Tell me about tulips") -> Chat:
    """A page with one finished turn, its script running."""
    chat = Chat(person.profile.pages[0]) if person.profile.pages else person.visits()
    chat.page.goto("/")
    chat.ask(prompt)
    chat.ends()
    chat.connects()
    return chat


def shelf(page: Page) -> Any:
    """The list of conversations, in sight."""
    if page.get_by_role("button", name="Show conversations").is_visible():
        page.get_by_role("button", name="Show conversations").click()
    return page.locator("#chats")


def menu(page: Page, item: str) -> None:
    page.get_by_label("This conversation").click()
    page.locator(".conversation-menu").get_by_text(item, exact=True).click()


# The list


@WINDOWS
def test_a_title_changed_in_one_tab_is_changed_in_the_other(new_person: People, window: dict[str, Any]) -> None:
    person = new_person(**window)
    first = asked(person)
    second = person.opens(first.page.url)
    second.connects()
    first.page.get_by_label("This conversation").click()
    first.page.get_by_label("Title").fill("Flowers & more")
    first.page.get_by_role("button", name="Rename").click()
    expect(second.page.locator("#conversation-title")).to_have_text("Flowers & more", timeout=SOON_MS)
    expect(second.page).to_have_title("Flowers & more · Chatsite")
    expect(shelf(second.page).get_by_role("link", name="Flowers & more")).to_be_visible()


@pytest.mark.both
def test_a_dot_shows_on_another_device_what_is_being_answered(new_person: People) -> None:
    desk, name = new_person().signs_up()
    phone = new_person(**PHONE).logs_in(name)
    desk.ask(**ENDLESS)
    desk.begins()
    expect(shelf(phone.page).get_by_role("img", name="Answering now")).to_be_visible(timeout=SOON_MS)
    desk.composer.press("Escape")
    desk.ends("stopped")
    expect(phone.page.get_by_role("img", name="Answering now")).to_be_hidden(timeout=SOON_MS)


def test_the_list_is_right_again_after_a_lost_connection(new_person: People, site: Server, cable: Cable) -> None:
    person = new_person(url=cable.url)
    away = asked(person)
    cable.cut()
    away.is_cut_off()
    here = person.opens(site.url + away.path)
    menu(here.page, "Delete")
    expect(here.page.get_by_text("is deleted.")).to_be_visible()
    expect(away.page.locator("#chats a")).to_have_count(1)
    cable.mend()
    expect(away.page.locator("#chats a")).to_have_count(0, timeout=SOON_MS)


def test_a_page_that_nobody_sees_does_not_ask(new_person: People) -> None:
    chat = asked(new_person())
    sent = """hidden => {
        Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
        let sent = 0;
        document.addEventListener('htmx:beforeSend', () => sent++);
        document.dispatchEvent(new Event('turned'));
        return sent;
    }"""
    assert chat.page.evaluate(sent, True) == 0
    with chat.page.expect_response(lambda response: "/chats/" in response.url):
        chat.page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    chat.page.wait_for_function(sent, arg=False)  # Again and again: one that is under way holds the next back.


def test_the_focus_stays_in_a_list_that_changes(new_person: People) -> None:
    person = new_person()
    chat = asked(person)
    chat.page.locator("#chats a").focus()
    other = person.opens("/")
    other.ask("Another one")
    expect(chat.page.locator("#chats a")).to_have_count(2, timeout=SOON_MS)
    expect(chat.page.locator("#chats a[aria-current]")).to_be_focused()


# Search


@pytest.mark.both
@WINDOWS
def test_typing_finds_and_the_keyboard_opens(new_person: People, window: dict[str, Any]) -> None:
    person = new_person(**window)
    wanted = asked(person, "Tell me about tulips").path
    asked(person, "Tell me about roses")
    chat = person.opens("/")
    shelf(chat.page)
    chat.page.get_by_role("searchbox").press_sequentially("tulip")
    expect(chat.page.get_by_role("status").get_by_text("1 found")).to_be_visible()
    expect(chat.page.locator("#found mark").first).to_have_text("tulip")
    expect(chat.page.locator("#chats")).to_be_hidden()
    chat.page.keyboard.press("ArrowDown")
    chat.page.keyboard.press("Enter")
    expect(chat.replies).to_have_count(1)
    assert chat.path == wanted


def test_escape_gives_the_list_back_and_stops_nothing(new_person: People) -> None:
    chat = asked(new_person())
    chat.ask(**ENDLESS)
    chat.begins(turns=2)
    search = chat.page.get_by_role("searchbox")
    search.press_sequentially("tulip")
    expect(chat.page.locator("#found a")).to_have_count(1)
    search.press("Escape")
    expect(chat.page.locator("#found a")).to_have_count(0)
    expect(chat.page.locator("#chats")).to_be_visible()
    expect(chat.replies.last).to_have_attribute("data-status", "streaming")
    chat.composer.press("Escape")
    chat.ends("stopped", turns=2)


def test_without_javascript_one_finds_shares_and_sets_up(new_person: People) -> None:
    person = new_person(java_script_enabled=False)
    chat = person.visits()
    chat.composer.fill('{"text": "Tulips are flowers."}')
    chat.page.get_by_role("button", name="Send").click()
    chat.ends()
    menu(chat.page, "Model and instructions…")
    chat.page.get_by_label("Instructions", exact=True).fill("Be brief.")
    chat.page.get_by_role("button", name="Save").click()
    expect(chat.page.get_by_text("Saved.")).to_be_visible()
    menu(chat.page, "Share…")
    chat.page.get_by_role("button", name="Make a link").click()
    menu(chat.page, "Share…")
    expect(chat.page.get_by_label("Link", exact=True)).to_be_visible()
    chat.page.keyboard.press("Escape")
    chat.page.get_by_role("searchbox").fill("tulips")
    chat.page.get_by_role("searchbox").press("Enter")
    expect(chat.page.locator("main .hits a")).to_have_count(1)


# What is done to one


@WINDOWS
def test_a_deletion_is_undone_with_one_click(new_person: People, window: dict[str, Any]) -> None:
    chat = asked(new_person(**window))
    menu(chat.page, "Delete")
    expect(chat.page.get_by_text("“Tell me about tulips” is deleted.")).to_be_visible()
    expect(shelf(chat.page).get_by_role("link")).to_have_count(0)
    chat.page.keyboard.press("Escape")
    chat.page.get_by_role("button", name="Undo").click()
    expect(chat.replies).to_have_count(1)
    expect(chat.page.get_by_role("button", name="Undo")).to_have_count(0)


@pytest.mark.parametrize(
    ("item", "name"), [("Markdown", "tell-me-about-tulips.md"), ("JSON", "tell-me-about-tulips.json")]
)
def test_a_conversation_is_saved_as_a_file(new_person: People, tmp_path: Path, item: str, name: str) -> None:
    chat = asked(new_person())
    with chat.page.expect_download() as download:
        menu(chat.page, f"Export as {item}")
    assert download.value.suggested_filename == name
    download.value.save_as(tmp_path / name)
    text = (tmp_path / name).read_text()
    assert chat.text in text
    assert item != "JSON" or json.loads(text)["messages"][1]["text"] == chat.text


def test_a_dialogue_takes_the_place_of_its_menu_and_gives_it_and_the_focus_back(new_person: People) -> None:
    chat = asked(new_person())
    menu(chat.page, "Model and instructions…")
    expect(chat.page.get_by_role("dialog", name="Model and instructions")).to_be_visible()
    expect(chat.page.get_by_role("button", name="Rename")).to_be_hidden()
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("button", name="Rename")).to_be_visible()
    expect(chat.page.get_by_label("This conversation")).to_be_focused()
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("button", name="Rename")).to_be_hidden()


@WINDOWS
def test_the_menu_of_a_conversation_is_used_by_keyboard_and_its_escape_stops_nothing(
    new_person: People, window: dict[str, Any]
) -> None:
    chat = asked(new_person(**window))
    chat.ask(**ENDLESS)
    chat.begins(turns=2)
    button, keyboard = chat.page.get_by_label("This conversation"), chat.page.keyboard
    button.press("Enter")
    items = chat.page.locator(".conversation-menu").locator("input:not([type=hidden]), button, a, summary")
    for item in items.filter(visible=True).all()[1:]:
        keyboard.press("Tab")
        expect(item).to_be_focused()
    keyboard.press("Escape")
    expect(chat.page.get_by_role("button", name="Rename")).to_be_hidden()
    expect(button).to_be_focused()
    expect(chat.replies.last).to_have_attribute("data-status", "streaming")
    keyboard.press("Escape")
    chat.ends("stopped", turns=2)


@WINDOWS
def test_the_account_menu_closes_before_what_it_stands_in(new_person: People, window: dict[str, Any]) -> None:
    chat = asked(new_person(**window))
    chats, keyboard = shelf(chat.page), chat.page.keyboard
    chat.page.get_by_role("searchbox").fill("tulip")
    expect(chat.page.locator("#found a")).to_have_count(1)
    button = chat.page.locator(".account > button")
    button.press("Enter")
    keyboard.press("Tab")
    expect(chat.page.locator("#account-menu a, #account-menu button").first).to_be_focused()
    expect(chat.page.locator("#account-menu")).to_be_in_viewport(ratio=1)
    keyboard.press("Escape")
    expect(chat.page.locator("#account-menu")).to_be_hidden()
    expect(button).to_be_focused()
    expect(chat.page.locator("#found a")).to_be_visible()
    expect(chats).to_be_hidden()  # What is found stands in its place.
    keyboard.press("Enter")
    chat.page.get_by_role("link", name="Access tokens").click()
    chat.page.wait_for_url("**/tokens/")


# Sharing


def share(chat: Chat) -> str:
    """Share what is on the page; returns the link."""
    menu(chat.page, "Share…")
    chat.page.get_by_role("button", name="Make a link").click()
    link = chat.page.get_by_label("Link", exact=True)
    expect(link).to_be_visible()
    return str(link.input_value())


@pytest.mark.both
@WINDOWS
def test_a_link_shows_an_answer_live_until_it_is_revoked(
    new_person: People, window: dict[str, Any], gate: RemoteGate
) -> None:
    owner = new_person().visits()
    owner.ask(**SLOW, gate=gate.name)
    owner.begins()
    link = share(owner)
    reader = new_person(**window).opens(link)
    reader.connects()
    seen = reader.text
    gate.open()
    reader.grows(len(seen))
    owner.ends()
    reader.ends()
    assert reader.text == owner.text == expected_text(SLOW)
    owner.page.get_by_role("button", name="Done").click()
    owner.ask(words=5)
    reader.ends(turns=2)
    owner.ends(turns=2)
    menu(owner.page, "Share…")
    owner.page.get_by_role("button", name="Stop sharing").click()
    expect(reader.page.get_by_text("not shared any more")).to_be_visible()
    assert reader.text == owner.text
    answer = reader.page.reload()
    assert answer is not None and answer.status == 404


def test_a_link_can_be_copied(new_person: People) -> None:
    chat = asked(new_person())
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    link = share(chat)
    chat.page.get_by_role("button", name="Copy", exact=True).click()
    expect(chat.page.get_by_role("button", name="Copied", exact=True)).to_be_visible()
    assert chat.page.evaluate("navigator.clipboard.readText()") == link


@pytest.mark.both
def test_a_reader_without_javascript_follows_too(new_person: People, gate: RemoteGate) -> None:
    owner = new_person().visits()
    owner.ask(**SLOW, gate=gate.name)
    owner.begins()
    reader = new_person(java_script_enabled=False).opens(share(owner))
    reader.begins()
    gate.open()
    reader.ends()
    assert reader.text == expected_text(SLOW)


@pytest.mark.both
def test_a_result_opens_at_the_message_that_was_found(new_person: People) -> None:
    chat = asked(new_person(), '{"text": "The needle is here."}')
    chat.ask(words=3000)
    chat.ends(turns=2)
    chat.page.goto("/search/?q=needle")
    chat.page.locator("main .hits a").click()
    expect(chat.replies.first).to_be_in_viewport()
    chat.connects()
    expect(chat.page.get_by_role("button", name="Jump to latest")).to_be_visible()


@pytest.mark.both
def test_a_result_in_another_branch_shows_it_until_one_is_chosen(new_person: People) -> None:
    chat = asked(new_person())
    first = (chat.replies.last.get_attribute("id") or "").removeprefix("message-")
    chat.replies.last.hover()
    chat.replies.last.get_by_role("button", name="Try again").click()
    number = chat.replies.last.locator(".branch-number")
    expect(number).to_have_text("2/2")
    chat.ends()
    chat.page.goto(f"{chat.path}?message={first}#message-{first}")
    expect(number).to_have_text("1/2")
    chat.connects()
    chat.replies.last.get_by_role("button", name="Later version").click()
    expect(number).to_have_text("2/2")
    chat.looks_fresh()


@WINDOWS
def test_a_result_in_the_open_chat_moves_its_messages_and_nothing_else(
    new_person: People, window: dict[str, Any]
) -> None:
    person = new_person(**window)
    chat = asked(person, "Say this: " + "tulip and more words for a long text\n" * 80)
    chat.ask("And now a short one")
    chat.ends(turns=2)
    page = chat.page
    shelf(page)
    page.locator("#search").fill("tulip")
    page.locator("#found a").first.click()
    page.wait_for_url("**#message-*")
    expect(page.locator("#sidebar:popover-open")).to_have_count(0)
    assert page.evaluate("[scrollY, document.scrollingElement.scrollHeight - innerHeight]") == [0, 0]
