"""`manage.py retain`: do at once what a running site does now and then: compact old logs, remove what had its time,
put answers into the index of words."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from streaming import upkeep

TELL_S = 2.0


class Command(BaseCommand):
    help = (
        "Compact old logs, index answers, remove what had its time by the settings. A running site does so by itself."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say how much there is to do.")
        parser.add_argument(
            "--batch",
            type=int,
            default=upkeep.BATCH_ROWS,
            metavar="ROWS",
            help=f"Rows of a log in one transaction ({upkeep.BATCH_ROWS}). Fewer hold up a busy site less.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["batch"] < 2:
            raise CommandError("--batch must be at least 2: nothing can be merged with nothing.")
        for chore in upkeep.CHORES:
            due = chore.due().order_by().count()
            if options["dry_run"]:
                self.stdout.write(f"{chore.name}: {due} to do")
            else:
                self.work(chore, due, options["batch"])

    def work(self, chore: upkeep.Chore, due: int, batch_rows: int) -> None:
        done, told = 0, time.monotonic()
        for _ in chore.work(batch_rows):
            done += 1
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                self.stdout.write(f"{chore.name}: {done} of {due}")
        self.stdout.write(f"{chore.name}: {done}")
