"""What a person can take away: everything that is theirs, nothing that is another's, in a fixed number of queries."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from conversations import export
from conversations.models import Conversation, Message, User
from streaming.models import Status, Stream
from tests.conftest import finish, stream_of

pytestmark = pytest.mark.django_db


def contents(file: Any) -> dict[str, Any]:
    with ZipFile(file) as archive:
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}


def answered(conversation: Conversation, text: str) -> Message:
    reply = conversation.ask(text)
    stream = Stream.objects.claim(stream_of(reply), "elsewhere", 60)
    assert stream is not None
    finish(stream, 1)
    return reply


def test_an_archive_holds_all_that_is_ones_own(
    at_alices: Client, conversation: Conversation, alice: User, alices_token: str, bob: User
) -> None:
    answered(conversation, "Mine")
    conversation.regenerate(conversation.messages.get(text="Mine").pk)
    Conversation.begin(bob, "A secret of bob")
    empty = Conversation.objects.create(owner=alice)
    answer = at_alices.get("/account/export.zip")
    found = contents(io.BytesIO(b"".join(answer.streaming_content)))  # type: ignore[attr-defined]
    account = found.pop("account.json")
    assert account["username"] == "alice" and [token["name"] for token in account["tokens"]] == ["phone"]
    said = {each["id"]: each["messages"] for each in found.values()}
    assert set(said) == {str(conversation.pk), str(empty.pk)} and said[str(empty.pk)] == []
    assert [message["role"] for message in said[str(conversation.pk)]] == ["user", "assistant", "assistant"]
    assert said[str(conversation.pk)] == json.loads(export.as_json(conversation))["messages"]
    assert [len(message["branches"]) for message in said[str(conversation.pk)]] == [1, 2, 2]
    assert alices_token not in json.dumps(account) and "bob" not in json.dumps(found)


def test_no_column_of_a_conversation_is_forgotten(conversation: Conversation) -> None:
    answered(conversation, "Mine")
    elsewhere = [{"role": "user", "content": "Said elsewhere"}]
    conversation.messages.filter(text="Mine").update(context=elsewhere)
    found = json.loads(export.as_json(conversation))
    # Whose it is the archive says; the chosen branch is a way of looking; the link itself is a secret.
    columns = {field.name for field in Conversation._meta.concrete_fields} - {"owner", "leaf", "share"}
    assert columns <= found.keys() and found["shared"] is False
    assert found["messages"][0]["context"] == elsewhere


@pytest.mark.parametrize("turns", [1, 6])
def test_it_takes_as_many_queries_for_one_turn_as_for_many(
    turns: int, conversation: Conversation, alice: User, django_assert_num_queries: Any
) -> None:
    for turn in range(turns):
        answered(conversation, str(turn))
        answered(Conversation.objects.create(owner=alice), "And elsewhere")
    assert not Stream.objects.exclude(status=Status.DONE).exists()
    with django_assert_num_queries(1):
        export.as_json(conversation)
    with django_assert_num_queries(4):
        export.archive(alice).close()


def test_nobody_gets_no_archive(client: Client) -> None:
    assert client.get("/account/export.zip").headers["Location"].startswith("/login/")


def test_an_administrator_exports_for_somebody(conversation: Conversation, alice: User, tmp_path: Path) -> None:
    conversation.ask("Mine")
    call_command("export_user", "alice", str(tmp_path / "alice.zip"), verbosity=0, stdout=io.StringIO())
    assert len(contents(tmp_path / "alice.zip")) == 2
    with pytest.raises(CommandError, match="no user 'carol'"):
        call_command("export_user", "carol", str(tmp_path / "carol.zip"))
