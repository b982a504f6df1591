"""Guessing passwords: a name is locked for the network that guesses, on both log-in pages, and for nobody else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.test import Client
from pytest_django import Settings

from conversations.models import User

pytestmark = pytest.mark.django_db
HERE, THERE = "203.0.113.9", "198.51.100.7"
PAGES = ("/login/", "/admin/login/")


@pytest.fixture(autouse=True)
def _three_tries(settings: Settings) -> None:
    settings.AXES_FAILURE_LIMIT = 3


@pytest.fixture
def alice(alice: User) -> User:
    """One who may use the admin as well."""
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    return alice


def log_in(password: str = "correct horse", page: str = "/login/", name: str = "alice", address: str = HERE) -> Any:
    return Client(REMOTE_ADDR=address).post(page, {"username": name, "password": password})


def lock_out(page: str = "/login/", address: str = HERE) -> list[int]:
    return [log_in("guess", page, address=address).status_code for _ in range(3)]


@pytest.mark.parametrize("page", PAGES)
def test_a_name_is_locked_after_wrong_passwords_and_is_told_so(alice: User, page: str) -> None:
    assert lock_out(page) == [200, 200, 429]
    answer = log_in(page=page)
    assert (answer.status_code, answer["Retry-After"]) == (429, "900")
    assert "nobody can log in from your network for 15 min" in answer.content.decode()


@pytest.mark.parametrize("page", PAGES)
def test_what_is_locked_on_one_page_is_locked_on_the_other(alice: User, page: str) -> None:
    lock_out(page)
    assert [log_in(page=other).status_code for other in PAGES] == [429, 429]


def test_the_owner_still_gets_in_from_elsewhere(alice: User) -> None:
    lock_out()
    assert log_in(address=THERE).status_code == 302


def test_others_behind_the_same_address_still_get_in(alice: User, bob: User) -> None:
    lock_out()
    assert log_in("battery staple", name="bob").status_code == 302


def test_another_address_of_the_same_ipv6_network_is_locked_as_well(alice: User) -> None:
    lock_out(address="2001:db8::1")
    assert log_in(address="2001:db8::2").status_code == 429
    assert log_in(address="2001:db8:1::1").status_code == 302


def test_a_header_does_not_make_it_another_address(alice: User) -> None:
    lock_out()
    spoofed = Client(REMOTE_ADDR=HERE, headers={"X-Forwarded-For": THERE})
    assert spoofed.post("/login/", {"username": "alice", "password": "correct horse"}).status_code == 429


def test_the_right_password_forgives_the_wrong_ones(alice: User) -> None:
    assert [log_in(word).status_code for word in ("a", "b", "correct horse", "c", "d")] == [200, 200, 302, 200, 200]


def test_trying_on_does_not_make_it_longer_and_time_ends_it(alice: User, settings: Settings) -> None:
    lock_out()
    attempts = apps.get_model("axes", "AccessAttempt")._default_manager
    before = attempts.get()
    log_in("guess")
    after = attempts.get()
    assert (after.attempt_time, after.failures_since_start) == (before.attempt_time, 3)
    attempts.update(attempt_time=before.attempt_time - timedelta(seconds=901))
    assert log_in().status_code == 302


def test_an_administrator_unlocks_by_deleting_the_attempts(alice: User, admin_client: Client) -> None:
    lock_out()
    (pk,) = apps.get_model("axes", "AccessAttempt")._default_manager.values_list("pk", flat=True)
    admin_client.post(f"/admin/axes/accessattempt/{pk}/delete/", {"post": "yes"})
    assert log_in().status_code == 302


def test_no_password_is_kept_and_every_try_is_logged(alice: User, caplog: pytest.LogCaptureFixture) -> None:
    log_in("a secret guess")
    attempt = apps.get_model("axes", "AccessAttempt")._default_manager.values().get()
    assert "a secret guess" not in str(attempt) + caplog.text
    assert "New login failure" in caplog.text


def test_the_throttle_counts_a_whole_network(alice: User, bob: User, settings: Settings) -> None:
    settings.THROTTLE_LOGINS = "2/min"
    assert [log_in("guess", name=name).status_code for name in ("carol", "dave", "alice")] == [200, 200, 429]
    assert log_in(address=THERE).status_code == 302
