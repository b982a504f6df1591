"""`manage.py replay FILE`: watch a recorded stream again, as an answer of its own that arrives as the first one did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from conversations.models import Conversation, Refused, User
from conversations.wish import Wish
from streaming.models import Stream
from streaming.recording import BadRecording, play, read


class Command(BaseCommand):
    help = (
        "Writes a stream that was exported in the admin into a new conversation, row by row with the timing it had. "
        "Whoever has the conversation open sees it arrive; stopping it there ends the replay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="What the admin exported.")
        parser.add_argument("--user", required=True, help="Who gets the conversation: a user's name.")
        parser.add_argument("--speed", type=float, default=1.0, help="2 is twice as fast, 0 without any wait.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["speed"] < 0:
            raise CommandError("The speed is a number from 0.")
        try:
            with options["file"].open("rb") as file:
                recording = read(file)
        except (OSError, BadRecording) as problem:
            raise CommandError(str(problem)) from problem
        owner = User.objects.filter(username=options["user"]).first()
        if owner is None:
            raise CommandError(f"There is no user {options['user']!r}.")
        try:
            reply = Conversation.begin(owner, recording.prompt, wish=Wish(fed=True))
        except Refused as refused:
            raise CommandError(refused.detail) from refused
        stream = Stream.objects.get(message=reply)
        self.stdout.write(f"Playing {len(recording.rows)} rows: /c/{reply.conversation_id}/")
        self.stdout.write("Played." if play(stream, recording, options["speed"]) else "It was stopped.")
