"""The search for a browser: it takes one that starts, and never lets the browser tests pass by in silence."""

from pathlib import Path

import pytest

from tests import browsers


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on the path, nothing downloaded, nothing chosen."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROME", raising=False)
    monkeypatch.setattr(browsers, "APPLICATIONS", ())
    monkeypatch.setattr(browsers, "playwright_path", lambda: None)
    monkeypatch.setattr(browsers, "browser", browsers.browser.__wrapped__)


def program(path: Path, exit_code: int) -> str:
    path.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    path.chmod(0o755)
    return str(path)


def test_a_browser_that_does_not_start_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "google-chrome", 1)
    good = program(tmp_path / "chromium", 0)
    assert browsers.browser() == good


def test_a_chosen_browser_is_the_only_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "chromium", 0)
    monkeypatch.setenv("CHROME", program(tmp_path / "mine", 1))
    with pytest.raises(SystemExit, match="CHROME is set to"):
        browsers.browser()


def test_a_missing_browser_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsers, "succeeds", lambda command: bool(program(tmp_path / "chromium", 0)))
    assert browsers.browser() == str(tmp_path / "chromium")


def test_without_any_way_to_get_one_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsers, "succeeds", lambda command: False)
    with pytest.raises(SystemExit, match="playwright install"):
        browsers.browser()
