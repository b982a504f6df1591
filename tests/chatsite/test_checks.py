"""Each system check speaks up for the settings it is about, names them, and is silent about the defaults."""

import inspect
import re
from typing import Any

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

from chatsite import checks

SAFE = {
    "ALLOWED_HOSTS": ["localhost"],
    "DEBUG": False,
    "OPENAI_API_KEY": "",
    "OPENAI_BASE_URL": "",
    "LLM_MODELS": ["demo"],
    "REDIS_URL": "",
    "STREAM_ENGINE": "process",
    "ON_POSTGRESQL": False,
}

CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"STREAM_LEASE_S": 0}, "E001", "STREAM_LEASE_S"),
    ({"STREAM_SILENCE_S": -1}, "E001", "STREAM_SILENCE_S"),
    ({"STREAM_SILENCE_S": float("nan")}, "E001", "STREAM_SILENCE_S"),
    ({"STREAM_SILENCE_S": float("inf")}, "E001", "STREAM_SILENCE_S"),
    ({"STREAM_ATTEMPTS": 0}, "E001", "STREAM_ATTEMPTS"),
    ({"STREAM_CONCURRENCY": 0}, "E001", "STREAM_CONCURRENCY"),
    ({"READER_PAGE_BYTES": 0}, "E001", "READER_PAGE_BYTES"),
    ({"JOURNAL_SHARE": 0}, "E001", "JOURNAL_SHARE"),
    ({"STREAM_LEASE_S": 3, "STREAM_SWEEP_S": 1}, "E002", "STREAM_SWEEP_S"),
    ({"STREAM_BACKOFF_S": 31, "STREAM_BACKOFF_MAX_S": 30}, "E003", "STREAM_BACKOFF_MAX_S"),
    ({"THROTTLE_PROMPTS": "often"}, "E004", "THROTTLE_PROMPTS"),
    ({"THROTTLE_PROMPTS": "5/"}, "E004", "THROTTLE_PROMPTS"),
    ({"THROTTLE_LOGINS": "0/min"}, "E004", "THROTTLE_LOGINS"),
    ({"THROTTLE_VISITORS": "9/fortnight"}, "E004", "THROTTLE_VISITORS"),
    ({"OPENAI_BASE_URL": "localhost:11434/v1", "LLM_MODELS": ["a"]}, "E005", "OPENAI_BASE_URL"),
    ({"REDIS_URL": "localhost:6379"}, "E006", "REDIS_URL"),
    ({"BODY_MAX_BYTES": 1000, "PROMPT_MAX_CHARS": 251}, "E007", "PROMPT_MAX_CHARS"),
    ({"REDIS_URL": "redis://localhost"}, "W001", "DATABASE_URL"),
    ({"DEBUG": True, "ALLOWED_HOSTS": ["*"]}, "W002", "ALLOWED_HOSTS has *"),
    ({"ALLOWED_HOSTS": ["chat.example.org"], "SECURE_COOKIES": False}, "W003", "SECURE_COOKIES"),
    ({"LLM_MODELS": ["gpt"]}, "W004", "LLM_MODELS"),
    ({"STREAM_ENGINE": "worker"}, "E008", "DATABASE_URL"),
    ({"STREAM_ENGINE": "worker", "ON_POSTGRESQL": True}, "W005", "REDIS_URL"),
]


@pytest.fixture(autouse=True)
def safe_settings(settings: Settings) -> None:
    """What this machine's environment might say differently."""
    for name, value in SAFE.items():
        setattr(settings, name, value)


def found() -> dict[str, str]:
    return {str(message.id): str(message.msg) for message in run_checks(tags=[checks.TAG])}


def test_the_defaults_raise_no_check() -> None:
    assert found() == {}


@pytest.mark.parametrize(("changes", "number", "named"), CASES)
def test_a_setting_that_cannot_work_is_named(
    settings: Settings, changes: dict[str, Any], number: str, named: str
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert named in found()[f"chatsite.{number}"]


def test_no_wait_and_no_limit_are_choices(settings: Settings) -> None:
    settings.STREAM_BACKOFF_S, settings.DEMO_DELTAS_PER_S, settings.THROTTLE_PROMPTS = 0, 0, ""
    assert found() == {}


def test_a_public_site_over_https_raises_no_check(settings: Settings) -> None:
    settings.ALLOWED_HOSTS, settings.SECURE_COOKIES = ["chat.example.org"], True
    assert found() == {}


def test_redis_with_postgresql_raises_no_check(settings: Settings) -> None:
    settings.ON_POSTGRESQL, settings.STREAM_ENGINE = True, "worker"
    settings.REDIS_URL = "rediss://redis.example.org:6380/1"
    assert found() == {}


def test_a_real_model_server_raises_no_check(settings: Settings) -> None:
    settings.OPENAI_BASE_URL, settings.LLM_MODELS = "http://localhost:11434/v1", ["llama"]
    assert found() == {}


def test_every_check_has_a_case() -> None:
    numbers = re.findall(r'id="chatsite\.(\w+)"', inspect.getsource(checks))
    assert {number for _, number, _ in CASES} == set(numbers)
