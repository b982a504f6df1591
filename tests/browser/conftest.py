"""A real Chromium on the real server: one site for all browser tests, a fresh profile for each person in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests import browsers
from tests.browser.cable import Cable
from tests.browser.chat import Person
from tests.processes import RemoteGate, Server, model_server, server

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
QUICK = {
    "STREAM_LEASE_S": "2",
    "STREAM_BACKOFF_S": "0.4",
    "ACCESS_CHECK_S": "0.5",
    "STREAM_PROGRESS_S": "0.2",
    "SHELF_CHECK_S": "1",
}
SECONDS = 15
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

People = Callable[..., Person]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    # Playwright's loop counts as running in this thread for as long as it lives, so it must not outlive the package.
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browsers.browser(), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("site")
    with model_server(for_s=3600) as model_url, server(home, model_url, **QUICK) as running:
        yield running


@pytest.fixture
def new_person(chromium: Browser, site: Server) -> Iterator[People]:
    """Makes people, each with a browser profile of their own. What their pages' consoles complain of fails the test."""
    profiles: list[BrowserContext] = []
    people: list[Person] = []

    def make(url: str = site.url, complains: bool = False, **options: Any) -> Person:
        profile = chromium.new_context(base_url=url, **(DESK | options))
        profile.set_default_timeout(SECONDS * 1000)
        profiles.append(profile)
        person = Person(profile)
        if not complains:
            people.append(person)
        return person

    yield make
    complaints = [complaint for person in people for complaint in person.complaints]
    for profile in profiles:
        profile.close()
    assert not complaints


@pytest.fixture
def gate(site: Server) -> Iterator[RemoteGate]:
    """An answer asked for with `gate.name` waits after thirty deltas until the test opens it."""
    gate = RemoteGate(site.model_url)
    gate.open(30)
    yield gate
    gate.open()


@pytest.fixture
def cable(site: Server) -> Iterator[Cable]:
    """The network between a browser and the site: it can be cut and mended."""
    with Cable(site.port) as laid:
        yield laid
