"""`manage.py export_user USERNAME FILE`: everything that is stored of a person, as they can get it themselves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from conversations import export
from conversations.models import User


class Command(BaseCommand):
    help = "Write a zip archive of a user's account and conversations to FILE."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, username: str, file: Path, **options: Any) -> None:
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username!r}.")
        with export.archive(user) as archive, file.open("xb") as out:
            shutil.copyfileobj(archive, out)
        self.stdout.write(f"{file}: {file.stat().st_size:,} bytes")
