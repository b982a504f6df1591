"""The pictures in docs/screenshots, taken of a real run with the demo model: `python -m tests.screenshots [folder]`.

Each scene at two widths, light and dark. Whoever changes how the pages look takes them again, and looks at every one.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright

from chatsite.settings import BASE_DIR
from tests import browsers
from tests.processes import Server, server

FOLDER = BASE_DIR / "docs" / "screenshots"
WIDTHS: dict[str, dict[str, Any]] = {
    "1280": {"viewport": {"width": 1280, "height": 800}},
    "390": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WEBP = {"format": "webp", "quality": 60}
DEMO = {"OPENAI_BASE_URL": "", "OPENAI_API_KEY": "", "LLM_MODELS": "", "DEMO_DELTAS_PER_S": "40"}
PASSWORD = "tall blue tulips"
EARLIER = (
    "Which trees lose their leaves last?",
    "A name for a small bakery",
    "Why is the sky blue at noon and red at dusk?",
    "Three easy dinners for a busy week, as a list",
)
MAIN = ("Think first, then show me some code", "Now a table, please")
WORDS = "Write something long"


def signed_up(page: Page) -> None:
    page.goto("/signup/")
    page.get_by_label("Username").fill("Ada")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password confirmation").fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    page.locator("#prompt").wait_for()


def ask(page: Page, prompt: str) -> None:
    page.locator("#prompt").fill(prompt)
    page.get_by_role("button", name="Send").click()


def asked(page: Page, *prompts: str) -> str:
    """A new conversation of these prompts, all answered; returns its address."""
    page.goto("/")
    for turn, prompt in enumerate(prompts):
        ask(page, prompt)
        page.locator(".reply[data-status=done]").nth(turn).wait_for()
        expect(page.locator("#connection")).to_have_attribute("data-state", "open")
    return page.url


def opened(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#connection")).to_have_attribute("data-state", "open")


def sidebar(page: Page) -> None:
    if (button := page.get_by_role("button", name="Show conversations")).is_visible():
        button.click()


def from_menu(page: Page, item: str) -> None:
    page.get_by_label("This conversation").click()
    page.locator(".conversation-menu").get_by_text(item).click()


# The scenes, each on a page of its own; `talk` is the address of a conversation of two turns.


def new_chat(page: Page, talk: str) -> None:
    page.goto("/")


def conversation(page: Page, talk: str) -> None:
    opened(page, talk)


def answering(page: Page, talk: str) -> None:
    page.goto("/")
    ask(page, WORDS)
    page.wait_for_function("() => (document.querySelector('.reply .body')?.textContent.length ?? 0) > 500")
    sidebar(page)
    page.locator("#chats .live-dot").first.wait_for()


def forget(page: Page) -> None:
    """Delete what was asked on a page, so that the next scene's list is as this one's was."""
    script = """id => fetch(`/api/conversations/${id}/`, {method: "DELETE",
        headers: {"X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value}})"""
    page.evaluate(script, page.url.split("/")[-2])


def search(page: Page, talk: str) -> None:
    opened(page, talk)
    sidebar(page)
    page.get_by_role("searchbox").press_sequentially("list")
    page.locator("#found .hits").wait_for()


def share(page: Page, talk: str) -> None:
    opened(page, talk)
    from_menu(page, "Share")
    if (make := page.get_by_role("button", name="Make a link")).is_visible():
        make.click()
    page.get_by_label("Link", exact=True).wait_for()


def shared(page: Page, talk: str) -> None:
    share(page, talk)
    opened(page, page.get_by_label("Link", exact=True).input_value())


SCENES: tuple[Callable[[Page, str], None], ...] = (new_chat, conversation, answering, search, share, shared)


def shoot(page: Page, folder: Path, name: str) -> None:
    page.evaluate("document.fonts.ready")
    devtools = page.context.new_cdp_session(page)
    taken = devtools.send("Page.captureScreenshot", WEBP)
    (folder / f"{name}.webp").write_bytes(base64.b64decode(taken["data"]))


def shoot_all(browser: Browser, site: Server, folder: Path) -> None:
    ada = browser.new_context(base_url=site.url)
    page = ada.new_page()
    signed_up(page)
    for prompt in EARLIER:
        asked(page, prompt)
    talk = asked(page, *MAIN)
    state: Any = ada.storage_state()
    for width, window in WIDTHS.items():
        for scheme in SCHEMES:
            stranger = browser.new_context(base_url=site.url, color_scheme=scheme, **window).new_page()
            stranger.goto("/")
            shoot(stranger, folder, f"landing-{width}-{scheme}")
            for scene in SCENES:
                profile = browser.new_context(base_url=site.url, color_scheme=scheme, storage_state=state, **window)
                scene(shown := profile.new_page(), talk)
                shoot(shown, folder, f"{scene.__name__.replace('_', '-')}-{width}-{scheme}")
                if scene is answering:
                    forget(shown)
                profile.close()


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, server(Path(home), "", **DEMO) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browsers.browser(), args=["--no-sandbox"])
        shoot_all(browser, site, folder)
        browser.close()


if __name__ == "__main__":
    main()
