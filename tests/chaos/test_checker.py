"""The checker of the fault suite sees each thing that must not happen; what is well it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.checker import Asked, Limits, Row, Seen, Stop, Stored, Story, judge

FIRST = ["one ", "two ", "three "]
SECOND = ["eins ", "zwei ", "drei "]
WELL = {"status": "done"}


def frame(seq: int, kind: str, text: str = "", **data: Any) -> dict[str, Any]:
    spoken = {"type": "delta", "kind": kind, "text": text} if kind in ("text", "reasoning") else {"type": kind}
    return {"stream": "s", "seq": seq, **spoken, **data}


def told(*rows: Row) -> list[dict[str, Any]]:
    return [frame(row.seq, row.kind, row.text, **(row.data or {})) for row in rows]


LOG = [
    Row(1, "reasoning", "hm", at=10),
    Row(2, "text", "one two ", at=11),
    Row(3, "restart", data={"attempt": 2}, at=14),
    Row(4, "reasoning", "tja", at=15),
    Row(5, "text", "eins zwei ", at=16),
    Row(6, "text", "drei ", at=17),
    Row(7, "end", data=WELL, at=18),
]
STORED = Stored("s", "p", "done", 7, "eins zwei drei ", "tja", LOG, finished_at=18)
SEEN = Seen("tab", "s", told(*LOG), told_at=18.1)
ASKED = [Asked("p", ["hm"], FIRST, sent=3, at=9, gone_at=12), Asked("p", ["tja"], SECOND, sent=4, at=14.5)]
STORY = Story(["p"], over_at=12, asked=ASKED, stored=[STORED], seen=[SEEN], struck=["s"], struck_at=12)


def kinds(story: Story) -> set[str]:
    return {violation.kind for violation in judge(story, Limits()).violations}


def reading(*frames: dict[str, Any], told_at: float | None = 18.1) -> Story:
    return replace(STORY, seen=[replace(SEEN, frames=frames, told_at=told_at)])


def storing(*rows: Row, **changes: Any) -> Story:
    """A log, and a reader who got just that."""
    stored = replace(STORED, rows=rows, **changes)
    return replace(STORY, stored=[stored], seen=[replace(SEEN, frames=told(*rows))], struck=())


def test_a_run_in_which_all_went_well_has_no_violation() -> None:
    found = judge(STORY, Limits())
    assert found.violations == []
    assert (found.recovered_s, found.ended_s) == ([2], [6])


def test_rows_may_come_in_any_pieces_and_the_end_twice() -> None:
    assert kinds(reading(frame(6, "text", "eins zwei drei "), frame(7, "end", **WELL))) == {"lost"}
    merged = [*told(*LOG[:4]), frame(6, "text", "eins zwei drei "), *told(LOG[6], LOG[6])]
    assert kinds(reading(*merged)) == set()


CUT = {"status": "error"}
END = Row(7, "end", data=WELL)
WRONG_READERS = {
    "lost a frame": ([*told(*LOG[:4]), *told(*LOG[5:])], "lost"),
    "lost a character": ([*told(*LOG[:5]), frame(6, "text", "dri "), *told(END)], "lost"),
    "lost the restart": ([*told(*LOG[:2]), *told(*LOG[3:])], "foreign"),
    "a frame twice": ([*told(*LOG[:5]), *told(*LOG[4:])], "repeated"),
    "a character twice": ([*told(*LOG[:5]), frame(6, "text", "ddrei "), *told(END)], "repeated"),
    "a foreign word": ([*told(*LOG[:5]), frame(6, "text", "quatre "), *told(END)], "foreign"),
    "a row that is not stored": ([*told(*LOG), frame(8, "text", "more")], "foreign"),
    "no end": (told(*LOG[:6]), "not told"),
    "another end": ([*told(*LOG[:6]), frame(7, "end", **CUT)], "ending"),
}


@pytest.mark.parametrize("case", WRONG_READERS)
def test_a_reader_that_got_anything_else_is_seen(case: str) -> None:
    frames, kind = WRONG_READERS[case]
    assert kinds(reading(*frames)) == {kind}


LATE = Row(4, "text", "three ")
WRONG_LOGS: dict[str, tuple[list[Row], dict[str, Any], set[str]]] = {
    "a hole": ([*LOG[:4], *LOG[5:]], {"text": "drei "}, {"numbering", "lost"}),
    "a row behind the end": ([*LOG, Row(8, "text", "more")], {"seq": 8, "text": "eins zwei drei more"}, {"ending"}),
    "no end": (LOG[:6], {"seq": 6}, {"ending"}),
    "an end that says otherwise": ([*LOG[:6], Row(7, "end", data=CUT)], {}, {"ending"}),
    "a stream that says otherwise": (LOG, {"text": "eins zwei "}, {"lost"}),
    "a cut answer that looks finished": (
        [*LOG[:5], Row(6, "end", data=WELL)],
        {"text": "eins zwei ", "seq": 6},
        {"lost"},
    ),
    "a model that was never asked": (
        [Row(1, "end", data=WELL)],
        {"prompt": "q", "text": "", "reasoning": "", "seq": 1},
        {"foreign"},
    ),
}


@pytest.mark.parametrize("case", WRONG_LOGS)
def test_a_log_that_is_not_what_a_log_must_be_is_seen(case: str) -> None:
    rows, changes, wanted = WRONG_LOGS[case]
    assert wanted <= kinds(storing(*rows, **changes))


def test_two_writers_in_one_attempt_are_seen() -> None:
    mixed = [*LOG[:5], Row(6, "text", "three drei "), END]
    assert kinds(storing(*mixed, text="eins zwei three drei ")) == {"foreign"}


def test_words_that_the_model_had_not_sent_yet_are_seen() -> None:
    cut = [Row(1, "reasoning", "hm"), Row(2, "text", "one two three "), Row(3, "end", data=CUT)]
    story = replace(storing(*cut, status="error", text="one two three ", reasoning="hm", seq=3), model_is_well=False)
    assert kinds(story) == set()
    assert kinds(replace(story, asked=[replace(ASKED[0], sent=1)])) == {"foreign"}


def test_a_stream_without_a_final_status_is_seen() -> None:
    assert kinds(storing(*LOG[:6], status="streaming", finished_at=None)) >= {"unfinished", "not told"}


def test_what_comes_too_late_is_seen() -> None:
    assert kinds(replace(STORY, over_at=2)) == {"late", "told late"}
    assert kinds(
        replace(STORY, struck_at=3.9, stored=[replace(STORED, rows=[replace(row, at=14) for row in LOG])])
    ) == {"slow recovery"}


def test_an_answer_given_up_without_need_is_seen() -> None:
    story = storing(*LOG[:6], Row(7, "end", data=CUT), status="error")
    assert kinds(story) == {"given up"}
    assert kinds(replace(story, model_is_well=False)) == set()


def test_a_prompt_with_no_answer_or_with_two_is_seen() -> None:
    assert kinds(replace(STORY, prompts=["p", "q"])) == {"asked once"}
    assert "asked once" in kinds(replace(STORY, stored=[STORED, STORED]))


def test_a_reader_who_follows_nothing_or_was_sent_away_is_seen() -> None:
    assert kinds(replace(STORY, seen=[replace(SEEN, stream="")])) == {"not told"}
    assert kinds(replace(STORY, seen=[replace(SEEN, refused="closed with 4404")])) == {"refused"}


def test_a_stop_that_takes_too_long_or_never_comes_is_seen() -> None:
    never = replace(ASKED[0], sent=2, gone_at=None)
    stop = Stop("s", 10.5, clear=True)
    assert kinds(replace(STORY, stops=[stop])) == {"slow stop"}
    assert kinds(replace(STORY, stops=[replace(stop, at=11.5)])) == set()
    assert kinds(replace(STORY, stops=[replace(stop, clear=False)])) == set()
    assert kinds(replace(STORY, stops=[stop], asked=[never, ASKED[1]])) == {"slow stop"}
