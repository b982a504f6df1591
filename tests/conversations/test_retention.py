"""What a site forgets by itself, when, and that nothing of it is left; and what it does not."""

from __future__ import annotations

from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.utils import timezone

from conversations import retention
from conversations.models import Conversation, Message, Token, User
from streaming import upkeep
from streaming.models import Chunk, Stream
from tests.conftest import finish, stream_of

pytestmark = pytest.mark.django_db


def ago(days: float) -> datetime:
    return timezone.now() - timedelta(days=days)


def retain(*options: str) -> str:
    told = StringIO()
    call_command("retain", *options, stdout=told)
    return told.getvalue()


@pytest.fixture
def visitor() -> User:
    """Somebody who came once, long ago, and asked one thing."""
    visitor = User.new_visitor()
    Conversation.begin(visitor, "Hello?")
    User.objects.filter(pk=visitor.pk).update(date_joined=ago(100), last_login=ago(100))
    Conversation.objects.filter(owner=visitor).update(updated_at=ago(100))
    return visitor


def test_a_deleted_conversation_is_removed_once_its_undo_has_run_out(
    running_stream: Stream, conversation: Conversation
) -> None:
    Conversation.objects.update(deleted_at=ago(0))
    retain()
    assert Chunk.objects.count() == 2
    Conversation.objects.update(deleted_at=ago(1))
    assert "deleted conversations removed: 1\n" in retain("--batch", "2")
    assert not Conversation.objects.exists() and not Message.objects.exists()
    assert not Stream.objects.exists() and not Chunk.objects.exists()


def test_old_conversations_are_deleted_only_where_the_site_says_so(conversation: Conversation, settings: Any) -> None:
    Conversation.objects.update(updated_at=ago(1000))
    retain()
    assert Conversation.objects.get().deleted_at is None
    settings.CONVERSATION_DAYS = 365
    retain()
    assert Conversation.objects.get().deleted_at is not None


def test_an_abandoned_visitor_goes_with_all_that_was_theirs(visitor: User, conversation: Conversation) -> None:
    conversation.ask("Of somebody with an account")
    assert "abandoned visitors removed: 1\n" in retain()
    assert not User.objects.filter(pk=visitor.pk).exists()
    assert [each.pk for each in Conversation.objects.all()] == [conversation.pk]
    assert Stream.objects.count() == 1


@pytest.mark.parametrize("sign", ["log-in", "prompt", "token used", "token made", "account", "never"])
def test_a_visitor_who_gave_a_sign_of_life_stays(sign: str, visitor: User, settings: Any) -> None:
    match sign:
        case "log-in":
            User.objects.update(last_login=ago(1))
        case "prompt":
            Conversation.objects.update(updated_at=ago(1))
        case "token used" | "token made":
            Token.objects.issue(visitor)
            Token.objects.update(last_used_at=ago(1 if sign == "token used" else 99))
            Token.objects.update(created_at=ago(1 if sign == "token made" else 99))
        case "account":
            User.objects.update(is_visitor=False)
        case "never":
            settings.VISITOR_DAYS = 0
    retain()
    assert User.objects.filter(pk=visitor.pk).exists()


def test_sessions_that_have_run_out_are_removed() -> None:
    for days in (1, -1):
        session = SessionStore()
        session.set_expiry(ago(days))
        session.save()
    assert "expired sessions removed: 1\n" in retain()
    assert Session.objects.count() == 1


def test_a_dry_run_tells_and_changes_nothing(visitor: User, running_stream: Stream) -> None:
    finish(running_stream, 3)
    Stream.objects.filter(pk=running_stream.pk).update(finished_at=ago(8))
    told = retain("--dry-run")
    assert "abandoned conversations deleted: 1 to do\n" in told and "logs compacted: 1 to do\n" in told
    assert User.objects.filter(pk=visitor.pk).exists() and Chunk.objects.count() == 3
    retain()
    assert Chunk.objects.count() == 2 and "1" not in retain("--dry-run")


