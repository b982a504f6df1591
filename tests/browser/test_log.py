"""The page's pure rules (static/js/log.js, connection.js), run where they live."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from streaming.frames import Row, fold, native_frames
from tests.processes import Server

FOLLOW = """async ({seq, status, frames}) => {
  const { apply } = await import("/static/js/log.js");
  const state = { stream: "s", seq, status };
  const said = { text: "", reasoning: "" };
  for (const frame of frames) {
    if (!apply(state, frame)) continue;
    if (frame.type === "restart") said.text = said.reasoning = "";
    if (frame.type === "delta") said[frame.kind] += frame.text;
  }
  return { ...state, ...said };
}"""
ROWS = [
    Row(1, "reasoning", "hm", None),
    Row(2, "text", "Hel", None),
    Row(3, "text", "lo", None),
    Row(4, "retry", "", {"attempt": 2, "of": 3, "wait_s": 1.0, "reason": "cut"}),
    Row(5, "restart", "", {"attempt": 2}),
    Row(6, "reasoning", "so", None),
    Row(7, "text", "Good ", None),
    Row(8, "text", "bye", None),
    Row(9, "end", "", {"status": "done", "finish_reason": "stop", "usage": None, "error": None}),
]
WHOLE = fold(ROWS)


@pytest.fixture(scope="module")
def rules(chromium: Browser, site: Server) -> Iterator[Page]:
    page = chromium.new_page()
    page.goto(f"{site.url}/login/")
    yield page
    page.close()


def frames(rows: list[Row]) -> list[dict[str, Any]]:
    """One frame for each row, so that any of them may be repeated."""
    return [frame for row in rows for frame in native_frames("s", [row])]


def follow(rules: Page, seq: int, sent: list[dict[str, Any]], status: str = "streaming") -> dict[str, Any]:
    shown: dict[str, Any] = rules.evaluate(FOLLOW, {"seq": seq, "status": status, "frames": sent})
    return shown


@pytest.mark.parametrize("after", range(len(ROWS)))
def test_page_and_followed_frames_add_up_to_the_log_from_every_position(rules: Page, after: int) -> None:
    before = fold(ROWS[:after])
    shown = follow(rules, after, frames(ROWS[after:]))
    restarted = after < 5
    text, reasoning = (shown["text"], shown["reasoning"])
    if not restarted:
        text, reasoning = before.text + text, before.reasoning + reasoning
    assert (text, reasoning) == (WHOLE.text, WHOLE.reasoning)
    assert (shown["seq"], shown["status"]) == (9, "done")


@pytest.mark.parametrize("after", range(len(ROWS)))
def test_what_comes_twice_or_late_is_shown_once(rules: Page, after: int) -> None:
    once = follow(rules, after, frames(ROWS[after:]))
    again = [frame for n in range(after, len(ROWS)) for frame in frames(ROWS[: n + 1])]
    assert follow(rules, after, again) == once


def test_an_end_whose_position_is_known_still_ends(rules: Page) -> None:
    assert follow(rules, 9, frames(ROWS[8:]))["status"] == "done"


def test_nothing_changes_a_reply_that_has_ended(rules: Page) -> None:
    late = {"type": "delta", "stream": "s", "seq": 10, "kind": "text", "text": "!"}
    progress = {"type": "progress", "stream": "s", "chunks": 1, "chars": 1, "elapsed_ms": 1, "chars_per_s": 1}
    assert follow(rules, 0, [*frames(ROWS), late, progress]) == follow(rules, 0, frames(ROWS))


def test_waits_grow_differ_and_stay_bounded(rules: Page) -> None:
    waits = rules.evaluate(
        """async () => {
          const { backoffMs } = await import("/static/js/connection.js");
          return [0, 1, 2, 30].map((tries) => [0, 1].map((part) => backoffMs(tries, () => part, true)));
        }"""
    )
    assert waits == [[200, 400], [400, 800], [800, 1600], [7500, 15000]]


def test_nobody_who_looks_waits_long(rules: Page) -> None:
    longest = rules.evaluate("async () => (await import('/static/js/connection.js')).backoffMs(30, () => 1, false)")
    assert longest == 5000
