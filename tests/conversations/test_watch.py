"""The look at all open connections at once: it notices whatever ends a permission, and costs the same for many."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from conversations.access import Access
from conversations.models import Conversation, Token, User
from conversations.watch import Watch, evidence
from tests.conftest import DEADLINE_S

pytestmark = pytest.mark.django_db


@pytest.fixture
def by_token(conversation: Conversation, alices_token: str) -> tuple[Access, uuid.UUID]:
    return Access(alices_token, ""), conversation.pk


@pytest.fixture
def by_session(conversation: Conversation, alice: User, client: Client) -> tuple[Access, uuid.UUID]:
    client.force_login(alice)
    return Access(None, client.cookies["sessionid"].value), conversation.pk


def deactivate() -> None:
    User.objects.update(is_active=False)


def change_password() -> None:
    alice = User.objects.get()
    alice.set_password("another")
    alice.save()


ENDS: list[tuple[str, Callable[[], Any]]] = [
    ("by_token", lambda: Token.objects.all().delete()),
    ("by_token", deactivate),
    ("by_token", lambda: Conversation.objects.get().remove()),
    ("by_session", lambda: Session.objects.all().delete()),
    ("by_session", lambda: Session.objects.update(expire_date="2020-01-01T00:00Z")),
    ("by_session", lambda: Session.objects.update(session_data="")),
    ("by_session", deactivate),
    ("by_session", change_password),
    ("by_session", lambda: Conversation.objects.get().remove()),
    ("by_session", lambda: Conversation.objects.update(owner=User.objects.create_user("carol"))),
]


@pytest.mark.parametrize(("way", "end"), ENDS)
def test_whatever_ends_a_permission_is_noticed(way: str, end: Callable[[], Any], request: Any) -> None:
    key = request.getfixturevalue(way)
    before = evidence([key])
    assert isinstance(key[0].conversation(key[1]), Conversation)
    end()
    assert not isinstance(key[0].conversation(key[1]), Conversation)
    assert evidence([key]) != before


def test_the_end_of_a_shared_link_is_noticed(conversation: Conversation, by_session: tuple[Access, uuid.UUID]) -> None:
    Conversation.objects.update(share="secret")
    stranger = (Access(None, ""), conversation.pk)
    before = evidence([stranger])
    Conversation.objects.update(share=None)
    assert evidence([stranger]) != before


def test_what_ends_no_permission_changes_nothing(by_token: tuple[Access, uuid.UUID]) -> None:
    before = evidence([by_token])
    conversation = Conversation.objects.get()
    conversation.ask("Hello?")
    Conversation.objects.update(title="Another")
    by_token[0].user()
    assert evidence([by_token]) == before


def test_many_connections_cost_as_many_queries_as_one(
    alice: User, by_token: Any, by_session: Any, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    keys = [by_token, by_session]
    for _ in range(20):
        pk = Conversation.objects.create(owner=alice).pk
        keys += [(Access(Token.objects.issue(alice), ""), pk), (by_session[0], pk)]
    with django_assert_num_queries(3):
        found = evidence(keys)
    assert len(found) == len(keys)


@pytest.fixture
def watch(hub_stopped: None, settings: Any) -> Watch:
    """One that looks when a test says so."""
    settings.ACCESS_CHECK_S = 3600
    return Watch()


async def evidence_of(key: tuple[Access, uuid.UUID]) -> Any:
    return (await sync_to_async(evidence)([key]))[key]


@pytest.mark.django_db(transaction=True)
async def test_a_connection_is_asked_again_soon_after_it_opened_and_then_only_after_changes(
    by_token: tuple[Access, uuid.UUID], watch: Watch
) -> None:
    with watch.over(*by_token) as changed:
        await watch.look()
        assert changed.is_set()
        changed.clear()
        await watch.look()
        assert not changed.is_set()
        await sync_to_async(Token.objects.all().delete)()
        await watch.look()
        async with asyncio.timeout(DEADLINE_S):
            await changed.wait()


@pytest.mark.django_db(transaction=True)
async def test_a_connection_that_brings_what_its_permission_rested_on_is_asked_again_only_after_changes_to_it(
    by_token: tuple[Access, uuid.UUID], watch: Watch
) -> None:
    known = await evidence_of(by_token)
    with watch.over(*by_token, known) as changed:
        await watch.look()
        assert not changed.is_set()
        await sync_to_async(Token.objects.all().delete)()
        await watch.look()
        assert changed.is_set()
        # One whose permission was asked for before that look, and one that does not know.
        with watch.over(*by_token, known) as late, watch.over(*by_token) as unknowing:
            assert late.is_set()
            assert unknowing.is_set()
    with watch.over(*by_token, known) as changed:
        await watch.look()
        assert changed.is_set()


@pytest.mark.django_db(transaction=True)
async def test_one_that_knows_nothing_is_asked_again_soon_whatever_a_later_one_knows(
    by_token: tuple[Access, uuid.UUID], watch: Watch
) -> None:
    with watch.over(*by_token) as changed:
        await sync_to_async(Token.objects.all().delete)()
        known = await evidence_of(by_token)
        with watch.over(*by_token, known) as later:
            assert later.is_set()
            await watch.look()
        assert changed.is_set()


@pytest.mark.django_db(transaction=True)
async def test_nothing_looks_when_nobody_is_connected(settings: Any) -> None:
    watch = Watch()
    with watch.over(Access("x", ""), uuid.uuid4()), watch.over(Access("y", ""), uuid.uuid4()):
        assert [task for task in asyncio.all_tasks() if task.get_name() == "access"]
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "access"]
