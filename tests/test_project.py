"""Rules of the project that a machine can hold: sizes, honest tests, links and commands that exist."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatsite.settings import BASE_DIR

PACKAGES = ("chatsite", "conversations", "streaming", "bench")
FUNCTION_LINES = 60
MODULE_LINES = 400
# What every skip and every excuse for a failing test is written with.
EXCUSES = {"skip", "skipif", "skipTest", "importorskip", "xfail"}

Functions = (ast.FunctionDef, ast.AsyncFunctionDef)


def modules(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((BASE_DIR / folder).rglob("*.py"))]
    return [path for path in found if "migrations" not in path.parts]


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(BASE_DIR)}:{getattr(node, 'lineno', 1)}"


def name_of(node: ast.AST) -> str:
    """The last name in `a.b.c`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def sleeps(call: ast.AST) -> bool:
    """Whether this is time.sleep or asyncio.sleep; letting others run, asyncio.sleep(0), is none."""
    if not (isinstance(call, ast.Call) and name_of(call.func) == "sleep"):
        return False
    return not (len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0)


def waits(test: ast.AST) -> bool:
    """A test or fixture body that sleeps outside a loop: a bet on how fast the machine is."""
    loops = [node for node in ast.walk(test) if isinstance(node, ast.While | ast.For | ast.AsyncFor)]
    polling = {id(node) for loop in loops for node in ast.walk(loop)}
    return any(sleeps(node) and id(node) not in polling for node in ast.walk(test))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_function_is_too_long_to_read_at_a_glance(package: str) -> None:
    functions = [(path, node) for path in modules(package) for node in nodes(path) if isinstance(node, Functions)]
    assert functions
    lines = {place(path, node): (node.end_lineno or 0) - node.lineno + 1 for path, node in functions}
    assert {where: count for where, count in lines.items() if count > FUNCTION_LINES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_has_more_than_one_room(package: str) -> None:
    lines = {str(path): len(path.read_text().splitlines()) for path in modules(package)}
    assert {path: count for path, count in lines.items() if count > MODULE_LINES} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(BASE_DIR))
        for path in modules(*PACKAGES, "tests")
        if len(path.read_text().splitlines()) > 20 and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    excuses = [
        place(path, node)
        for path in modules("tests")
        for node in nodes(path)
        if isinstance(node, ast.Attribute | ast.Name) and name_of(node) in EXCUSES
    ]
    assert excuses == []


def test_no_test_sleeps_instead_of_waiting_for_something() -> None:
    guesses = [
        place(path, node)
        for path in modules("tests")
        for node in nodes(path)
        if isinstance(node, Functions) and node.name.startswith("test_") and waits(node)
    ]
    assert guesses == []


def test_the_rule_on_sleeping_sees_a_guess_and_allows_polling() -> None:
    assert waits(ast.parse("async def test_x():\n    await asyncio.sleep(0.1)"))
    assert waits(ast.parse("def test_x():\n    time.sleep(LONG_S)"))
    assert not waits(ast.parse("async def test_x():\n    await asyncio.sleep(0)"))
    assert not waits(ast.parse("def test_x():\n    while not done():\n        time.sleep(0.01)"))


def test_every_package_is_pinned_exactly_and_no_host_is_named() -> None:
    pins = [line for line in (BASE_DIR / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(pins) > 50
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!]+", pin)] == []


@pytest.mark.parametrize("folder", ["tests/node", "bench/peers"])
def test_every_javascript_package_is_pinned_exactly_and_no_registry_is_named(folder: str) -> None:
    package = json.loads((BASE_DIR / folder / "package.json").read_text())
    locked = json.loads((BASE_DIR / folder / "package-lock.json").read_text())["packages"]
    pins = [re.sub(r"^npm:.+@", "", pin) for pin in package["dependencies"].values()]
    assert [pin for pin in pins if not re.fullmatch(r"\d+\.\d+\.\d+", pin)] == []
    assert len(locked) > len(pins) and all("integrity" in entry for name, entry in locked.items() if name)
    assert [name for name, entry in locked.items() if "resolved" in entry] == []


def test_the_readme_starts_with_the_two_commands_that_exist() -> None:
    commands = re.findall(r"^make (\w+)", (BASE_DIR / "README.md").read_text(), re.MULTILINE)
    targets = re.findall(r"^(\w+):", (BASE_DIR / "Makefile").read_text(), re.MULTILINE)
    assert commands[:2] == ["run", "test"]
    assert set(commands) <= set(targets)


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    pages = [*BASE_DIR.glob("*.md"), *BASE_DIR.glob("docs/*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())]
    assert links
    assert [f"{page.name} -> {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_ci_runs_what_contributors_run() -> None:
    script = BASE_DIR / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text()
    assert "make check" in script.read_text()
