"""Accounts on the pages: what is said of a mistake, where, and that a password can be changed."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from conversations.models import User

pytestmark = pytest.mark.django_db


def focused(html: str) -> list[str]:
    """The names of the fields that take the focus."""
    return [re.findall(r'name="(\w+)"', tag)[0] for tag in re.findall(r"<(?:input|textarea)[^>]*autofocus[^>]*>", html)]


def fault(html: str, field: str) -> str:
    """What is said of a field, where its description points to."""
    (text,) = re.findall(rf'id="id_{field}_error">(.*?)</ul>', html) or [""]
    assert not text or re.search(rf'<input[^>]*name="{field}"[^>]*aria-describedby="[^"]*id_{field}_error', html)
    return str(text)


def sign_up(client: Client, username: str, password: str, again: str) -> str:
    return client.post("/signup/", {"username": username, "password1": password, "password2": again}).content.decode()


def test_a_wrong_password_keeps_the_name_and_puts_the_focus_on_the_password(client: Client, alice: User) -> None:
    html = client.post("/login/", {"username": "alice", "password": "wrong"}).content.decode()
    assert 'value="alice"' in html and focused(html) == ["password"]
    assert "<title>Problem: Log in" in html


def test_a_bad_password_is_said_of_the_password_and_not_of_its_confirmation(client: Client) -> None:
    html = sign_up(client, "carol", "password", "password")
    assert "too common" in fault(html, "password1") and not fault(html, "password2")
    assert focused(html) == ["password1"]


def test_each_thing_wrong_with_a_password_is_a_line_of_its_own(client: Client) -> None:
    html = sign_up(client, "carol", "12345", "12345")
    problems = re.findall("<li>(.*?)</li>", fault(html, "password1"))
    assert [word for word in ("short", "common", "numeric") if any(word in problem for problem in problems)] == [
        "short", "common", "numeric"
    ] and len(problems) == 3  # fmt: skip


def test_passwords_that_differ_are_said_of_the_confirmation(client: Client) -> None:
    html = sign_up(client, "carol", "tall blue tulips", "tall blue tulip")
    assert "match" in fault(html, "password2") and focused(html) == ["password2"]


def test_a_name_that_is_taken_is_said_of_the_name(client: Client, alice: User) -> None:
    html = sign_up(client, "alice", "tall blue tulips", "tall blue tulips")
    assert "already exists" in fault(html, "username") and focused(html) == ["username"]
    assert "<title>Problem: Sign up" in html


def test_a_password_can_be_changed_and_stays_where_one_is_logged_in(at_alices: Client, alice: User) -> None:
    new = {"old_password": "correct horse", "new_password1": "tall blue tulips", "new_password2": "tall blue tulips"}
    page = at_alices.post("/password/", new, follow=True).content.decode()
    assert "Your password is changed." in page
    alice.refresh_from_db()
    assert alice.check_password("tall blue tulips")


def test_a_password_that_is_not_good_is_not_taken(at_alices: Client, alice: User) -> None:
    bad = {"old_password": "correct horse", "new_password1": "12345678", "new_password2": "12345678"}
    html = at_alices.post("/password/", bad).content.decode()
    assert fault(html, "new_password1") and not fault(html, "new_password2")
    alice.refresh_from_db()
    assert alice.check_password("correct horse")


def test_nobody_changes_a_password(client: Client) -> None:
    assert client.get("/password/").headers["Location"] == "/login/?next=/password/"
