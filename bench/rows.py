"""How fast the pages are with a log of millions of rows: makes them, and times each page that looks at them.

    python -m bench.rows 10000000 [--keep]      (make rows ROWS=10000000)

In a SQLite file of its own under var/bench, or in the database that ROWS_DATABASE_URL names, which should be empty.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

import django

from tests.servers import ROOT

FILE = ROOT / "var/bench/rows.sqlite3"
if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    os.environ["DATABASE_URL"] = os.environ.get("ROWS_DATABASE_URL", "") or f"sqlite:///{FILE}"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402
from django.utils import timezone  # noqa: E402

from conversations.models import Conversation, Message, Role, User, topic_of  # noqa: E402
from streaming.frames import END, TEXT, Row  # noqa: E402
from streaming.models import Entry, Outcome, Status, Stream, new_id  # noqa: E402

ANSWER_ROWS = 200
TURNS = 5
WORD = "eight ch"
PEOPLE = 100
TIMES = 3


def fill(rows: int) -> Iterator[int]:
    """Conversations of TURNS answers of ANSWER_ROWS rows each; tells how many rows there are, again and again."""
    people = User.objects.bulk_create(User(username=f"rows-{new_id()}") for _ in range(PEOPLE))
    words = tuple(Row(seq, TEXT, WORD, None) for seq in range(1, ANSWER_ROWS))
    log = (*words, Row(ANSWER_ROWS, END, "", Outcome(Status.DONE, "stop").data()))
    for number in range(-(-rows // (ANSWER_ROWS * TURNS))):
        with transaction.atomic():
            talk(people[number % PEOPLE], log)
        yield (number + 1) * ANSWER_ROWS * TURNS


def talk(owner: User, log: tuple[Row, ...]) -> None:
    """One conversation, each answer with this log."""
    conversation = Conversation.objects.create(owner=owner, title="A load of rows")
    now, lease = timezone.now(), new_id()
    streams = Stream.objects.bulk_create(
        Stream(
            lease=lease,
            topic=topic_of(conversation.pk),
            request={"model": "demo", "messages": []},
            model="demo",
            status=Status.DONE,
            attempt=1,
            seq=len(log),
            text=WORD * (len(log) - 1),
            finish_reason="stop",
            claimed_at=now,
            first_text_at=now + timedelta(milliseconds=300),
            finished_at=now + timedelta(seconds=4),
        )
        for _ in range(TURNS)
    )
    Stream.objects.append([Entry(stream.pk, lease, tuple(log)) for stream in streams])
    Stream.objects.filter(lease=lease).update(lease=None)
    last: Message | None = None
    for stream in streams:
        prompt = conversation.messages.create(role=Role.USER, text="How many?", parent=last)
        last = conversation.messages.create(role=Role.ASSISTANT, parent=prompt, stream=stream)


def pages() -> dict[str, str]:
    """What people look at, by name."""
    stream = Stream.objects.exclude(message=None).select_related("message").latest("created_at")
    listed = reverse("admin:streaming_stream_changelist")
    return {
        "chat page": reverse("conversation", args=[stream.message.conversation_id]),
        "list of chats": reverse("chats"),
        "admin: streams": listed,
        "admin: streams that are done": f"{listed}?status__exact=done",
        "admin: one stream": reverse("admin:streaming_stream_change", args=[stream.pk]),
        "admin: its rows": f"{reverse('admin:streaming_chunk_changelist')}?stream__id__exact={stream.pk}",
        "admin: all rows": reverse("admin:streaming_chunk_changelist"),
        "admin: conversations": reverse("admin:conversations_conversation_changelist"),
        "admin: dashboard": reverse("admin:streaming_process_changelist"),
    }


def timed() -> Iterator[tuple[str, float]]:
    """Each page with the least milliseconds it took."""
    client = Client(headers={"host": "127.0.0.1"})
    owner = Stream.objects.exclude(message=None).latest("created_at").message.conversation.owner
    owner.is_staff = owner.is_superuser = True
    owner.save()
    client.force_login(owner)
    for name, path in pages().items():
        took = []
        for _ in range(TIMES):
            began = time.perf_counter()
            status = client.get(path).status_code
            took.append((time.perf_counter() - began) * 1000)
            assert status == 200, f"{name}: {status}"
        yield name, min(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int)
    parser.add_argument("--keep", action="store_true", help="Leave the SQLite file where it is.")
    options = parser.parse_args()
    FILE.unlink(missing_ok=True)
    try:
        call_command("migrate", verbosity=0)
        began = time.perf_counter()
        for made in fill(options.rows):
            if made % 500_000 == 0:
                sys.stdout.write(f"{made:,} rows after {time.perf_counter() - began:.0f} s\n")
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        for name, ms in timed():
            sys.stdout.write(f"{name:32}{ms:8.0f} ms\n")
        connection.close()
    finally:
        if not options.keep:
            for file in FILE.parent.glob(f"{FILE.name}*"):
                file.unlink()


if __name__ == "__main__":
    main()
