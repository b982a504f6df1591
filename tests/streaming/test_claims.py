"""A writer that was paused in its commit holds the rows of its streams; nobody else may have to wait for it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection

from streaming.models import Stream
from tests.conftest import new_stream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.scaled]


@pytest.fixture
def paused(db: None) -> Iterator[psycopg.Connection[tuple[int]]]:
    """The connection of another process."""
    parameters = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    with psycopg.connect(**{name: parameters[name] for name in names if parameters.get(name)}) as paused:
        yield paused


def test_a_claim_passes_over_a_stream_whose_row_is_locked(paused: psycopg.Connection[tuple[int]]) -> None:
    held, free = new_stream(), new_stream()
    Stream.objects.claim(held.pk, "paused", -1)
    paused.execute("select from streaming_stream where id = %s for update", [held.pk])
    assert Stream.objects.claim(held.pk, "successor", 60) is None
    assert Stream.objects.claim(free.pk, "successor", 60) is not None
    paused.rollback()
    assert Stream.objects.claim(held.pk, "successor", 60) is not None


def test_a_transaction_that_waits_for_a_paused_process_is_ended_by_the_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("show idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("5s",)
