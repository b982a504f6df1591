"""`manage.py backup FILE`: a whole copy of a SQLite database, made while the site runs and answers are written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection


class Command(BaseCommand):
    help = "Copy the SQLite database to FILE, whole, while the site runs. For PostgreSQL there is pg_dump."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="Where to; must not exist, so that no backup is ever overwritten.")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        if connection.vendor != "sqlite":
            raise CommandError("This copies SQLite files. A PostgreSQL database is backed up by pg_dump.")
        if file.exists():
            raise CommandError(f"{file} exists already.")
        # Only a copy that is whole gets the name: one that was cut off is no backup.
        partial = file.with_name(f"{file.name}.partial")
        partial.unlink(missing_ok=True)
        connection.ensure_connection()
        with closing(sqlite3.connect(partial)) as copy:
            # In one step, which is one moment: in WAL mode it holds up nobody who writes meanwhile.
            connection.connection.backup(copy)
            (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise CommandError(f"The copy is damaged: {found}")
        partial.rename(file)
        self.stdout.write(f"{file}: {file.stat().st_size:,} bytes")
