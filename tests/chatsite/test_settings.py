"""The environment: a bad value names its variable, and docs/settings.md says what chatsite/settings.py does."""

import ast
import os
import re
import stat
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from chatsite.settings import BASE_DIR, database, local_secret_key

ROW = re.compile(r"^\| `([A-Z][A-Z0-9_]*)` \| (.*?) \| (.+) \|$", re.MULTILINE)


def read_variables() -> dict[str, str]:
    """Every `env.kind("NAME", default)` in the settings: name to default, as one would write it in the environment."""
    tree = ast.parse((BASE_DIR / "chatsite/settings.py").read_text())
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {
        ast.literal_eval(call.args[0]): as_written(evaluate(call.args[1]) if len(call.args) > 1 else None)
        for call in sorted(calls, key=lambda call: call.lineno)
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "env"
        and call.func.attr != "read_env"
    }


def evaluate(default: ast.expr) -> Any:
    return eval(compile(ast.Expression(default), "default", "eval"), {"BASE_DIR": PurePosixPath("<checkout>")})


def as_written(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, list):
        return ",".join(map(str, default))
    return str(default)


def documented() -> dict[str, str]:
    rows = ROW.findall((BASE_DIR / "docs/settings.md").read_text())
    return {name: "" if default == "none" else default.strip("`") for name, default, _ in rows}


def start(code: str = "import chatsite.settings", **variables: str) -> subprocess.CompletedProcess[str]:
    """Load the settings in a fresh process."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=BASE_DIR,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_every_variable_is_documented_with_its_default() -> None:
    told, true = documented(), read_variables()
    wrong = [f"| `{name}` | `{value}` | … |" for name, value in true.items() if told.get(name) != value]
    assert not wrong, "docs/settings.md lacks these rows or has another default:\n" + "\n".join(wrong)


def test_no_variable_is_documented_that_does_nothing() -> None:
    assert set(documented()) - set(read_variables()) == set()


def test_the_documentation_lists_the_variables_in_the_order_of_the_settings() -> None:
    true = list(read_variables())
    assert sorted(documented(), key=true.index) == list(documented())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STREAM_LEASE_S", "abc"),
        ("STREAM_ATTEMPTS", "2.5"),
        ("DEBUG", "perhaps"),
        ("LOG_LEVEL", "LOUD"),
        ("DATABASE_URL", "mysql://localhost/chat"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "nosuch://localhost/chat"),
    ],
)
def test_a_bad_value_stops_the_start_and_names_its_variable(name: str, value: str) -> None:
    process = start(**{name: value})
    assert process.returncode != 0
    assert process.stderr.strip().splitlines()[-1].startswith("django.core.exceptions.ImproperlyConfigured")
    assert name in process.stderr.strip().splitlines()[-1]


def test_good_values_start() -> None:
    process = start(STREAM_LEASE_S="7.5", DEBUG="on", DATABASE_URL="sqlite:///:memory:", LLM_MODELS="a,b")
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize(
    ("variables", "models"),
    [
        ({}, ["demo"]),
        ({"OPENAI_API_KEY": "key"}, ["gpt-5-mini"]),
        ({"OPENAI_BASE_URL": "http://localhost:11434/v1", "LLM_MODELS": ""}, ["gpt-5-mini"]),
        ({"OPENAI_API_KEY": "key", "LLM_MODELS": "a,b"}, ["a", "b"]),
    ],
)
def test_there_is_always_a_model_to_ask(variables: dict[str, str], models: list[str]) -> None:
    process = start("from chatsite.settings import LLM_MODELS; print(LLM_MODELS)", **variables)
    assert process.stdout.strip() == str(models)


def test_a_file_named_in_the_environment_is_read_and_outweighed_by_it(tmp_path: Path) -> None:
    (tmp_path / "site.env").write_text("LLM_CONNECT_S=7\nLLM_MODELS=file\n")
    code = "from chatsite.settings import LLM_CONNECT_S, LLM_MODELS; print(LLM_CONNECT_S, LLM_MODELS)"
    process = start(code, ENV_FILE=str(tmp_path / "site.env"), LLM_MODELS="shell")
    assert process.stdout.strip() == "7.0 ['shell']"


def test_the_local_secret_key_is_kept_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = local_secret_key(path)
    assert len(key) >= 50
    assert local_secret_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_sqlite_waits_for_other_writers_instead_of_failing() -> None:
    options = database("sqlite:///chat.sqlite3")["OPTIONS"]
    assert options["transaction_mode"] == "IMMEDIATE"
    assert options["timeout"] > 5


def test_options_in_a_postgresql_url_are_kept_beside_the_pool() -> None:
    options = database("postgresql://u:p@db/chat?sslmode=require")["OPTIONS"]
    assert options["sslmode"] == "require"
    assert options["pool"]["max_size"] > 1
