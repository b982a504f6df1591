"""What one look of an engine at the database finds, and leaves alone."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from streaming.engine import survey
from streaming.models import Stream
from tests.conftest import new_stream

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def held() -> Stream:
    """A stream that the process "mine" writes."""
    stream = Stream.objects.claim(new_stream().pk, "mine", lease_s=600)
    assert stream is not None and stream.lease is not None
    return stream


def test_nothing_new_is_found_by_two_questions(held: Stream, django_assert_num_queries: Any) -> None:
    assert held.lease is not None
    with django_assert_num_queries(2):
        found = survey([held.lease], renew=False, room=10, worker="mine")
    assert (found.held, found.claims, found.more) == ({held.lease: False}, [], False)


def test_a_stop_is_found_and_the_leases_of_others_are_not_asked_about(held: Stream) -> None:
    assert held.lease is not None
    other = Stream.objects.claim(new_stream().pk, "theirs", lease_s=600)
    assert other is not None and other.lease is not None
    Stream.objects.filter(pk=held.pk).request_stop()
    found = survey([held.lease, other.lease, uuid.uuid4()], renew=False, room=10, worker="mine")
    assert found.held == {held.lease: True}
    assert survey([other.lease], renew=False, room=10, worker="theirs").held == {other.lease: False}


def test_a_claim_that_its_process_never_heard_of_is_not_renewed_but_made_again(held: Stream) -> None:
    lost = Stream.objects.claim(new_stream().pk, "mine", lease_s=-1)
    assert held.lease is not None and lost is not None
    found = survey([held.lease], renew=True, room=10, worker="mine")
    assert found.held == {held.lease: False}
    assert [claim.stream.pk for claim in found.claims] == [lost.pk]


def test_a_lease_of_its_own_that_ran_out_is_renewed_and_not_claimed(held: Stream) -> None:
    assert held.lease is not None
    Stream.objects.renew([held.lease], -1)
    found = survey([held.lease], renew=True, room=10, worker="mine")
    assert (found.held, found.claims) == ({held.lease: False}, [])
    Stream.objects.renew([held.lease], -1)
    assert not survey([held.lease], renew=False, room=10, worker="mine").claims


def test_what_waits_is_claimed_from_the_oldest_as_far_as_there_is_room(held: Stream) -> None:
    waiting = [new_stream() for _ in range(3)]
    Stream.objects.filter(pk=waiting[2].pk).request_stop()
    assert held.lease is not None
    found = survey([held.lease], renew=False, room=1, worker="mine")
    assert [claim.stream.pk for claim in found.claims] == [waiting[2].pk, waiting[0].pk] and found.more
