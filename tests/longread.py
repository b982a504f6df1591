"""A conversation as long as they get: 200 messages, Markdown in every answer, one answer of 100 kB."""

from __future__ import annotations

from itertools import count, islice

from django.utils import timezone

from conversations.models import Conversation, Message, Role, User
from streaming.models import Status, Stream

TURNS = 100
LONG_BYTES = 100_000
PARAGRAPH = """### Part {n}

A paragraph with **bold** words, *others*, `code` and a [link](https://example.org/{n}), long enough for two
lines or more.

* first of {n}
* second of {n}

```python
def part_{n}(value: int) -> int:
    return value + {n}
```

| left | right |
| --- | --- |
| {n} | twice {n} |

"""


def paragraphs(size: int) -> str:
    """Markdown of about `size` characters."""
    return "".join(islice((PARAGRAPH.format(n=n) for n in count()), size // len(PARAGRAPH) + 1))


def long_conversation(owner: User) -> Conversation:
    conversation = Conversation.objects.create(owner=owner, title="A long read")
    parent: Message | None = None
    for turn in range(TURNS):
        parent = conversation.messages.create(role=Role.USER, text=f"Question {turn}?", parent=parent)
        stream = Stream.objects.create(
            topic=conversation.topic,
            request={"model": "m", "messages": []},
            status=Status.DONE,
            attempt=1,
            text=paragraphs(LONG_BYTES if turn == TURNS // 2 else 600),
            seq=3,
            finish_reason="stop",
            finished_at=timezone.now(),
        )
        parent = conversation.messages.create(role=Role.ASSISTANT, parent=parent, stream=stream)
    return conversation
