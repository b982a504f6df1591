"""What people see: users, their conversations and the messages in them. Knows streams, which do not know it."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from streaming import engine
from streaming.frames import Said
from streaming.models import Status, Stream, new_id

TITLE_CHARS = 60


class Refused(Exception):
    """A request that this conversation cannot take now. `code` is stable for programs, the text is for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class User(AbstractUser):
    """A person. A visitor is one without a password or a form to fill: whoever holds the session or token is it."""

    is_visitor = models.BooleanField(default=False)

    @classmethod
    def new_visitor(cls) -> User:
        visitor = cls(username=f"visitor-{secrets.token_hex(8)}", is_visitor=True)
        visitor.set_unusable_password()
        visitor.save()
        return visitor

    @property
    def display_name(self) -> str:
        return "Visitor" if self.is_visitor else self.get_full_name() or self.username


class TokenQuerySet(models.QuerySet["Token"]):
    def issue(self, user: User, name: str = "") -> str:
        """Make a token and return its secret, which is not stored and cannot be shown again."""
        secret = f"cs_{secrets.token_urlsafe(32)}"
        self.create(user=user, name=name, digest=Token.digest_of(secret))
        return secret

    def user_of(self, secret: str) -> User | None:
        """The active user a secret belongs to; remembers the day of its use."""
        found = self.filter(digest=Token.digest_of(secret), user__is_active=True).select_related("user").first()
        if found is None:
            return None
        today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
        if found.last_used_at is None or found.last_used_at < today:
            self.filter(pk=found.pk).update(last_used_at=timezone.now())
        return found.user


