"""Commits that the event loop itself asks PostgreSQL for and hears the answer of, on a connection of its own.

To wake a thread for each, and the loop once it is done, takes longer than all else that this process has to do with it:
with 100 streams their readers are half a millisecond less behind. Nothing is tried twice here: what fails goes by the
thread, which knows how to wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import psycopg
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from streaming import commit
from streaming.background import CLOSE_S, DatabaseThread

if TYPE_CHECKING:
    from streaming.models import Entry

logger = logging.getLogger(__name__)
AWAY_S = 1.0
LOOK_S = 1.0


class Nonblocking:
    """For one event loop, and one commit at a time. To connect may take a while: a thread of its own does that."""

    elsewhere = True  # The loop has time for other things meanwhile.

    def __init__(self) -> None:
        self._connection: psycopg.Connection | None = None
        self._thread = DatabaseThread("connect")
        self._loop = asyncio.get_running_loop()
        # By a number of the loop's own: libpq closes the other as soon as it finds the connection broken, and the loop
        # would go on to watch whatever has that number next.
        self._socket = -1
        self._connecting: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self._answer: asyncio.Future[PGresult] | None = None
        self._result: PGresult | None = None  # of an answer that is not over

    async def add(self, entries: Sequence[Entry]) -> int:
        """Add the rows of `entries` whose leases are still held; how many that were. None also if it is not for here or
        was refused.

        OperationalError: the connection broke, and it may be done or not.
        """
        if self._connection is None:
            self._connect_soon()
            return 0
        if not all(entry.tells_all for entry in entries):
            return 0
        try:
            statement, values = commit.asked(entries)
        except Exception as error:
            logger.info("what cannot be written goes by the thread: %r", error)
            return 0
        try:
            result = await self._ask(self._connection, statement, values)
        except Exception as error:
            raise OperationalError(str(error)) from error
        if result.status == ExecStatus.COMMAND_OK:
            return result.command_tuples or 0
        # Such as that the statement is not known to what a pool of connections has put behind this one.
        logger.info("a commit of %d streams goes by the thread: %s", len(entries), result.get_error_message())
        self._drop()
        return 0

    async def _ask(self, connection: psycopg.Connection, statement: bytes, values: Sequence[bytes]) -> PGresult:
        self._answer = self._loop.create_future()
        try:
            connection.pgconn.send_query_prepared(statement, values)
            if connection.pgconn.flush():
                self._loop.add_writer(self._socket, self._send_on, connection)
            return await self._answer
        except BaseException:
            self._drop()  # Its answer would be taken for that of the next.
            raise
        finally:
            self._answer = None

    def _send_on(self, connection: psycopg.Connection) -> None:
        try:
            if not connection.pgconn.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._fail(error)

    def _hear(self, connection: psycopg.Connection) -> None:
        """Something has come: some of an answer, or that the connection is no more."""
        try:
            for _ in range(2):  # Behind what has come there may be an error, and uvloop tells of one only once.
                connection.pgconn.consume_input()
                if self._is_over(connection):
                    return
        except psycopg.Error as error:
            self._fail(error)

    def _is_over(self, connection: psycopg.Connection) -> bool:
        """Take what has come, up to the end of the answer; whether that was there."""
        while not connection.pgconn.is_busy():
            result, self._result = self._result, connection.pgconn.get_result()
            if self._result is None:
                if result is not None and self._answer is not None and not self._answer.done():
                    self._answer.set_result(result)
                return True
        return False

    def _look(self, connection: psycopg.Connection) -> None:
        """No commit may hang on what a loop did not tell."""
        if connection is self._connection:
            if self._answer is not None:
                self._hear(connection)
            self._loop.call_later(LOOK_S, self._look, connection)

    def _fail(self, error: psycopg.Error) -> None:
        self._drop()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _connect_soon(self) -> None:
        if self._connecting is None and time.monotonic() >= self._away_until:
            self._connecting = asyncio.create_task(self._connect(), name="connect")

    async def _connect(self) -> None:
        try:
            self._watch(await self._thread.run(_connected))
        except Exception as error:
            logger.info("commits go by the thread for now: %r", error)
            self._away_until = time.monotonic() + AWAY_S
        finally:
            self._connecting = None

    def _watch(self, connection: psycopg.Connection) -> None:
        try:
            self._socket = os.dup(connection.fileno())
            self._loop.add_reader(self._socket, self._hear, connection)
        except Exception:
            connection.close()
            raise
        self._connection = connection
        self._look(connection)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            os.close(self._socket)
            connection.close()
            self._result = None
            self._away_until = time.monotonic() + AWAY_S

    async def close(self) -> None:
        if (connecting := self._connecting) is not None:
            await asyncio.wait({connecting}, timeout=CLOSE_S)
            connecting.cancel()
        self._drop()
        await self._thread.close()

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()
            os.close(self._socket)


def _connected() -> psycopg.Connection:
    """A connection like Django's, but from no pool, which has been told the statements."""
    database = connections.create_connection(DEFAULT_DB_ALIAS)
    options = {name: value for name, value in database.settings_dict["OPTIONS"].items() if name != "pool"}
    database.settings_dict = database.settings_dict | {"OPTIONS": options}
    database.connect()
    connection: psycopg.Connection = database.connection
    commit.tell(connection.pgconn)
    connection.pgconn.nonblocking = 1
    return connection
