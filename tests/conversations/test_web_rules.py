"""The web's own rules on the APIs: what other origins may do, and what need not be sent again."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import Settings

from streaming.models import Stream
from tests.conftest import add

pytestmark = pytest.mark.django_db
ELSEWHERE = "https://app.example.org"
PATHS = ("/api/me/", "/v1/models", "/ai/chat", "/durable/streams/00000000-0000-0000-0000-000000000000")


def preflight(path: str) -> str | None:
    headers = {
        "Origin": ELSEWHERE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, idempotency-key",
    }
    return Client().options(path, headers=headers).headers.get("Access-Control-Allow-Origin")


@pytest.mark.parametrize("path", PATHS)
def test_pages_of_other_origins_are_let_in_only_where_named(path: str, settings: Settings) -> None:
    assert preflight(path) is None
    settings.CORS_ALLOWED_ORIGINS = [ELSEWHERE]
    assert preflight(path) == ELSEWHERE


def test_the_pages_themselves_are_for_no_other_origin(settings: Settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = [ELSEWHERE]
    assert [preflight(path) for path in ("/", "/login/", "/admin/")] == [None, None, None]


def test_no_other_origin_may_send_cookies(settings: Settings, at_alices: Client) -> None:
    settings.CORS_ALLOWED_ORIGINS = [ELSEWHERE]
    answer = at_alices.get("/api/me/", headers={"Origin": ELSEWHERE})
    assert answer["Access-Control-Allow-Origin"] == ELSEWHERE
    assert "Access-Control-Allow-Credentials" not in answer


def test_what_did_not_change_is_not_sent_again(running_stream: Stream, at_alices: Client) -> None:
    path = f"/api/streams/{running_stream.pk}/"
    tag = at_alices.get(path)["ETag"]
    same = at_alices.get(path, headers={"If-None-Match": tag})
    assert (same.status_code, same.content) == (304, b"")
    add(running_stream, 3, "!")
    changed = at_alices.get(path, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["text"]) == (200, "Hello!")


def test_a_tag_tells_nobody_what_is_not_theirs(running_stream: Stream, at_alices: Client, bobs_token: str) -> None:
    path = f"/api/streams/{running_stream.pk}/"
    tag = at_alices.get(path)["ETag"]
    headers = {"If-None-Match": tag, "Authorization": f"Bearer {bobs_token}"}
    assert Client().get(path, headers=headers).status_code == 404
