"""How a page is for those who do not see it: what it says aloud, and which rules of access it breaks."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page

WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
# Puts what the page says from now on into `window.heard`.
HEARD = """() => {
    window.heard = [];
    for (const place of document.querySelectorAll("[aria-live], [role=status]"))
        new MutationObserver(() => window.heard.push(place.textContent)).observe(place, { childList: true });
}"""


def violations(page: Page, *without: str) -> list[tuple[str, str]]:
    """What axe finds, without some of its rules: the rule, and the first element that breaks it."""
    page.mouse.move(0, 0)
    rules = {rule: {"enabled": False} for rule in without}
    found = Axe().run(page, options=WCAG | {"resultTypes": ["violations"], "rules": rules}).response["violations"]
    return [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found]
