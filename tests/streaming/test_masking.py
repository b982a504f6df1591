"""What nobody, and what only some may see of a request."""

from __future__ import annotations

from typing import Any

import pytest

from streaming.masking import request_for

REQUEST: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "My name is Alice."}]}],
    "tools": [{"type": "function", "function": {"name": "lookup", "description": "Looks up."}}],
    "user": "alice@example.org",
    "temperature": 0.5,
}


def test_the_shape_of_a_request_stays_and_its_words_go() -> None:
    hidden = request_for(REQUEST, personal=False)
    assert hidden["messages"] == [{"role": "user", "content": [{"type": "text", "text": "[17 characters]"}]}]
    assert (hidden["model"], hidden["temperature"], hidden["user"]) == ("m", 0.5, "[17 characters]")
    assert request_for(REQUEST, personal=True) == REQUEST


@pytest.mark.parametrize(
    "key",
    ["sk-proj-abcdefghijklmnop1234", "ghp_abcdefghijklmnopqrst", "AKIAABCDEFGHIJKLMNOP", "eyJhbGciOi.eyJzdWIi.c2lnbg"],
)
def test_a_key_is_shown_to_nobody(key: str) -> None:
    shown = request_for({"messages": [{"content": f"Use {key}, please."}]}, personal=True)
    assert shown == {"messages": [{"content": "Use [key], please."}]}
    assert request_for({"headers": f"Bearer {key}"}, personal=True) == {"headers": "Bearer [key]"}
