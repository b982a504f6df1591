"""Lends each request a thread for what of it is synchronous, and takes that back when its body begins to stream.

Django has one made for each request, and another to join it: the event loop stands still until either runs, a
millisecond for each answer that ends, and who follows a hundred answers keeps a hundred idle threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import close_old_connections

P = ParamSpec("P")
T = TypeVar("T")
# More are made when so many requests come at once, and end with those.
SPARE = 16


class Threads:
    """Wraps an ASGI application."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.spare: list[ThreadPoolExecutor] = []
        self.shared = ThreadPoolExecutor(1, "streams")  # For the little that is left to do when a stream ends.

    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] == "http":
            return self._respond(scope, receive, send)
        if scope["type"] == "websocket" and SyncToAsync.thread_sensitive_context.get(None) is not None:
            return self._connect(scope, receive, send)
        return self._application(scope, receive, send)

    async def _connect(self, scope: Any, receive: Any, send: Any) -> None:
        """A websocket that inherited the thread of a request on the same connection (uvicorn without uvloop), which was
        given back: it has that of all websockets."""
        async with ThreadSensitiveContext(executor=SyncToAsync.single_thread_executor):
            await self._application(scope, receive, send)

    async def _respond(self, scope: Any, receive: Any, send: Any) -> None:
        lent = Lent(self)

        async def send_and_see(message: Any) -> None:
            await send(message)
            if message.get("more_body"):
                lent.stream()

        try:
            async with ThreadSensitiveContext(executor=lent):
                await self._application(scope, receive, send_and_see)
        except BaseException:
            await lent.leave(in_order=False)
            raise
        await lent.leave(in_order=True)


class Lent(Executor):
    """A thread from the first call on, and the one that all streams share once this is a stream."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._thread: ThreadPoolExecutor | None = None
        self._calls: list[Future[Any]] = []

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._thread is None:
            self._thread = self._threads.spare.pop() if self._threads.spare else ThreadPoolExecutor(1, "request")
        call = self._thread.submit(function, *args, **kwargs)
        self._calls.append(call)
        return call

    def stream(self) -> None:
        """The request has become a stream, which may last for minutes."""
        thread, self._thread = self._thread, self._threads.shared
        if thread is not None and thread is not self._threads.shared:
            thread.submit(close_old_connections)  # The end of the request will be another thread's.
            self._give_back(thread)

    async def leave(self, *, in_order: bool) -> None:
        """The request is over. What its thread still does, for a client that left, is waited for, as Django does."""
        if self._thread is None or self._thread is self._threads.shared:
            return
        if not in_order or any(call.cancelled() or not call.done() for call in self._calls):
            try:
                await asyncio.wrap_future(self._thread.submit(close_old_connections))
            except BaseException:
                self._thread.shutdown(wait=False)
                raise
        self._give_back(self._thread)

    def _give_back(self, thread: ThreadPoolExecutor) -> None:
        if len(self._threads.spare) < SPARE:
            self._threads.spare.append(thread)
        else:
            thread.shutdown(wait=False)
