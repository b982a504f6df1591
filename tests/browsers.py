"""Finds the browser that the tests drive and installs one if it must: `python -m tests.browsers` prints its path.

A browser counts only if it starts: a wrapper without its package or a build without its libraries is passed over.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

NAMES = ("google-chrome-stable", "google-chrome", "chromium", "chromium-browser", "chrome")
APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
INSTALL_S = 600
HELP = """\
The browser tests need Chrome or Chromium; none was found and none could be installed. Do one of these, then try again:
  install Google Chrome or Chromium with the system's packages (Debian: apt-get install chromium)
  .venv/bin/python -m playwright install --with-deps chromium
  set CHROME to the path of a Chrome or Chromium that starts"""


def starts(path: str) -> bool:
    """Whether the program at `path` runs at all: it says its version."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def candidates() -> Iterator[str]:
    """Where a browser may be, the likeliest first."""
    yield from filter(None, map(shutil.which, NAMES))
    yield from APPLICATIONS
    if downloaded := playwright_path():
        yield downloaded


def playwright_path() -> str | None:
    """Where playwright puts, or would put, the Chromium of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def find() -> str | None:
    """The first browser that starts. CHROME, if set, is the only choice."""
    chosen = os.environ.get("CHROME")
    return next(filter(starts, [chosen] if chosen else candidates()), None)


def installers() -> Iterator[Sequence[Sequence[str]]]:
    """The ways to get a browser, the least intrusive first; the system's packages only where we may change them."""
    playwright = (sys.executable, "-m", "playwright")
    yield [(*playwright, "install", "chromium")]
    if shutil.which("apt-get") and os.geteuid() == 0:
        yield [("apt-get", "update"), ("apt-get", "install", "-y", "--no-install-recommends", "chromium")]
        yield [(*playwright, "install", "--with-deps", "chromium")]


def succeeds(command: Sequence[str]) -> bool:
    """Run one step of an installation; what it says goes to stderr, since stdout is for the path."""
    print("Browser for the tests:", *command, file=sys.stderr)  # noqa: T201
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(command, stdout=sys.stderr, env=env, timeout=INSTALL_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@cache
def browser() -> str:
    """The path of a browser that starts, installed if need be; ends the process with advice if there is no way."""
    if (path := find()) or os.environ.get("CHROME"):
        return path or sys.exit(f"CHROME is set to {os.environ['CHROME']}, which does not start.\n{HELP}")
    for steps in installers():
        if all(map(succeeds, steps)) and (path := find()):
            return path
    sys.exit(HELP)


if __name__ == "__main__":
    print(browser())  # noqa: T201
