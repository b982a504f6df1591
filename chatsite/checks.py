"""System checks of the settings: values that would break a promise, and combinations that cannot work.

Errors stop `migrate`, `runserver` and `check`, so `make run` never serves with them; each names its variables.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from rest_framework.throttling import SimpleRateThrottle

TAG = "chatsite"
MEASURES = ("_S", "_MS", "_BYTES", "_CHARS", "_ATTEMPTS", "_CONCURRENCY", "_STREAMS", "_SHARE")
NO_LIMIT = {"USER_STREAMS", "USER_DAY_CHARS", "SITE_STREAMS", "SITE_DAY_CHARS"}
MAY_BE_ZERO = {"STREAM_BACKOFF_S", "DEMO_DELTAS_PER_S", "HSTS_S", *NO_LIMIT}
LOCAL_HOSTS = {"localhost", "127.0.0.1", "[::1]", ".localhost", "testserver"}
Found = Iterator[checks.CheckMessage]


def measures() -> Found:
    """Every time, size and count is a number above zero: 0 or inf would wait for ever, spin or refuse everything."""
    for name in filter(lambda name: name.endswith(MEASURES), dir(settings)):
        value = getattr(settings, name)
        if not math.isfinite(value) or value < 0 or (value == 0 and name not in MAY_BE_ZERO):
            yield checks.Error(f"{name} is {value}; it must be a number above 0.", id="chatsite.E001")


def lease() -> Found:
    """A holder renews at a third of its lease, when a sweep comes by; it must not lose the lease between two sweeps."""
    if settings.STREAM_LEASE_S <= 3 * settings.STREAM_SWEEP_S:
        yield checks.Error(
            f"STREAM_LEASE_S ({settings.STREAM_LEASE_S}) must be more than three times "
            f"STREAM_SWEEP_S ({settings.STREAM_SWEEP_S}).",
            hint="With less, healthy answers are taken from their writers and begin again.",
            id="chatsite.E002",
        )


def backoff() -> Found:
    if settings.STREAM_BACKOFF_S > settings.STREAM_BACKOFF_MAX_S:
        yield checks.Error("STREAM_BACKOFF_S must not be above STREAM_BACKOFF_MAX_S.", id="chatsite.E003")


def throttles() -> Found:
    for name in filter(lambda name: name.startswith("THROTTLE_"), dir(settings)):
        if not is_rate(getattr(settings, name)):
            yield checks.Error(
                f"{name} is {getattr(settings, name)!r}, which is not a rate.",
                hint='Write a number and a period: "60/min", "1000/day".',
                id="chatsite.E004",
            )


def is_rate(value: str) -> bool:
    """Whether REST framework reads `value` as a rate that lets anything through; empty is no limit."""
    if not value:
        return True
    try:
        number, _ = SimpleRateThrottle.parse_rate(SimpleRateThrottle.__new__(SimpleRateThrottle), value)
    except (ValueError, KeyError, IndexError):
        return False
    return number is not None and number > 0


def model_server() -> Found:
    """A model server's URL is one; without a server the demo model answers, whatever model is named."""
    url = urlsplit(settings.OPENAI_BASE_URL)
    if settings.OPENAI_BASE_URL and not (url.scheme in {"http", "https"} and url.netloc):
        yield checks.Error("OPENAI_BASE_URL is not an http(s) URL.", id="chatsite.E005")
    if settings.LLM_MODELS != ["demo"] and not (settings.OPENAI_BASE_URL or settings.OPENAI_API_KEY):
        yield checks.Warning(
            "LLM_MODELS is set without OPENAI_API_KEY or OPENAI_BASE_URL: the demo model will answer.",
            id="chatsite.W004",
        )


def redis() -> Found:
    if not settings.REDIS_URL:
        return
    if any(urlsplit(url).scheme not in {"redis", "rediss", "unix"} for url in settings.REDIS_URL.split(",")):
        yield checks.Error("REDIS_URL does not begin with redis://, rediss:// or unix://.", id="chatsite.E006")
    if not settings.ON_POSTGRESQL:
        yield checks.Warning(
            "REDIS_URL is for several processes, but DATABASE_URL is SQLite, which only one machine can share.",
            hint="Use PostgreSQL, or leave REDIS_URL out.",
            id="chatsite.W001",
        )


def workers() -> Found:
    """Workers take their jobs from PostgreSQL and tell the web processes of text through Redis."""
    if settings.STREAM_ENGINE != "worker":
        return
    if not settings.ON_POSTGRESQL:
        yield checks.Error("STREAM_ENGINE is worker, which needs PostgreSQL: see DATABASE_URL.", id="chatsite.E008")
    elif not settings.REDIS_URL:
        yield checks.Warning(
            "Workers generate, but there is no REDIS_URL: readers get text only every HUB_TICK_S.",
            hint="Set REDIS_URL, or STREAM_ENGINE=process for a single process.",
            id="chatsite.W005",
        )


def sizes() -> Found:
    """A prompt that the form accepts must also fit the request it comes in: a character takes up to four bytes."""
    if settings.BODY_MAX_BYTES < 4 * settings.PROMPT_MAX_CHARS:
        yield checks.Error(
            f"BODY_MAX_BYTES ({settings.BODY_MAX_BYTES}) must be at least four times "
            f"PROMPT_MAX_CHARS ({settings.PROMPT_MAX_CHARS}).",
            id="chatsite.E007",
        )


def exposure() -> Found:
    public = sorted(set(settings.ALLOWED_HOSTS) - LOCAL_HOSTS)
    if public and settings.DEBUG:
        yield checks.Warning(
            f"DEBUG is on while ALLOWED_HOSTS has {', '.join(public)}: error pages show the site's insides to anyone.",
            id="chatsite.W002",
        )
    if public and not settings.SECURE_COOKIES:
        yield checks.Warning(
            f"ALLOWED_HOSTS has {', '.join(public)}, but SECURE_COOKIES is off: log-ins may travel unencrypted.",
            hint="Serve over HTTPS and set SECURE_COOKIES=on.",
            id="chatsite.W003",
        )


CHECKS: tuple[Callable[[], Found], ...] = (
    measures, lease, backoff, throttles, model_server, redis, workers, sizes, exposure,
)  # fmt: skip


def check_settings(**kwargs: Any) -> list[checks.CheckMessage]:
    return [message for check in CHECKS for message in check()]


def register() -> None:
    checks.register(check_settings, TAG)
