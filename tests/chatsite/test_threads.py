"""A request's synchronous code has a thread to itself, which is lent; a stream keeps none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext, suppress
from contextvars import Context, copy_context
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection

from chatsite.threads import SPARE, Threads
from tests.conftest import DEADLINE_S

Application = Callable[[Any, Any, Any], Awaitable[None]]
this_thread = sync_to_async(threading.get_ident)
MORE = {"type": "http.response.body", "body": b"a word", "more_body": True}


class Busy:
    """Work that lasts until `over`."""

    def __init__(self) -> None:
        self.working, self.over = threading.Event(), threading.Event()

    def work(self) -> None:
        self.working.set()
        self.over.wait(DEADLINE_S)


@pytest.fixture
def lending() -> Iterator[Callable[[Application], Threads]]:
    made: list[Threads] = []

    def lend(application: Application) -> Threads:
        made.append(Threads(application))
        return made[-1]

    yield lend
    for threads in made:
        for executor in (*threads.spare, threads.shared):
            executor.shutdown()


async def ask(threads: Threads) -> list[Any]:
    """What an application sends to one request."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(DEADLINE_S):
        await threads({"type": "http"}, None, send)
    return sent


async def test_a_request_has_one_thread_and_the_next_has_it_after_it(lending: Any) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"threads": {await this_thread() for _ in range(3)}})

    threads = lending(application)
    ((first,), (second,)) = [await ask(threads) for _ in range(2)]
    assert first == second
    assert len(first["threads"]) == 1
    assert threading.get_ident() not in first["threads"]


async def test_requests_at_the_same_time_wait_for_no_other(lending: Any) -> None:
    meeting = threading.Barrier(2 * SPARE, timeout=DEADLINE_S)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await sync_to_async(meeting.wait)()

    threads = lending(application)
    await asyncio.gather(*(ask(threads) for _ in range(2 * SPARE)))
    assert len(threads.spare) == SPARE


async def test_a_stream_keeps_no_thread(lending: Any) -> None:
    over, streaming = asyncio.Event(), asyncio.Semaphore(0)
    before: set[int] = set()
    after: set[int] = set()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        before.add(await this_thread())
        await send(MORE)
        streaming.release()
        await over.wait()
        after.add(await this_thread())

    threads = lending(application)
    requests = []
    for _ in range(20):
        requests.append(asyncio.create_task(ask(threads)))
        await streaming.acquire()
    over.set()
    await asyncio.gather(*requests)
    assert len(before) == len(after) == 1
    assert before != after


@pytest.mark.parametrize("quietly", [False, True])
async def test_a_thread_that_still_works_for_who_left_is_waited_for(lending: Any, quietly: bool) -> None:
    """With a call behind it that was given up as well."""
    busy = Busy()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if not busy.working.is_set():
            with suppress(asyncio.CancelledError) if quietly else nullcontext():
                await asyncio.gather(*(sync_to_async(busy.work)() for _ in range(2)))
        else:
            await send({"thread": await this_thread()})

    threads = lending(application)
    left = asyncio.create_task(ask(threads))
    await asyncio.to_thread(busy.working.wait, DEADLINE_S)
    left.cancel()
    await ask(threads)
    assert not left.done()
    busy.over.set()
    await asyncio.gather(left, return_exceptions=True)
    assert len(threads.spare) == 2


async def test_who_does_not_wait_for_it_either_lends_it_to_nobody(lending: Any) -> None:
    busy = Busy()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await sync_to_async(busy.work)()

    threads = lending(application)
    left = asyncio.create_task(ask(threads))
    await asyncio.to_thread(busy.working.wait, DEADLINE_S)
    async with asyncio.timeout(DEADLINE_S / 2):  # Before the work ends by itself.
        while not left.done():
            left.cancel()
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await left
    assert threads.spare == []
    busy.over.set()


async def test_a_websocket_has_threads_whatever_request_its_connection_had_before(lending: Any) -> None:
    contexts: list[Context] = []
    found: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        found.append(await this_thread())
        contexts.append(copy_context())

    threads = lending(application)

    async def connect() -> None:
        await threads({"type": "websocket"}, None, None)

    await ask(threads)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.create_task(connect(), context=contexts[0])
    assert found[1] not in (found[0], threading.get_ident())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["streams", "fails"])
async def test_a_request_that_streams_or_fails_keeps_no_connection_to_the_database(lending: Any, how: str) -> None:
    is_open = sync_to_async(lambda: connection.connection is not None)
    seen: list[bool] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if not seen:
            await sync_to_async(get_user_model().objects.count)()
        seen.append(await is_open())
        if how == "fails":
            raise ValueError
        await send(MORE)

    threads = lending(application)
    for _ in range(2):
        with pytest.raises(ValueError) if how == "fails" else nullcontext():
            await ask(threads)
    assert seen == [True, False]
