"""The window on streams in a browser: a log's picture, words shown on request, an answer followed to its end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chat import PASSWORD
from tests.browser.conftest import People
from tests.processes import Server

ROOT = "import conversations.models as m; m.User.objects.create_superuser({!r}, password={!r})"
STREAMS = "/admin/streaming/stream/"


def newest(page: Page) -> None:
    """Open the page of the newest stream."""
    page.goto(STREAMS)
    page.locator("#result_list tbody tr").first.locator("th a").click()


def shoot(page: Page, name: str) -> None:
    """A picture for whoever changes these pages and wants to look: ADMIN_SHOTS names the folder."""
    if folder := os.environ.get("ADMIN_SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_answer_is_followed_stopped_and_looked_at(new_person: People, site: Server, scheme: str) -> None:
    site.manage("shell", "-v0", "-c", ROOT.format(f"root-{scheme}", PASSWORD))
    chat = new_person(color_scheme=scheme).logs_in(f"root-{scheme}")
    chat.ask(words=3000, delay_s=0.02)
    chat.begins()
    page = chat.page.context.new_page()
    newest(page)
    shoot(page, f"live-{scheme}")
    page.get_by_role("link", name="Follow live").click()
    bars = page.locator(".timeline rect.text")
    expect(bars.first).to_be_visible()
    rows = page.locator("#live table.rows").last.locator("tbody tr")
    last = rows.last.locator("td").first.text_content() or ""
    expect(rows.last.locator("td").first).not_to_have_text(last)
    page.get_by_role("link", name="Show personal text").first.click()
    expect(page.locator(".answer")).to_contain_text("alpha0 beta1")
    page.get_by_role("button", name="Stop this answer").click()
    chat.ends("stopped")
    newest(page)
    expect(page.locator(".timeline .mark.stop")).to_have_count(1)
    expect(page.locator(".timeline .mark.end")).to_contain_text("stopped")
    shoot(page, f"stopped-{scheme}")
    page.goto(STREAMS)
    shoot(page, f"list-{scheme}")
