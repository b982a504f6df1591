"""The dashboard in a browser: the site's own processes and answers, readable in both themes and on a phone."""

from __future__ import annotations

from typing import Literal

from playwright.sync_api import expect

from tests.browser.chat import PASSWORD
from tests.browser.conftest import People
from tests.browser.test_admin import ROOT, shoot
from tests.columns import SCALED
from tests.processes import Server

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def test_the_dashboard_shows_processes_answers_and_readers_as_they_are(new_person: People, site: Server) -> None:
    site.manage("shell", "-v0", "-c", ROOT.format("root-dashboard", PASSWORD))
    chat = new_person().logs_in("root-dashboard")
    chat.ask(words=30)
    chat.ends()
    page = chat.page.context.new_page()
    page.goto("/admin/")
    page.get_by_role("link", name="Dashboard").click()
    expect(page.get_by_role("img", name="Answers by outcome").locator("rect.kind-done").first).to_be_visible()
    kinds = page.locator(".dashboard table tbody tr td:nth-child(2)")
    for kind in ("web", "worker") if SCALED else ("web",):
        expect(kinds.filter(has_text=kind).first).to_be_visible()
    page.get_by_role("link", name="The last week").click()
    expect(page.get_by_role("link", name="The last week")).to_have_attribute("aria-current", "page")
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        shoot(page, f"dashboard-{scheme}")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shoot(page, "dashboard-390")