def test_a_batch_too_small_is_refused() -> None:
    with pytest.raises(CommandError, match="at least 2"):
        retain("--batch", "1")


def test_some_of_each_chore_is_done_now_and_then(
    visitor: User, conversation: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation.discard()
    Conversation.objects.filter(pk=conversation.pk).update(deleted_at=ago(1))
    monkeypatch.setattr(upkeep, "CHORE_S", 0)
    upkeep.some()
    assert Conversation.objects.count() == 1
    upkeep.some()
    assert not Conversation.objects.exists() and not User.objects.filter(pk=visitor.pk).exists()


def test_a_chore_leaves_to_others_what_it_cannot_do(conversation: Conversation) -> None:
    stuck = upkeep.Chore("stuck", Conversation.objects.all, lambda pk, rows: None)
    assert list(stuck.work()) == [conversation.pk]


def test_one_that_cannot_be_dealt_with_keeps_no_other_waiting(
    visitor: User, conversation: Conversation, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_once(pk: Any, rows: int) -> None:
        done.append(pk)
        if len(done) == 1:
            raise ValueError("poison")

    done: list[Any] = []
    monkeypatch.setattr(upkeep, "LOOK", 1)
    chore = upkeep.Chore("stirred", Conversation.objects.order_by("pk").all, fail_once)
    assert list(chore.work()) == done and len(done) == 2
    assert "poison" in caplog.text


def test_of_many_dealt_with_at_once_one_that_cannot_be_keeps_no_other_waiting(
    alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    first, bad, last = (Conversation.objects.create(owner=alice).pk for _ in range(3))

    def fail_with_bad(pks: list[Any], rows: int) -> None:
        asked.append(pks)
        if bad in pks:
            raise ValueError("poison")

    asked: list[list[Any]] = []
    chore = upkeep.Chore("stirred", Conversation.objects.order_by("pk").all, fail_with_bad, at_once=3)
    assert list(chore.work()) == [first, bad, last]
    assert asked == [[first, bad, last], [first], [bad], [last]]
    assert caplog.text.count(f"not stirred: {bad}") == 1


def test_an_old_conversation_that_is_asked_in_at_that_moment_stays(conversation: Conversation, settings: Any) -> None:
    settings.CONVERSATION_DAYS = 365
    Conversation.objects.update(updated_at=ago(1000))
    (due,) = retention.old().values_list("pk", flat=True)
    conversation.ask("Still here")
    retention.discard(due, 10)
    conversation.refresh_from_db()
    assert conversation.deleted_at is None


def test_a_visitor_who_asks_at_that_moment_keeps_all_there_was(visitor: User) -> None:
    conversation, stream = Conversation.objects.get(), Stream.objects.claim(Stream.objects.get().pk, "elsewhere", 60)
    assert stream is not None
    finish(stream, 1)
    (due,) = retention.left().values_list("pk", flat=True)
    conversation.ask("Back again")
    retention.leave(due, 10)
    retain()
    assert Conversation.objects.get().deleted_at is None and Chunk.objects.filter(stream=stream).exists()
    assert User.objects.filter(pk=visitor.pk).exists()


def test_a_visitor_who_begins_at_that_moment_stays(visitor: User) -> None:
    Conversation.objects.all().remove()
    (due,) = retention.gone().values_list("pk", flat=True)
    Conversation.begin(visitor, "Back again")
    retention.remove_visitor(due, 10)
    assert User.objects.filter(pk=visitor.pk).exists()


def test_an_answer_of_a_removed_conversation_ends(reply: Message, conversation: Conversation) -> None:
    stream = Stream.objects.claim(stream_of(reply), "elsewhere", 60)
    assert stream is not None and stream.lease is not None
    conversation.discard()
    assert Stream.objects.get().stop_requested_at is not None
    retention.remove(conversation.pk, 10)
    assert Stream.objects.hand_back([stream.lease]) == []
