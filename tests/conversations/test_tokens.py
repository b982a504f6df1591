"""Access tokens, on their page and over the API: told once, kept as digests, revoked at once."""

from __future__ import annotations

import pytest
from django.test import Client

from conversations import people
from conversations.models import Token, User

pytestmark = pytest.mark.django_db
JSON = "application/json"


def bearer(secret: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {secret}"})


def test_a_token_made_over_the_api_works_and_is_told_only_once(at_alices: Client) -> None:
    made = at_alices.post("/api/tokens/", {"name": "phone"}, content_type=JSON).json()
    assert bearer(made["token"]).get("/api/me/").status_code == 200
    (listed,) = at_alices.get("/api/tokens/").json()
    assert listed["name"] == "phone" and listed["last_used_at"] is not None
    assert made["token"] not in str(listed) and "token" not in listed
    assert made["token"] not in str(Token.objects.values())


def test_a_revoked_token_is_refused(at_alices: Client) -> None:
    made = at_alices.post("/api/tokens/", {"name": "phone"}, content_type=JSON).json()
    assert at_alices.delete(f"/api/tokens/{made['id']}/").status_code == 204
    assert bearer(made["token"]).get("/api/me/").json()["code"] == "bad_token"


@pytest.mark.parametrize("body", [{}, {"name": " "}, {"name": "x" * 101}, {"name": 1}, {"name": "x", "user": 1}])
def test_a_token_without_a_proper_name_is_not_made(at_alices: Client, body: object) -> None:
    assert at_alices.post("/api/tokens/", body, content_type=JSON).status_code == 400
    assert not Token.objects.exists()


def test_nobody_collects_tokens_without_end(at_alices: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "MOST_TOKENS", 1)
    answers = [at_alices.post("/api/tokens/", {"name": "x"}, content_type=JSON) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 409]
    assert answers[1].json()["code"] == "full"
    assert "revoke some first" in at_alices.post("/tokens/", {"name": "x"}).content.decode()


def test_the_page_makes_shows_and_revokes_tokens(at_alices: Client, alice: User) -> None:
    answer = at_alices.post("/tokens/", {"name": "laptop"})
    secret = answer.context["secret"]
    assert bearer(secret).get("/api/me/").status_code == 200
    assert secret in answer.content.decode() and "no-store" in answer["Cache-Control"]
    page = at_alices.get("/tokens/").content.decode()
    assert "laptop" in page and secret not in page
    token = alice.tokens.get()
    assert "Revoked." in at_alices.post(f"/tokens/{token.pk}/revoke/", follow=True).content.decode()
    assert bearer(secret).get("/api/me/").status_code == 401


def test_a_stranger_cannot_revoke_a_token(alices_token: str, bob: User) -> None:
    client = Client()
    client.force_login(bob)
    client.post(f"/tokens/{Token.objects.get().pk}/revoke/")
    assert bearer(alices_token).get("/api/me/").status_code == 200


def test_what_a_token_is_called_is_shown_as_text(at_alices: Client) -> None:
    page = at_alices.post("/tokens/", {"name": "<script>alert(1)</script>"}).content.decode()
    assert "<script>alert" not in page
