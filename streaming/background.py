"""What runs beside the requests: threads that own one database connection each, and loops that outlive their errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar

from django.db import InterfaceError, InternalError, OperationalError, close_old_connections, connection, connections

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
Task = asyncio.Task[None]
Work = SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None]
CLOSE_S = 2.0
# The connection or its transaction is gone, and what was asked may be asked again on another one. Internal: PostgreSQL
# ended a transaction that stood still for too long, or is a server that may only be read from by now.
CONNECTION_LOST = (OperationalError, InterfaceError, InternalError)


class DatabaseThread:
    """One thread with its own connection, for ORM work that must not wait behind the thread all requests share.

    For one event loop. An executor of the standard library does the same in five times as many calls: more than all
    else that a commit of few words takes in the loop.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: Work = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        weakref.finalize(self, self._work.put, None).atexit = False  # One that is forgotten ends as well.

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in the thread; a connection that broke is dropped, so that the next call gets a new one."""
        if self._closed:
            raise RuntimeError(f"{self._name} is closed")
        if self._thread is None:
            # What hangs in the database must not keep its process from ending; what it does then is lost with it.
            thread = threading.Thread(target=_serve, args=(self._work,), name=self._name, daemon=True)
            thread.start()
            self._thread = thread
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._work.put((done, partial(function, *args, **kwargs)))
        try:
            return await done
        finally:
            del done  # It would lead to an error, whose traceback leads here.

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`run` for what may be repeated: a connection that was lost since its last use costs no answer."""
        try:
            return await self.run(function, *args, **kwargs)
        except CONNECTION_LOST:
            return await self.run(function, *args, **kwargs)

    async def close(self) -> None:
        """Finish what was handed over, close the connection, end the thread; one that hangs is left to its fate."""
        if self._closed:
            return
        self._closed = True
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work.put((ended, connections.close_all))
        self._work.put(None)
        if self._thread is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await ended


def _serve(work: Work) -> None:
    try:
        while (todo := work.get()) is not None:
            _do(*todo)
            del todo  # Nothing is kept while the thread waits for more.
    finally:
        connections.close_all()


def _do(done: asyncio.Future[Any], function: Callable[[], Any]) -> None:
    if done.cancelled():
        return
    try:
        result = function()
    except CONNECTION_LOST as error:
        _drop_connections(for_good=isinstance(error, InternalError))
        _tell(done, done.set_exception, error)
    except (StopIteration, asyncio.CancelledError) as error:
        _tell(done, done.set_exception, RuntimeError(f"a thread raised {error!r}"))  # To a task they mean other things.
    except BaseException as error:
        _tell(done, done.set_exception, error)
    else:
        _tell(done, done.set_result, result)


def _drop_connections(*, for_good: bool) -> None:
    """Give the connections up; `for_good`: although they look as if they worked, so that no pool keeps them."""
    for lost in connections.all(initialized_only=True):
        try:
            if for_good and lost.connection is not None:
                lost.connection.close()
            lost.close()
        except Exception:
            logger.warning("a lost connection could not be closed", exc_info=True)
            lost.connection = None


def _tell(done: asyncio.Future[Any], settle: Callable[[Any], object], what: Any) -> None:
    with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits.
        done.get_loop().call_soon_threadsafe(_settle, done, settle, what)


def _settle(done: asyncio.Future[Any], settle: Callable[[Any], object], what: Any) -> None:
    if not done.done():  # Who waited may have been cancelled.
        settle(what)


def let_go() -> None:
    """Give the request's connection back to the pool, before a body that may last for minutes and does not need it."""
    if not connection.in_atomic_block:
        close_old_connections()


def current_task() -> asyncio.Task[Any]:
    """The running task. A loop has to ask it whether it is `cancelling`: a library that it awaits may swallow the
    CancelledError, as everything does that is built on `asyncio.wait_for` before Python 3.12 (redis-py, psycopg)."""
    task = asyncio.current_task()
    assert task is not None
    return task


async def forever(step: Callable[[], Awaitable[object]], pause: Callable[[], Awaitable[object]]) -> None:
    """`pause`, `step`, and so on until cancelled; what fails is logged, and both are tried again a moment later."""
    task = current_task()
    while not task.cancelling():
        try:
            await pause()
            await step()
        except Exception:
            logger.exception("%s failed; going on", task.get_name())
            await asyncio.sleep(0.2)


def start_apart(name: str, step: Callable[[], Awaitable[object]], pause: Callable[[], Awaitable[object]]) -> Task:
    """`forever`, as a task that outlives the request it is started by and carries nothing of it: its log lines are
    not about that request."""
    return asyncio.create_task(forever(step, pause), name=name, context=Context())


class Periodic(Generic[T]):
    """Has a thread of its own do `work` every so many seconds, beside everything that people wait for."""

    def __init__(self, name: str, every_s: float, work: Callable[[], T]) -> None:
        self._name = name
        self.every_s = every_s
        self._work = work
        self._thread = DatabaseThread(name)
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = start_apart(self._name, self.step, self._pause)

    async def _pause(self) -> None:
        await asyncio.sleep(self.every_s)

    async def step(self) -> T:
        return await self._thread.run(self._work)

    async def stop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        await self._thread.close()
