"""docs/promises.md names tests that exist, and for each promise one that sees the site from outside."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from chatsite.settings import BASE_DIR

DOC = (BASE_DIR / "docs/promises.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PROMISES = [
    "Seen means saved",
    "No gap, no repeat",
    "Every answer ends",
    "One writer",
    "Stop means stop",
    "A cut answer never looks finished",
    "A slow reader hurts nobody",
    "Asking twice by accident asks once",
    "Only those who may see a conversation see it",
]
FROM_OUTSIDE = ("tests/outside/", "tests/browser/", "tests/chaos/")


def names_of_tests(path: Path) -> set[str]:
    """The tests that pytest finds in a module: functions at its top, named so."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    body = ast.parse(path.read_text()).body
    return {node.name for node in body if isinstance(node, functions) and node.name.startswith("test_")}


def sections() -> dict[str, str]:
    """What stands under each heading."""
    return dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", DOC, re.MULTILINE | re.DOTALL))


def test_the_nine_promises_are_there_in_order() -> None:
    assert list(sections())[:-2] == [f"{number}. {promise}" for number, promise in enumerate(PROMISES, 1)]


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED.findall(DOC)}))
def test_every_test_that_is_named_exists(file: str) -> None:
    named = {name for path, name in NAMED.findall(DOC) if path == file}
    assert named - names_of_tests(BASE_DIR / file) == set()


@pytest.mark.parametrize("section", sections())
def test_every_promise_and_failure_is_looked_at_from_outside(section: str) -> None:
    assert [file for file, _ in NAMED.findall(sections()[section]) if file.startswith(FROM_OUTSIDE)]


def test_every_failure_of_an_earlier_system_has_a_test() -> None:
    rows = [line for line in sections()["How earlier systems failed"].split("\n") if line.startswith("| ")][2:]
    assert len(rows) >= 11
    assert [row for row in rows if not NAMED.search(row)] == []


@pytest.mark.parametrize("file", ["tests/outside/test_earlier_failures.py", "tests/outside/test_two_processes.py"])
def test_every_test_of_earlier_failures_is_named_with_its_failure(file: str) -> None:
    named = {name for path, name in NAMED.findall(sections()["How earlier systems failed"]) if path == file}
    assert names_of_tests(BASE_DIR / file) == named


def test_nothing_that_looks_like_a_test_is_named_in_another_way() -> None:
    assert re.findall(r"(?<!::)\btest_\w+(?!\w*\.py)\b", re.sub(r"tests/[\w/]+\.py", "", DOC)) == []
