"""A stream exported and played again is the same answer, with the same timing, written the normal way."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from conversations.models import Conversation, Message, User
from conversations.wish import Wish
from streaming.frames import Row
from streaming.models import Chunk, Entry, Outcome, Stream
from streaming.recording import BadRecording, lines, play, read
from tests.conftest import add, finish

pytestmark = pytest.mark.django_db


@pytest.fixture
def recorded(running_stream: Stream) -> Stream:
    """A finished stream with a retry and a restart, two seconds between its rows."""
    assert running_stream.lease
    notes = (
        Row(3, "retry", "", {"attempt": 2, "of": 3, "wait_s": 1.0, "reason": "Cut."}),
        Row(4, "restart", "", {"attempt": 2}),
    )
    Stream.objects.append([Entry(running_stream.pk, running_stream.lease, notes)])
    add(running_stream, 5, "Hm", "reasoning")
    add(running_stream, 6, "Good day")
    finish(running_stream, 7)
    running_stream.refresh_from_db()
    for seq in range(1, 8):
        Chunk.objects.filter(seq=seq).update(created_at=running_stream.created_at + timedelta(seconds=2 * seq))
    return running_stream


def said(stream: Stream) -> list[tuple[str, str, Any]]:
    return [(row.kind, row.text, row.data) for row in Chunk.objects.rows(stream.pk)]


def fed(owner: User) -> Stream:
    """A stream that waits for a program's words, as `replay` begins it."""
    reply = Conversation.begin(owner, "Again?", wish=Wish(fed=True))
    assert reply.stream_id
    return Stream.objects.get(pk=reply.stream_id)


def test_an_exported_stream_is_played_into_a_conversation(recorded: Stream, bob: User, tmp_path: Path) -> None:
    file = tmp_path / "stream.jsonl"
    file.write_bytes(b"".join(lines(recorded)))
    out = io.StringIO()
    call_command("replay", str(file), "--user", "bob", "--speed", "0", stdout=out)
    reply = Message.objects.select_related("stream", "parent", "conversation").get(
        conversation__owner=bob, role="assistant"
    )
    assert reply.stream and reply.parent
    assert said(reply.stream) == said(recorded) and reply.parent.text == "Hello?"
    assert (reply.stream.status, reply.stream.text, reply.stream.reasoning) == ("done", "Good day", "Hm")
    assert reply.stream.first_text_at and reply.stream.attempt == 2 and "Played" in out.getvalue()


def test_it_is_played_with_the_timing_it_had(recorded: Stream, bob: User) -> None:
    waits: list[float] = []
    assert play(fed(bob), read(lines(recorded)), speed=4, sleep=waits.append)
    assert sum(waits) == pytest.approx(14 / 4, abs=0.01) and max(waits) <= 1


def test_a_replay_that_is_stopped_ends_within_a_second(recorded: Stream, bob: User) -> None:
    stream, waits = fed(bob), list[float]()

    def stop_it(wait_s: float) -> None:
        waits.append(wait_s)
        if Chunk.objects.filter(stream=stream).count() == 2:
            Stream.objects.filter(pk=stream.pk).request_stop()

    assert not play(stream, read(lines(recorded)), sleep=stop_it)
    assert Chunk.objects.filter(stream=stream).count() == 2
    assert sum(waits) == pytest.approx(2 + 2 + 1, abs=0.01)


def test_a_recording_of_a_running_stream_ends_as_interrupted(running_stream: Stream, bob: User) -> None:
    stream = fed(bob)
    assert play(stream, read(lines(running_stream)), speed=0)
    stream.refresh_from_db()
    assert (stream.status, stream.text) == ("interrupted", "Hello")


def test_a_compacted_log_is_played_as_it_is(recorded: Stream, bob: User) -> None:
    Chunk.objects.filter(stream=recorded, seq__lt=5).delete()
    stream = fed(bob)
    assert play(stream, read(lines(recorded)), speed=0)
    assert [row.seq for row in Chunk.objects.rows(stream.pk)] == [1, 2, 3]


HEAD: dict[str, Any] = {"recording": 1, "request": {}}
TEXT: dict[str, Any] = {"at_s": 0, "kind": "text", "text": "x", "data": None}
END: dict[str, Any] = {"at_s": 0, "kind": "end", "text": "", "data": Outcome("done").data()}


@pytest.mark.parametrize(
    "said",
    [
        [],
        ["x"],
        [{}],
        [HEAD | {"recording": 2}],
        [HEAD, TEXT | {"kind": "other"}],
        [HEAD, TEXT | {"text": "a\0"}],
        [HEAD, TEXT | {"text": "x" * 64_001}],
        [HEAD, TEXT | {"at_s": "soon"}],
        [HEAD, TEXT | {"kind": "retry"}],
        [HEAD, TEXT | {"kind": "retry", "data": {"attempt": 2}}],
        [HEAD, END | {"data": END["data"] | {"error": {"detail": {}}}}],
        [HEAD, END | {"data": END["data"] | {"usage": "much"}}],
        [HEAD, END | {"data": Outcome("pending").data()}],
        [HEAD, END, TEXT],
    ],
)
def test_what_is_no_recording_is_refused(said: list[Any]) -> None:
    with pytest.raises(BadRecording):
        read(orjson.dumps(line) + b"\n" for line in said)


def test_a_replay_that_a_budget_does_not_allow_says_so(bob: User, tmp_path: Path, settings: Settings) -> None:
    settings.USER_DAY_CHARS = 4
    Conversation.begin(bob, "Why?")
    file = tmp_path / "stream.jsonl"
    file.write_bytes(orjson.dumps(HEAD))
    with pytest.raises(CommandError, match="a day's limit"):
        call_command("replay", str(file), "--user", "bob")


def test_the_command_says_what_is_wrong(bob: User, tmp_path: Path) -> None:
    file = tmp_path / "stream.jsonl"
    file.write_bytes(orjson.dumps(HEAD))
    for extra in (["--user", "nobody"], ["--user", "bob", "--speed", "-1"]):
        with pytest.raises(CommandError):
            call_command("replay", str(file), *extra)
    with pytest.raises(CommandError, match="No such file"):
        call_command("replay", str(tmp_path / "none"), "--user", "bob")
    file.write_bytes(b"no")
    with pytest.raises(CommandError, match="Line 1"):
        call_command("replay", str(file), "--user", "bob")
    assert not Stream.objects.exists()
