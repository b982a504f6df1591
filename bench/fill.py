"""Writes finished answers into a site's log without a model, so that reading long ones back needs no hour of speaking.

    python -m bench.fill '{"answers": [[rows, characters of each], ...], "pages": [messages of a conversation, ...]}'

Runs with the site's environment. Prints a token, a session's cookie, each answer with its conversation, and each page
with the number of queries it takes.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from conversations.models import Conversation, Token, User  # noqa: E402
from streaming.frames import END, TEXT, Row  # noqa: E402
from streaming.models import Entry, Outcome, Status, Stream  # noqa: E402

BATCH = 1000
REPLY = """## A heading

A paragraph with **bold** words, `code` and a [link](https://example.com/), as long as they are: three or four
sentences. This is the second one. Here is the third, and it is the last.

* a point
* another one

```python
def answer(question: str) -> str:
    return question.removesuffix("?")
```

"""


def answer(conversation: Conversation, rows: list[str]) -> Stream:
    """A turn whose answer has just these rows of text, and its end."""
    with transaction.atomic():  # Whoever generates must not find it unclaimed.
        stream = conversation.ask("How long?").stream
        assert stream is not None
        claimed = Stream.objects.claim(stream.pk, "bench", 600)
    assert claimed is not None and claimed.lease is not None
    log = [Row(seq, TEXT, text, None) for seq, text in enumerate(rows, 1)]
    for at in range(0, len(log), BATCH):
        Stream.objects.append([Entry(stream.pk, claimed.lease, tuple(log[at : at + BATCH]), first_words=at == 0)])
    outcome = Outcome(Status.DONE, "stop")
    end = Row(len(log) + 1, END, "", outcome.data())
    Stream.objects.append([Entry(stream.pk, claimed.lease, (end,), outcome=outcome)])
    return stream


def page(client: Client, owner: User, messages: int) -> dict[str, Any]:
    """A conversation of so many messages (at least two: a prompt and its reply), and the queries of its page."""
    conversation = Conversation.objects.create(owner=owner)
    for _ in range(max(messages // 2, 1)):
        answer(conversation, [REPLY])
    path = f"/c/{conversation.pk}/"
    client.get(path)
    with CaptureQueriesContext(connection) as captured:
        response = client.get(path)
    assert response.status_code == 200
    return {"messages": messages, "path": path, "queries": len(captured)}


def main() -> None:
    wanted = json.loads(sys.argv[1])
    owner = User.objects.create_user(f"bench-{os.getpid()}")
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(owner)
    answers = []
    for rows, chars in wanted["answers"]:
        conversation = Conversation.objects.create(owner=owner)
        stream = answer(conversation, ["word " * (chars // 5)] * rows)
        answers.append({"conversation": str(conversation.pk), "stream": str(stream.pk), "rows": rows, "chars": chars})
    told = {
        "token": Token.objects.issue(owner),
        "cookie": f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}",
        "answers": answers,
        "pages": [page(client, owner, messages) for messages in wanted["pages"]],
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
