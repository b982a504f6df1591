"""What runs beside the requests: loops outlive their steps' errors and end when they are told to; threads too."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest
from django.db import OperationalError, connection

from streaming.background import DatabaseThread, forever, start_apart
from tests.columns import ROOT
from tests.conftest import DEADLINE_S

about: ContextVar[str] = ContextVar("about", default="")


async def test_a_loop_that_a_request_starts_does_not_speak_for_it() -> None:
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def step() -> None:
        heard.set_result(about.get())
        await asyncio.Event().wait()

    about.set("a request")
    loop = start_apart("loop", step, lambda: asyncio.sleep(0))
    async with asyncio.timeout(DEADLINE_S):
        assert await heard == ""
    loop.cancel()
    await asyncio.wait([loop])


async def test_a_loop_whose_step_swallows_its_cancellation_ends_all_the_same() -> None:
    begun = asyncio.Event()

    async def step() -> None:
        if begun.is_set():
            await asyncio.Event().wait()
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    loop = asyncio.create_task(forever(step, lambda: asyncio.sleep(0)))
    await begun.wait()
    loop.cancel()
    done, _ = await asyncio.wait([loop], timeout=DEADLINE_S)
    assert done


async def test_a_loop_outlives_a_pause_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    stepped = asyncio.Event()
    pauses = iter([ZeroDivisionError("bug")])

    async def step() -> None:
        stepped.set()

    async def pause() -> None:
        await asyncio.sleep(0)
        for failure in pauses:
            raise failure

    loop = asyncio.create_task(forever(step, pause))
    async with asyncio.timeout(DEADLINE_S):
        await stepped.wait()
    loop.cancel()
    await asyncio.wait([loop])
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()


@pytest.fixture
async def thread() -> AsyncIterator[DatabaseThread]:
    thread = DatabaseThread("test")
    yield thread
    await thread.close()


async def test_a_thread_does_one_thing_after_the_other_and_tells_what_came_of_it(thread: DatabaseThread) -> None:
    done: list[int] = []
    await asyncio.gather(*(thread.run(done.append, n) for n in range(20)))
    assert done == list(range(20))
    assert await thread.run(int, "11", base=2) == 3
    for raised, comes in (
        (ValueError, ValueError),
        (SystemExit, SystemExit),
        (StopIteration, RuntimeError),
        (asyncio.CancelledError, RuntimeError),
    ):

        def fail(raised: type[BaseException] = raised) -> None:
            raise raised("so it is")

        with pytest.raises(comes, match="so it is"):
            await thread.run(fail)
    assert await thread.run(threading.current_thread) is not threading.current_thread()


async def test_who_is_cancelled_before_its_turn_has_nothing_done_and_disturbs_nobody(thread: DatabaseThread) -> None:
    entered, gate, done, failed = threading.Event(), threading.Event(), list[str](), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))

    def hold() -> None:
        entered.set()
        assert gate.wait(DEADLINE_S)

    holding = asyncio.create_task(thread.run(hold))
    await asyncio.to_thread(entered.wait, DEADLINE_S)
    waiting = asyncio.create_task(thread.run(done.append, "cancelled"))
    after = asyncio.create_task(thread.run(done.append, "after"))
    await asyncio.sleep(0)
    for task in (holding, waiting):
        task.cancel()
    await asyncio.wait([holding, waiting])
    gate.set()
    await after
    assert done == ["after"] and not failed


async def test_a_thread_keeps_nothing_of_what_it_did(thread: DatabaseThread) -> None:
    class Large:
        pass

    async with asyncio.timeout(DEADLINE_S):
        kept = weakref.ref(await thread.run(Large))
        while kept() is not None:  # It tells what came of it before it forgets.
            await asyncio.sleep(0)
            gc.collect()


@pytest.mark.django_db(transaction=True)
async def test_a_connection_that_was_lost_is_not_used_again(thread: DatabaseThread) -> None:
    def lose() -> None:
        connection.ensure_connection()
        raise OperationalError("gone")

    with pytest.raises(OperationalError):
        await thread.run(lose)
    assert await thread.run(lambda: connection.connection) is None


@pytest.mark.django_db(transaction=True)
async def test_a_lost_connection_that_cannot_even_be_closed_is_not_used_again(
    thread: DatabaseThread, caplog: pytest.LogCaptureFixture
) -> None:
    def lose() -> None:
        connection.ensure_connection()
        connection.close = broken  # type: ignore[method-assign]
        raise OperationalError("gone")

    def broken() -> None:
        raise OperationalError("gone, and cannot be closed")

    def there() -> object:
        del connection.close
        return connection.connection

    with pytest.raises(OperationalError, match=r"gone$"):
        await thread.run(lose)
    assert await thread.run(there) is None
    assert "could not be closed" in caplog.text
    caplog.clear()


async def test_a_thread_that_cannot_be_started_is_started_for_the_next_call(
    thread: DatabaseThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError, match="can't start"):
            await thread.run(int)
    assert await thread.run(int) == 0


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


async def gone(name: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while named(name):
            await asyncio.sleep(0)


async def test_a_thread_that_was_forgotten_ends() -> None:
    forgotten = DatabaseThread("forgotten")
    await forgotten.run(int)
    assert named("forgotten")
    del forgotten
    gc.collect()
    await gone("forgotten")


async def test_a_thread_ends_though_who_closes_it_is_cancelled_and_takes_nothing_meanwhile() -> None:
    gate, thread = threading.Event(), DatabaseThread("cut off")
    holding = asyncio.create_task(thread.run(gate.wait, DEADLINE_S))
    await asyncio.sleep(0)
    closing = asyncio.create_task(thread.close())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="cut off is closed"):
        await thread.run(int)
    closing.cancel()
    gate.set()
    await asyncio.wait([holding, closing])
    await gone("cut off")


async def test_what_was_handed_over_is_finished_before_a_thread_ends_and_nothing_is_taken_after(
    thread: DatabaseThread,
) -> None:
    gate, done = threading.Event(), list[str]()
    holding = asyncio.create_task(thread.run(gate.wait, DEADLINE_S))
    handed_over = asyncio.create_task(thread.run(done.append, "done"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(thread.close())
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(holding, handed_over, closing)
    assert done == ["done"]
    with pytest.raises(RuntimeError, match="test is closed"):
        await thread.run(int)
    await thread.close()


async def test_a_thread_that_was_never_used_is_none() -> None:
    thread = DatabaseThread("never used")
    assert not named("never used")
    await thread.close()
    assert not named("never used")


def test_a_thread_that_hangs_keeps_no_process_from_ending() -> None:
    program = """
import asyncio, threading
from streaming import background
background.CLOSE_S = 0.05
async def main():
    thread = background.DatabaseThread("hangs")
    asyncio.ensure_future(thread.run(threading.Event().wait))
    await asyncio.sleep(0)
    await thread.close()
    print("closed")
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (ended.stdout, ended.returncode) == ("closed\n", 0), ended.stderr
