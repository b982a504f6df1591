"""What PostgreSQL's index of words holds, and when: what is found, tests/conversations/test_shelf.py tells."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction

from conversations import search
from conversations.models import Conversation, User
from streaming.models import Stream
from streaming.upkeep import CHORES
from tests.conftest import DEADLINE_S, add, finish, stream_of
from tests.conversations.test_shelf import said

pytestmark = pytest.mark.django_db


def index_all() -> None:
    for chore in search.CHORES:
        list(chore.work())


def found(owner: User, words: str) -> list[str]:
    return [hit.snippet for hit in search.hits(Conversation.objects.filter(owner=owner), words, 10)]


def test_an_answer_is_found_as_soon_as_it_has_ended_and_ever_after(alice: User) -> None:
    said(alice, "Why?", "Because of rain.")
    for _ in range(2):
        assert found(alice, "rain") == ["Because of <mark>rain</mark>."]
        assert found(alice, "Why") == ["<mark>Why</mark>?"]
        index_all()


@pytest.mark.scaled
def test_all_that_has_ended_comes_into_the_index_and_nothing_else(alice: User) -> None:
    assert search.CHORES[0] in CHORES
    for number in range(5):
        said(alice, "Why?", f"Because {number}.")
    waiting = Conversation.begin(alice, "Again?")
    index_all()
    assert [each.pk for each in Stream.objects.filter(indexed_at=None)] == [waiting.stream_id]
    assert not search.unindexed()


@pytest.mark.scaled
def test_the_commit_of_an_end_takes_no_words_apart(alice: User) -> None:
    """It would hold up what all other answers say, for milliseconds where this one is long."""
    stream = Stream.objects.claim(stream_of(Conversation.begin(alice, "Why?")), "elsewhere", 60)
    assert stream
    add(stream, 1, "Because.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'streaming_stream'")
        takes_apart = [index for (index,) in cursor.fetchall() if "to_tsvector" in index]
    assert ["WHERE (indexed_at IS NOT NULL)" in index for index in takes_apart] == [True]
    finish(stream, 2)
    assert search.unindexed().get().pk == stream.pk


@pytest.mark.scaled
def test_a_search_uses_the_index(alice: User) -> None:
    said(alice, "Why?", "Because of rain.")
    index_all()
    queries = list(search.saying(Conversation.objects.all(), ["rain"]))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plans = [query.order_by().explain() for query in queries]
    assert ["stream_indexed_words" in plan for plan in plans] == [False, False, True]


@pytest.mark.scaled
@pytest.mark.django_db(transaction=True)
def test_what_had_ended_before_an_update_is_in_the_index_and_what_ends_after_it_waits(alice: User) -> None:
    said(alice, "Why?", "Because of rain.")
    try:
        call_command("migrate", "streaming", "0006", verbosity=0)
    finally:
        call_command("migrate", verbosity=0)
    assert not search.unindexed()
    assert found(alice, "rain") == ["Because of <mark>rain</mark>."]
    said(alice, "Why?", "Because of snow.")
    assert [each.text for each in search.unindexed()] == ["Because of snow."]
    # Nor are those in it that a process of the version before adds.
    default = "SELECT column_default FROM information_schema.columns WHERE column_name = 'indexed_at'"
    with connection.cursor() as cursor:
        cursor.execute(default)
        assert cursor.fetchall() == [(None,)]


@pytest.mark.scaled
@pytest.mark.django_db(transaction=True)
def test_the_index_waits_for_nobody(alice: User) -> None:
    """Two who lock several answers in different order would wait for each other, one of them a person who deletes."""
    for word in ("first", "second"):
        said(alice, "Why?", word)
    first, held, done = search.unindexed()[0], threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Stream.objects.select_for_update().get(pk=first.pk)
            held.set()
            done.wait(DEADLINE_S)
        connections.close_all()

    with ThreadPoolExecutor(1) as beside:
        holder = beside.submit(hold)
        assert held.wait(DEADLINE_S)
        index_all()
        assert [each.text for each in search.unindexed()] == ["first"]
        done.set()
        holder.result(DEADLINE_S)