class Token(models.Model):
    """A bearer token of the API, kept as a digest: the secret is too random for a plain SHA-256 to be guessed."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100, blank=True)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True)

    objects = TokenQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name or f"token {self.pk}"

    @staticmethod
    def digest_of(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def visible_to(self, user: Any) -> ConversationQuerySet:
        """The conversations this user, who may be anonymous, may see."""
        return self.filter(owner=user) if user.is_authenticated else self.none()

    def streams(self) -> models.QuerySet[Stream]:
        """The streams of the answers in these conversations."""
        return Stream.objects.filter(message__conversation__in=self)

    def remove(self) -> None:
        """Delete these conversations with their streams, which nothing but a topic ties to them."""
        # One transaction: a stream that outlived its conversation would go on, seen by nobody, and stay for ever.
        with transaction.atomic():
            found = list(self.select_for_update().order_by("pk").values_list("pk", flat=True))
            delete_messages(found)
            Conversation.objects.filter(pk__in=found).delete()
            transaction.on_commit(engine.wake)


class Conversation(models.Model):
    """A thread of prompts and replies that belongs to one user."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=200, blank=True)
    model = models.CharField(max_length=100, blank=True, help_text="Empty: the site's first model.")
    system_prompt = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ("-updated_at", "-id")
        indexes = (models.Index(fields=["owner", "-updated_at"], name="conversation_recent"),)

    def __str__(self) -> str:
        return self.title or "New conversation"

    @property
    def topic(self) -> str:
        return topic_of(self.pk)

    @classmethod
    def begin(cls, owner: User, text: str, key: uuid.UUID | None = None) -> Message:
        """Ask in a new conversation; the same `key` again returns the reply it made the first time."""
        # One transaction, one at a time per person: a double click must find the conversation its first half made.
        with transaction.atomic():
            User.objects.select_for_update().get(pk=owner.pk)
            mine = cls.objects.filter(owner=owner)
            earlier = mine.filter(messages__key=key).first() if key else None
            return (earlier or mine.create(owner=owner)).ask(text, key)

    def ask(self, text: str, key: uuid.UUID | None = None) -> Message:
        """Store a prompt with its empty reply and start the reply's stream; returns the reply.

        The same `key` again returns the reply it made the first time. Refused (`busy`) while an answer is being written
        and (`key_reused`) when the key came with another text.
        """
        # One transaction: a prompt without its stream would wait for ever, a stream without its messages answer nobody.
        with transaction.atomic():
            Conversation.objects.select_for_update().get(pk=self.pk)
            if key is not None and (earlier := self.messages.filter(key=key).first()):
                if earlier.text != text:
                    raise Refused("key_reused", "This idempotency key was used with another text.")
                reply = earlier.replies.select_related("stream", "parent").get()
                reply.repeated = True
                return reply
            if Stream.objects.live().filter(topic=self.topic).exists():
                raise Refused("busy", "An answer is still being written. Wait for its end or stop it first.")
            turns = self.turns()
            prompt = self.messages.create(role=Role.USER, text=text, key=key, parent=turns[-1] if turns else None)
            stream = Stream.objects.create(topic=self.topic, request=self.request([*turns, prompt]))
            reply = self.messages.create(role=Role.ASSISTANT, parent=prompt, stream=stream)
            self._touch(text)
            transaction.on_commit(engine.wake)
        return reply

    def knows(self, key: uuid.UUID | None) -> bool:
        """Whether a prompt came with this key before: asking again asks nothing new, and no throttle may refuse it."""
        return key is not None and self.messages.filter(key=key).exists()

    def turn(self, stream: str) -> dict[str, Any] | None:
        """The `turn` frame that announces a stream: its prompt, and its reply as it stood before the first row."""
        reply = self.messages.select_related("stream", "parent").filter(stream_id=stream).first()
        if reply is None or reply.parent is None:
            return None
        return {
            "type": "turn",
            "stream": stream,
            "prompt": reply.parent.describe(),
            "reply": reply.describe(Said(0, "", "")),
        }

    def stop(self, stream: uuid.UUID) -> bool:
        """Ask for the end of one of this conversation's answers; False if it has no such answer."""
        streams = Stream.objects.filter(pk=stream, topic=self.topic)
        if streams.request_stop():
            transaction.on_commit(engine.wake)
            return True
        return streams.exists()

    def _touch(self, text: str) -> None:
        mine = Conversation.objects.filter(pk=self.pk)
        mine.update(updated_at=Now())
        mine.filter(title="").update(title=title_from(text))

    def clear(self) -> None:
        """Delete every message; answers under way lose their stream and end with it."""
        with transaction.atomic():
            Conversation.objects.select_for_update().get(pk=self.pk)
            delete_messages([self.pk])
            transaction.on_commit(engine.wake)

    def remove(self) -> None:
        Conversation.objects.filter(pk=self.pk).remove()

    def turns(self) -> list[Message]:
        """The messages from the first to the newest, with their streams."""
        newest = self.messages.select_related("stream").defer("stream__request").order_by("-created_at", "-id")
        by_id = {message.pk: message for message in newest}
        path: list[Message] = []
        step = next(iter(by_id.values()), None)
        while step is not None:
            path.append(step)
            step = by_id.get(step.parent_id) if step.parent_id else None
        return path[::-1]

    def request(self, turns: Iterable[Message]) -> dict[str, Any]:
        """The exact JSON sent to the model for an answer to the last of `turns`."""
        system = self.system_prompt or settings.LLM_SYSTEM_PROMPT
        messages = [{"role": "system", "content": system}] if system else []
        return {
            "model": self.model or settings.LLM_MODELS[0],
            "messages": messages + history(turns, settings.HISTORY_MAX_CHARS),
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def delete_messages(conversations: list[uuid.UUID]) -> None:
    """Delete the messages of these conversations and their streams, in the transaction that locked them."""
    streams = Stream.objects.filter(topic__in=[topic_of(pk) for pk in conversations])
    # Locked as the journal locks them: a row added between the deletion of a stream's rows and its own breaks it all.
    list(streams.select_for_update().order_by("pk").values_list("pk"))
    # All messages at once and first: by their parents, deleting recurses once per turn of a long conversation.
    Message.objects.filter(conversation__in=conversations).delete()
    streams.delete()


def topic_of(conversation: uuid.UUID) -> str:
    return f"conversation-{conversation}"


def title_from(text: str) -> str:
    """A title from a first prompt: its first line, cut at a word."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if len(line) <= TITLE_CHARS:
        return line
    return line[:TITLE_CHARS].rsplit(" ", 1)[0] + "…"


def history(turns: Iterable[Message], limit_chars: int) -> list[dict[str, str]]:
    """The newest turns that fit `limit_chars`, oldest first; the last one is sent whatever its size."""
    kept: list[dict[str, str]] = []
    size = 0
    for message in reversed(list(turns)):
        content = message.content
        size += len(content)
        if kept and size > limit_chars:
            break
        if content:
            kept.append({"role": message.role, "content": content})
    return kept[::-1]


class Role(models.TextChoices):
    USER = "user"
    ASSISTANT = "assistant"


class Message(models.Model):
    """A prompt, with its text, or a reply, whose text is its stream's. `parent` is what it answers or follows."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="replies")
    role = models.CharField(max_length=9, choices=Role)
    text = models.TextField(blank=True)
    stream = models.OneToOneField(Stream, on_delete=models.CASCADE, null=True, related_name="message")
    key = models.UUIDField(null=True, editable=False, help_text="The idempotency key the prompt came with.")
    created_at = models.DateTimeField(db_default=Now())

    # Set on what `ask` returns when its key had been used: this is the first answer again.
    repeated = False

    class Meta:
        ordering = ("created_at", "id")
        constraints = (
            models.UniqueConstraint(fields=["conversation", "key"], name="message_key_once"),
            models.CheckConstraint(
                condition=Q(role=Role.USER, stream=None) | Q(role=Role.ASSISTANT, stream__isnull=False),
                name="message_stream_of_reply",
            ),
        )

    def __str__(self) -> str:
        return f"{self.role} {self.id}"

    @property
    def content(self) -> str:
        """The text a reader may have seen by now."""
        return self.stream.said().text if self.stream else self.text

    def describe(self, said: Said | None = None) -> dict[str, Any]:
        """The message as every surface gives it away; a reply with its text up to `seq`, or with `said` instead."""
        if self.stream and said is None:
            said = self.stream.said()
        return {
            "id": str(self.pk),
            "role": self.role,
            "parent": str(self.parent_id) if self.parent_id else None,
            "text": said.text if said else self.text,
            "reasoning": said.reasoning if said else "",
            "created_at": self.created_at.isoformat(),
            "stream": str(self.stream_id) if self.stream_id else None,
            "status": self.stream.status if self.stream else Status.DONE.value,
            "seq": said.seq if said else 0,
            "key": str(self.key) if self.key else None,
        }
