"""What people do on the pages and see there, in the words of the tests."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from playwright.sync_api import BrowserContext, Page, expect

from tests.processes import directive

PASSWORD = "tall blue tulips"
# The last four are htmx's words for a request that was not answered, or was refused.
EXPECTED = (
    "Failed to load resource",
    "WebSocket connection to",
    "htmx:afterRequest",
    "htmx:sendError",
    "htmx:timeout",
    "Response Status Error Code",
)


class Chat:
    """One tab on one conversation (or on the page that begins one)."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def composer(self) -> Any:
        return self.page.locator("#prompt")

    @property
    def replies(self) -> Any:
        return self.page.locator("#messages > .reply")

    @property
    def path(self) -> str:
        return urlsplit(self.page.url).path

    @property
    def messages(self) -> str:
        """The list of messages as the page has it now."""
        return self.page.locator("#messages").inner_html()

    @property
    def text(self) -> str:
        """What the newest reply says so far."""
        return self.replies.last.locator(".body").text_content() or ""

    @property
    def note(self) -> Any:
        return self.replies.last.locator(".note")

    @property
    def seq(self) -> int:
        return int(self.replies.last.get_attribute("data-seq") or 0)

    def ask(self, prompt: str = "", /, **fields: Any) -> None:
        """Send a prompt, or a directive for the model server."""
        self.listens()
        self.composer.fill(prompt or directive(**fields))
        self.page.get_by_role("button", name="Send").click()

    def listens(self) -> None:
        """Wait until the page's script runs, if it may: what the server rendered is there before."""
        expect(self.page.locator("#connection[data-state='']:visible")).to_have_count(0)

    def begins(self, turns: int = 1) -> None:
        """Wait until so many turns are here, the newest has said something and the page's keys work."""
        self.listens()
        expect(self.replies).to_have_count(turns)
        expect(self.replies.last.locator(".body")).not_to_be_empty()

    def ends(self, status: str = "done", turns: int = 1) -> None:
        self.listens()
        expect(self.replies).to_have_count(turns)
        expect(self.replies.last).to_have_attribute("data-status", status)

    def grows(self, beyond: int) -> None:
        """Wait until the newest reply is longer than so many characters."""
        self.page.wait_for_function(
            "size => [...document.querySelectorAll('.reply .body')].at(-1).textContent.length > size", arg=beyond
        )

    def connects(self) -> None:
        expect(self.page.locator("#connection")).to_have_attribute("data-state", "open")

    def says(self, words: str) -> None:
        """Wait until the note under the newest reply shows these words, however shortly."""
        self.page.wait_for_function(
            "words => [...document.querySelectorAll('.reply .note')].at(-1).innerText.includes(words)", arg=words
        )

    def is_cut_off(self) -> None:
        # A browser that is told to be offline may keep the end of a socket to itself: its silence tells, after a while.
        state = re.compile("waiting|connecting")
        expect(self.page.locator("#connection")).to_have_attribute("data-state", state, timeout=25_000)

    def looks_fresh(self) -> None:
        """The messages as frames have made them are those of a page loaded now."""
        before = self.messages
        self.page.reload()
        assert self.messages == before


class Person:
    """Somebody with a browser profile of their own."""

    def __init__(self, profile: BrowserContext) -> None:
        self.profile = profile
        self.complaints: list[str] = []
        profile.on("console", lambda message: self._note(message.type, message.text))
        profile.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def _note(self, kind: str, text: str) -> None:
        # What a network or a refusal does is for the tests to judge; scripts and policies must have nothing to say.
        if kind in ("error", "warning") and not text.startswith(EXPECTED):
            self.complaints.append(text)

    def visits(self) -> Chat:
        """Come in as a visitor."""
        page = self.profile.new_page()
        page.goto("/")
        page.get_by_role("button", name="Start chatting").click()
        expect(page.locator("#prompt")).to_be_visible()
        page.wait_for_load_state()
        return Chat(page)

    def signs_up(self) -> tuple[Chat, str]:
        """Make an account; returns the page of a new chat and the account's name."""
        page, name = self.profile.new_page(), f"person-{uuid4().hex[:8]}"
        page.goto("/signup/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Password confirmation").fill(PASSWORD)
        page.get_by_role("button", name="Sign up").click()
        expect(page.locator("#prompt")).to_be_visible()
        return Chat(page), name

    def logs_in(self, name: str, password: str = PASSWORD, path: str = "/") -> Chat:
        page = self.profile.new_page()
        page.goto(f"/login/?next={path}")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#prompt")).to_be_visible()
        return Chat(page)

    def opens(self, url: str) -> Chat:
        """A tab of its own on a page."""
        page = self.profile.new_page()
        page.goto(url)
        return Chat(page)
