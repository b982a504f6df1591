"""People, conversations and engines that every part of the tests needs."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_django
from asgiref.sync import SyncToAsync, sync_to_async
from channels.layers import BaseChannelLayer, channel_layers, get_channel_layer
from django.db import connections
from django.test import override_settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from conversations.models import Conversation, Message, Token, User
from streaming.engine import Engine
from streaming.frames import Row
from streaming.hub import stop_hub
from streaming.models import Chunk, Entry, Outcome, Stream
from streaming.providers import Provider
from tests.columns import SCALED

if TYPE_CHECKING:
    from streaming.worker import WorkerEngine

DEADLINE_S = 10.0


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # Its package has no types.
    """What one of several processes (make test) runs at a time: a file, whose tests share their sites, or half of the
    browser's files, because three browsers are too much for two cores."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if not file.startswith("tests/browser/"):
            return file
        return "browser, a to r" if file < "tests/browser/test_s" else "browser, s to z"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the other column, or was seen in it; refuse what would not be tested.

    Of two tests with one name pytest-xdist runs one. Async tests work in several threads, where a transaction is not
    seen: they leave rows or lock SQLite.
    """
    elsewhere = {"embedded", "page"} if SCALED else {"scaled"}
    marks = {item: {mark.name for mark in item.iter_markers()} for item in items}
    left_out = [item for item in items if elsewhere & marks[item] and "both" not in marks[item]]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    if twice := [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]:
        raise pytest.UsageError(f"several tests have the name {twice[0]}")
    for item in items:
        mark = item.get_closest_marker("django_db")
        if mark and inspect.iscoroutinefunction(getattr(item, "obj", None)) and not mark.kwargs.get("transaction"):
            raise pytest.UsageError(f"{item.nodeid}: an async test needs django_db(transaction=True)")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[None]:
    """PostgreSQL drops no database that somebody is connected to: all have to let go of it before."""
    yield
    with django_db_blocker.unblock():
        # The thread in which asgiref runs what async tests ask of the database; those of hubs and engines have ended.
        SyncToAsync.single_thread_executor.submit(connections.close_all).result()
        if SCALED:
            with connections["default"].cursor() as cursor:
                # What a test abandoned on purpose may still be in the midst of a query.
                others = "datname = current_database() AND pid <> pg_backend_pid()"
                cursor.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}")


@pytest.fixture(autouse=True)
def _own_layer(settings: pytest_django.Settings) -> Iterator[None]:
    """No test hears another's broadcasts."""
    if SCALED:
        config = settings.CHANNEL_LAYERS["default"]["CONFIG"] | {"prefix": uuid.uuid4().hex}
        settings.CHANNEL_LAYERS = {"default": settings.CHANNEL_LAYERS["default"] | {"CONFIG": config}}
    channel_layers.backends.clear()
    yield
    channel_layers.backends.clear()


@pytest.fixture
def layer() -> BaseChannelLayer:
    found = get_channel_layer()
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def _quick_passwords(settings: pytest_django.Settings) -> None:
    """Hashing that is slow on purpose would be most of the tests' time."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _no_loop_failed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A background loop logs what fails and goes on; readers may be healed, but it is a defect all the same."""
    yield
    failed = [record.getMessage() for record in caplog.get_records("call") if record.name == "streaming.background"]
    assert not failed


@pytest.fixture
def alice(db: None) -> User:
    """The owner."""
    return User.objects.create_user("alice", password="correct horse")


@pytest.fixture
def bob(db: None) -> User:
    """The stranger."""
    return User.objects.create_user("bob", password="battery staple")


@pytest.fixture
def alices_token(alice: User) -> str:
    return Token.objects.issue(alice, "phone")


@pytest.fixture
def bobs_token(bob: User) -> str:
    return Token.objects.issue(bob)


@pytest.fixture
def conversation(alice: User) -> Conversation:
    return Conversation.objects.create(owner=alice)


@pytest.fixture
def reply(conversation: Conversation) -> Message:
    """A reply that waits for its engine."""
    return conversation.ask("Hello?")


@pytest.fixture
def running_stream(reply: Message) -> Stream:
    """A stream that a worker elsewhere writes; two rows so far: "Hel", "lo"."""
    stream = Stream.objects.claim(stream_of(reply), "elsewhere", 60)
    assert stream is not None
    add(stream, 1, "Hel")
    add(stream, 2, "lo")
    return stream


def stream_of(reply: Message) -> uuid.UUID:
    """The stream of a reply; only prompts have none."""
    assert reply.stream_id is not None
    return reply.stream_id


def add(stream: Stream, seq: int, text: str, kind: str = "text") -> None:
    """Append one row of words under the stream's lease."""
    assert stream.lease is not None
    Stream.objects.append([Entry(stream.pk, stream.lease, (Row(seq, kind, text, None),))])


def finish(stream: Stream, seq: int, status: str = "done") -> None:
    """Append the `end` row under the stream's lease."""
    assert stream.lease is not None
    outcome = Outcome(status, "stop")
    Stream.objects.append([Entry(stream.pk, stream.lease, (Row(seq, "end", "", outcome.data()),), outcome=outcome)])


def new_stream(topic: str = "topic") -> Stream:
    return Stream.objects.create(topic=topic, request={"model": "m", "messages": []})


def stored_text(stream: uuid.UUID) -> str:
    """The text that the rows of a stream add up to, whatever its own column says."""
    from streaming.frames import fold

    return fold(Chunk.objects.rows(stream)).text


async def until(condition: Callable[[], Awaitable[bool]], deadline_s: float = DEADLINE_S) -> None:
    """Ask again and again until `condition` holds; fails at the deadline."""
    async with asyncio.timeout(deadline_s):
        while not await condition():
            await asyncio.sleep(0.01)


async def ended(stream: uuid.UUID) -> Stream:
    """The stream, once it has its final state."""
    found = sync_to_async(lambda: Stream.objects.exclude(finished_at=None).filter(pk=stream).first())
    async with asyncio.timeout(DEADLINE_S):
        while (row := await found()) is None:
            await asyncio.sleep(0.01)
    return row


@asynccontextmanager
async def engine_with(provider: Provider) -> AsyncIterator[Engine]:
    """A running engine on this loop, which is told of prompts in either column."""
    layer = get_channel_layer()
    assert layer is not None
    engine = Engine(provider, layer)
    with override_settings(STREAM_ENGINE="process"):
        engine.start()
        try:
            yield engine
        finally:
            await engine.stop()


@asynccontextmanager
async def worker_with(provider: Provider) -> AsyncIterator[WorkerEngine]:
    """A running worker on this loop (scaled column only)."""
    from streaming.worker import working

    layer = get_channel_layer()
    assert layer is not None
    async with working(provider, layer) as engine:
        yield engine


@pytest.fixture
async def hub_stopped() -> AsyncIterator[None]:
    """Ends the loop's hub with the test, so that its threads let go of the database."""
    yield
    await stop_hub()
