"""`manage.py tail`: watch one answer being written, from this checkout's database or from any site."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from chatsite.client import Answer, Client, Frame, Refused, Unreachable
from chatsite.terminal import printable
from streaming.frames import native_frames
from streaming.models import Chunk, Stream

POLL_S = 0.2


def stream_id(text: str) -> UUID:
    """The stream of an id as the APIs give it: `stream` of a message, `id` of a response under /v1/."""
    return UUID(text.removeprefix("resp_"))


class Command(BaseCommand):
    help = "Print an answer's text as it is written. Whatever is not its text is told on stderr."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("stream", type=stream_id, help="The id of an answer's stream, or of a response.")
        parser.add_argument("--after", type=int, default=0, help="The seq behind which to begin.")
        parser.add_argument(
            "--frames", action="store_true", help="Print the protocol's frames, one JSON object a line."
        )
        parser.add_argument("--url", default="", help="Another site than this checkout's, with --token.")
        parser.add_argument("--token", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        stream, after, status = str(options["stream"]), options["after"], ""
        try:
            with Client(options["url"], options["token"]) as site:
                answer = Answer(stream, after)
                for frame in site.follow(answer) if options["url"] else stored_frames(stream, after):
                    print_frame(frame) if options["frames"] else print_text(frame)
                    status = frame.get("status", "")
        except (Refused, Unreachable) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            return
        except BrokenPipeError:  # `| head` has seen enough; nor may the flush at the end complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if status != "done":
            sys.exit(1)


def stored_frames(stream: str, after: int) -> Iterator[Frame]:
    """The frames behind a position, from the database, until the end."""
    while True:
        rows, more = Chunk.objects.page(stream, after, settings.READER_PAGE_BYTES)
        yield from native_frames(stream, rows)
        if rows:
            after = rows[-1].seq
        if rows and rows[-1].kind == "end":
            return
        if not more:
            if not Stream.objects.filter(pk=stream).exists():
                raise CommandError("There is no such stream.")
            time.sleep(POLL_S)


def print_frame(frame: Frame) -> None:
    sys.stdout.buffer.write(orjson.dumps(frame, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


def print_text(frame: Frame) -> None:
    said = f"({frame['type']})"
    if frame["type"] == "delta":
        out = sys.stdout if frame["kind"] == "text" else sys.stderr
        out.write(printable(frame["text"]) if out.isatty() else frame["text"])
        out.flush()
        return
    if frame["type"] == "retry":
        said = f"({frame['reason']} Attempt {frame['attempt']} of {frame['of']} in {frame['wait_s']} s.)"
    elif frame["type"] == "restart":
        said = f"(Attempt {frame['attempt']} begins anew; what was said is void.)"
    elif frame["type"] == "end":
        said = f"({frame['status']})" if not frame["error"] else f"({frame['status']}: {frame['error']['detail']})"
    sys.stderr.write(f"\n{said}\n")
