"""The two columns of the design that the whole suite runs on, one a run. COLUMN says which: `embedded` (SQLite, memory,
generation in the web process) or `scaled` (PostgreSQL, Redis, generation in worker processes).

The scaled one starts both servers, tuned to forget rather than to wait for a disk, unless TEST_DATABASE_URL and
TEST_REDIS_URL name running ones; those may hold other databases, but the logical databases of that Redis are emptied.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import redis
from psycopg import sql

from tests import servers

ROOT = Path(__file__).resolve().parent.parent
COLUMN = os.environ.setdefault("COLUMN", "embedded")
if COLUMN not in ("embedded", "scaled"):
    sys.exit(f"COLUMN is {COLUMN!r}; it must be embedded or scaled")
SCALED = COLUMN == "scaled"
# With pytest-xdist, several processes run the tests of one column on the same two servers.
RUNNER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
RUNNERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
REDIS_DATABASES = 16
STORES = count()

started = ExitStack()


def begin() -> None:
    """Choose the databases of the tests themselves, for them and the processes they start; before any settings."""
    if SCALED:
        _start_servers()
        name = f"chatsite_{os.getpid()}"
        os.environ |= {"DATABASE_URL": _database(name), "REDIS_URL": _redis(0)}
    else:
        # The test database is made beside this one, which is never made; in a place of its own, so that two runs may go
        # on at once.
        home = started.enter_context(tempfile.TemporaryDirectory(prefix="chatsite-tests-"))
        os.environ |= {"DATABASE_URL": f"sqlite:///{home}/site.sqlite3", "REDIS_URL": ""}


def end() -> None:
    """Stop what was started and delete what it left."""
    started.close()


def _start_servers() -> None:
    """Once per run: the processes that pytest-xdist starts find the URLs in their environment."""
    if "TEST_DATABASE_URL" not in os.environ:
        os.environ["TEST_DATABASE_URL"] = started.enter_context(servers.postgres()).url
    if "TEST_REDIS_URL" not in os.environ:
        os.environ["TEST_REDIS_URL"] = started.enter_context(servers.redis()).url


def _database(name: str) -> str:
    return urlsplit(os.environ["TEST_DATABASE_URL"])._replace(path=f"/{name}").geturl()


def url_of(name: str) -> str:
    """The DATABASE_URL of a database of this column, by the name that Django has for it."""
    return _database(name) if SCALED else f"sqlite:///{name}"


def _redis(number: int) -> str:
    """The URL of a logical database that no other of the processes that run tests uses."""
    mine = range(RUNNER, REDIS_DATABASES, RUNNERS)
    return urlsplit(os.environ["TEST_REDIS_URL"])._replace(path=f"/{mine[number]}").geturl()


class Store(Protocol):
    """Where one site keeps its data, whichever process of it asks."""

    @property
    def environment(self) -> dict[str, str]:
        """What its processes need to find it."""

    def make(self) -> None:
        """Make it, migrated and otherwise empty."""

    def drop(self) -> None:
        """Give up what it takes outside its home."""

    def stored(self, stream: str, column: str) -> Any:
        """A column of a stream's row, read behind the site's back."""

    def is_locked(self) -> bool:
        """Whether somebody is in the midst of writing."""


class File:
    """A site's SQLite file."""

    def __init__(self, home: Path) -> None:
        self.path = home / "site.sqlite3"

    @property
    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": f"sqlite:///{self.path}", "REDIS_URL": ""}

    def make(self) -> None:
        shutil.copyfile(_migrated_file(), self.path)

    def drop(self) -> None:
        """It goes with its home."""

    def stored(self, stream: str, column: str) -> Any:
        with closing(sqlite3.connect(self.path)) as database:
            where = UUID(stream).hex
            (value,) = database.execute(f"select {column} from streaming_stream where id = ?", [where]).fetchone()
        return value

    def is_locked(self) -> bool:
        with closing(sqlite3.connect(self.path, timeout=0.2, isolation_level=None)) as database:
            try:
                database.execute("begin immediate")
            except sqlite3.OperationalError:
                return True
        return False


class Databases:
    """A site's databases on the two servers: one of PostgreSQL, one of Redis."""

    def __init__(self) -> None:
        number = next(STORES)
        self.name = f"chatsite_{os.getpid()}_{number}"
        self.environment = {
            "DATABASE_URL": _database(self.name),
            "REDIS_URL": _redis(1 + number % (REDIS_DATABASES // RUNNERS - 1)),
        }

    def make(self) -> None:
        template = sql.Identifier(_migrated_database())
        _execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(self.name), template))
        with redis.Redis.from_url(self.environment["REDIS_URL"]) as client:
            client.flushdb()

    def drop(self) -> None:
        _execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))

    def stored(self, stream: str, column: str) -> Any:
        query = sql.SQL("select {} from streaming_stream where id = %s").format(sql.Identifier(column))
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            (value,) = connection.execute(query, [UUID(stream)]).fetchone() or [None]
        return value

    def is_locked(self) -> bool:
        query = "select from pg_locks join pg_database d on d.oid = database where datname = %s and mode = %s"
        with psycopg.connect(os.environ["TEST_DATABASE_URL"]) as connection:
            return connection.execute(query, [self.name, "RowExclusiveLock"]).fetchone() is not None


@cache
def store_of(home: Path) -> Store:
    """The store of the site that lives in `home`."""
    return Databases() if SCALED else File(home)


def _execute(statement: sql.Composed) -> None:
    with psycopg.connect(os.environ["TEST_DATABASE_URL"], autocommit=True) as connection:
        connection.execute(statement)


@cache
def _migrated_file() -> Path:
    path = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="chatsite-tests-"))) / "site.sqlite3"
    _migrate(f"sqlite:///{path}")
    return path


@cache
def _migrated_database() -> str:
    name = f"chatsite_{os.getpid()}_migrated"
    _execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    started.callback(_execute, sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    _migrate(_database(name))
    return name


def _migrate(database_url: str) -> None:
    command = [sys.executable, "manage.py", "migrate", "-v0"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"DATABASE_URL": database_url}, check=True)
