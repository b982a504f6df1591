"""What people may not see of a stream: keys never, and what was asked and answered only with the permission for it."""

from __future__ import annotations

import re
from typing import Any

# Strings of a request that say how it is asked, not what. All others are taken to be somebody's words.
PLAIN = frozenset({"model", "role", "type", "reasoning_effort", "verbosity", "service_tier", "tool_choice", "strict"})
OUTCOME = frozenset({"status", "finish_reason", "code"})  # The same of what a row of the log tells.
KEY = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|AKIA|AIza)[-_]?[A-Za-z0-9_-]{12,}|(?<=Bearer )\S{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]+"
)


def without_keys(text: str) -> str:
    """`text` with everything in it that looks like somebody's key taken out."""
    return KEY.sub("[key]", text)


def masked(text: str) -> str:
    return f"[{len(text):,} characters]" if text else ""


def request_for(request: Any, *, personal: bool, name: str = "", plain: frozenset[str] = PLAIN) -> Any:
    """A request as it may be shown: its shape and its numbers always, people's words only if `personal`."""
    if isinstance(request, dict):
        return {key: request_for(value, personal=personal, name=key, plain=plain) for key, value in request.items()}
    if isinstance(request, list):
        return [request_for(value, personal=personal, name=name, plain=plain) for value in request]
    if not isinstance(request, str):
        return request
    return without_keys(request) if personal or name in plain else masked(request)


def data_for(data: Any, *, personal: bool, fed: bool) -> Any:
    """What a row tells of a retry or an end: the words of a program (`fed`) only if `personal`, the site's always."""
    return data if personal or not fed else request_for(data, personal=False, plain=OUTCOME)
