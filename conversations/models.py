"""What people see: their conversations and the messages in them. Knows streams, which do not know it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from conversations.budgets import Budget
from conversations.people import Refused as Refused
from conversations.people import Token as Token
from conversations.people import User as User
from conversations.titles import title_from
from conversations.tree import Tree
from conversations.wish import PLAIN, Wish
from streaming import engine, feeding
from streaming.frames import Said
from streaming.models import Status, Stream, new_id


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def visible_to(self, user: Any) -> ConversationQuerySet:
        """The conversations this user, who may be anonymous, may see."""
        return self.filter(owner=user, deleted_at=None) if user.is_authenticated else self.none()

    def shared(self, secret: str) -> ConversationQuerySet:
        """The conversation that whoever holds this secret may read."""
        return self.filter(share=secret, deleted_at=None, owner__is_active=True)

    def undoable(self) -> ConversationQuerySet:
        """Deleted, but not for good."""
        return self.filter(deleted_at__gte=Now() - timedelta(seconds=settings.UNDO_S))

    def overdue(self) -> ConversationQuerySet:
        """Deleted, and too long ago for an undo: to be removed."""
        return self.filter(deleted_at__lt=Now() - timedelta(seconds=settings.UNDO_S))

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
    # Where the chosen branch ends; None: at the newest message.
    leaf = models.ForeignKey("Message", on_delete=models.SET_NULL, null=True, editable=False, related_name="+")
    share = models.CharField(max_length=43, unique=True, null=True, editable=False)  # noqa: DJ001  # Unique but for none.
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    deleted_at = models.DateTimeField(null=True, editable=False, help_text="Removed for good UNDO_S later.")

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ("-updated_at", "-id")
        indexes = (models.Index(fields=["owner", "-updated_at"], name="conversation_recent"),)

    def __str__(self) -> str:
        return self.title or "New conversation"

    @property
    def undo_s(self) -> float:
        """For how many seconds more its deletion can be undone."""
        since = timezone.now() - self.deleted_at if self.deleted_at else None
        return 0 if since is None else max(0.0, settings.UNDO_S - since.total_seconds())

    @property
    def shared(self) -> bool:
        return self.share is not None

    @property
    def answering_model(self) -> str:
        """The chosen model, as long as the site offers it."""
        return self.model if self.model in settings.LLM_MODELS else settings.LLM_MODELS[0]

    @property
    def topic(self) -> str:
        return topic_of(self.pk)

    @classmethod
    def begin(
        cls, owner: User, text: str, key: uuid.UUID | None = None, model: str = "", wish: Wish = PLAIN
    ) -> Message:
        """Ask in a new conversation; the same `key` again returns the reply it made the first time."""
        # One transaction, one at a time per person: a double click must find the conversation its first half made.
        with transaction.atomic():
            User.objects.select_for_update().get(pk=owner.pk)
            mine = cls.objects.visible_to(owner)
            earlier = mine.filter(messages__key=key).first() if key else None
            return (earlier or mine.create(owner=owner, model=model)).ask(text, key, wish=wish)

    def ask(
        self, text: str, key: uuid.UUID | None = None, parent: uuid.UUID | None = None, wish: Wish = PLAIN
    ) -> Message:
        """Store a prompt with its empty reply and start the reply's stream; returns the reply.

        The prompt follows the reply `parent`, or else the last of the chosen branch. The same `key` again returns the
        reply it made the first time. Refused (`busy`) while an answer is being written, (`key_reused`) when the key
        came with something else and (`unknown_message`) when there is no such parent.
        """
        # One transaction: a prompt without its stream would wait for ever, a stream without its messages answer nobody.
        with transaction.atomic():
            self.lock()
            if earlier := self._earlier(key, text=text, context=list(wish.context)):
                return earlier
            last = self._message(parent, Role.ASSISTANT).pk if parent else self.tree().leaf
            return self._prompt(text, key, last, wish)

    def edit(self, message: uuid.UUID, text: str, key: uuid.UUID | None = None) -> Message:
        """Ask `text` in the place of an earlier prompt, which stays as another branch; otherwise as `ask`."""
        with transaction.atomic():
            self.lock()
            if earlier := self._earlier(key, text=text):
                return earlier
            edited = self._message(message, Role.USER)
            return self._prompt(text, key, edited.parent_id, Wish(context=tuple(edited.context)))

    def regenerate(self, message: uuid.UUID, key: uuid.UUID | None = None) -> Message:
        """Answer a prompt, or that of a reply, once more; earlier replies stay as branches. Otherwise as `ask`."""
        with transaction.atomic():
            self.lock()
            found = self._message(message, *Role)
            prompt = found.pk if found.role == Role.USER else found.parent_id
            return self._earlier(key, parent_id=prompt) or self._reply(self._way(self.tree(), prompt), key)

    def choose(self, message: uuid.UUID) -> None:
        """Show the branch of `message` from now on, with what was said last behind it."""
        with transaction.atomic():
            self.lock()
            self.leaf_id = self.tree().leaf_under(self._message(message, *Role).pk)
            Conversation.objects.filter(pk=self.pk).update(leaf=self.leaf_id)

    def lock(self) -> None:
        """One change at a time, each seeing what the one before left."""
        self.refresh_from_db(from_queryset=Conversation.objects.select_for_update())

    def _message(self, pk: uuid.UUID, *roles: str) -> Message:
        found = self.messages.filter(pk=pk, role__in=roles).first()
        if found is None:
            raise Refused("unknown_message", "This conversation has no such message.")
        return found

    def _earlier(self, key: uuid.UUID | None, **like: Any) -> Message | None:
        """The reply that came of this key, if it was used before and for the same."""
        found = self.messages.filter(key=key).first() if key else None
        if found is None:
            return None
        if any(getattr(found, name) != value for name, value in like.items()):
            raise Refused("key_reused", "This idempotency key was used for something else.")
        replies = self.messages.select_related("stream", "parent")
        # The first reply to a prompt came with it; later ones were asked for.
        reply = replies.get(pk=found.pk) if found.stream_id else replies.filter(parent=found)[0]
        reply.repeated = True
        return reply

    def _prompt(self, text: str, key: uuid.UUID | None, parent: uuid.UUID | None, wish: Wish = PLAIN) -> Message:
        turns = self._way(self.tree(), parent)
        context = list(wish.context)
        prompt = self.messages.create(role=Role.USER, text=text, context=context, key=key, parent_id=parent)
        Conversation.objects.filter(pk=self.pk, title="").update(title=title_from(text))
        return self._reply([*turns, prompt], wish=wish)

    def _reply(self, turns: list[Message], key: uuid.UUID | None = None, wish: Wish = PLAIN) -> Message:
        """An empty reply to the last of `turns` and the start of its stream; what was stored for it goes if refused."""
        request = self.request(turns, wish)
        Budget.objects.spend(self.owner_id, sum(len(said["content"]) for said in request["messages"]))
        if Stream.objects.live().filter(topic=self.topic).exists():
            raise Refused("busy", "An answer is still being written. Wait for its end or stop it first.")
        stream = Stream.objects.create(topic=self.topic, request=request, model=request["model"])
        reply = self.messages.create(role=Role.ASSISTANT, parent=turns[-1], stream=stream, key=key)
        self.leaf = reply
        Conversation.objects.filter(pk=self.pk).update(updated_at=Now(), leaf=reply)
        begin = feeding.start if wish.fed else engine.start
        begin(stream)
        return reply

    def turn(self, stream: str) -> dict[str, Any] | None:
        """The `turn` frame that announces a stream: its prompt, and its reply as it stood before the first row."""
        found = self.messages.select_related("stream", "parent", "conversation")
        reply = found.filter(stream_id=stream).first()
        if reply is None or reply.parent is None:
            return None
        # This conversation was loaded some time ago; another branch may have been chosen since.
        tree = reply.conversation.tree()
        reply.branches, reply.parent.branches = tree.branches(reply.pk), tree.branches(reply.parent.pk)
        return {
            "type": "turn",
            "stream": stream,
            "prompt": reply.parent.describe(),
            "reply": reply.describe(Said(0, "", "")),
            "chosen": reply.pk in tree.path(tree.leaf),
        }

    def stop(self, stream: uuid.UUID) -> bool:
        """Ask for the end of one of this conversation's answers; False if it has no such answer."""
        streams = Stream.objects.filter(pk=stream, topic=self.topic)
        return engine.stop(streams) > 0 or streams.exists()

    def clear(self) -> None:
        """Delete every message; answers under way lose their stream and end with it."""
        with transaction.atomic():
            Conversation.objects.select_for_update().get(pk=self.pk)
            delete_messages([self.pk])
            transaction.on_commit(engine.wake)

    def discard(self) -> None:
        """Hide the conversation from everybody and end its answers; an undo within UNDO_S only takes the mark away."""
        Conversation.objects.filter(pk=self.pk).update(deleted_at=Now())
        engine.stop(Stream.objects.filter(topic=self.topic))

    def remove(self) -> None:
        Conversation.objects.filter(pk=self.pk).remove()

    def tree(self) -> Tree:
        return Tree(self.messages.values_list("pk", "parent_id"), self.leaf_id)

    def turns(self) -> list[Message]:
        """The messages of the chosen branch from the first, with their streams."""
        tree = self.tree()
        return self._way(tree, tree.leaf)

    def _way(self, tree: Tree, last: uuid.UUID | None) -> list[Message]:
        """The messages from the first to `last`."""
        path = tree.path(last)
        found = self.messages.select_related("stream").defer("stream__request").in_bulk(path)
        for message in found.values():
            message.branches = tree.branches(message.pk)
        return [found[pk] for pk in path]

    def request(self, turns: Iterable[Message], wish: Wish = PLAIN) -> dict[str, Any]:
        """The exact JSON sent to the model for an answer to the last of `turns`."""
        messages = history(turns, settings.HISTORY_MAX_CHARS)
        system = self.system_prompt or settings.LLM_SYSTEM_PROMPT
        # What a program says to the model by itself takes the place of what the site would say.
        if wish.instructions or (system and messages[0]["role"] != "system"):
            messages.insert(0, {"role": "system", "content": wish.instructions or system})
        return {
            "model": wish.model or self.answering_model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **wish.parameters,
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


def conversation_of(topic: str) -> uuid.UUID:
    return uuid.UUID(topic.removeprefix("conversation-"))


def history(turns: Iterable[Message], limit_chars: int) -> list[dict[str, str]]:
    """The newest turns that fit `limit_chars`, oldest first; the last one is sent whatever its size."""
    kept: list[list[dict[str, str]]] = []
    size = 0
    for message in reversed(list(turns)):
        sent = message.sent()
        size += sum(len(part["content"]) for part in sent)
        if kept and size > limit_chars:
            break
        kept.append(sent)
    return [part for sent in reversed(kept) for part in sent]


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
    context = models.JSONField(default=list, blank=True, help_text="What was said elsewhere before the prompt.")
    stream = models.OneToOneField(Stream, on_delete=models.CASCADE, null=True, related_name="message")
    key = models.UUIDField(null=True, editable=False, help_text="The idempotency key it was asked with.")
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

    @cached_property
    def branches(self) -> list[uuid.UUID]:
        """The messages in this one's place, itself among them, oldest first. `turns` sets it for all at once."""
        same = Message.objects.filter(conversation=self.conversation_id, parent=self.parent_id)
        return list(same.values_list("pk", flat=True))

    @property
    def content(self) -> str:
        """The text a reader may have seen by now."""
        return self.stream.said().text if self.stream else self.text

    def sent(self) -> list[dict[str, str]]:
        """The message as the model is sent it, behind what came with it."""
        content = self.content
        return [*self.context, {"role": self.role, "content": content}] if content else self.context

    def remove(self) -> None:
        """Delete this reply with its stream, and its prompt if it was the only one; what followed moves up."""
        with transaction.atomic():
            self.conversation.lock()
            prompt = Message.objects.get(replies=self.pk)
            turn = [self.pk] if prompt.replies.exclude(pk=self.pk).exists() else [self.pk, prompt.pk]
            streams = Stream.objects.filter(message=self.pk)
            gone = list(
                streams.select_for_update(of=("self",)).values_list("pk", flat=True)
            )  # As delete_messages does.
            self.replies.update(parent=prompt.parent_id)
            Message.objects.filter(pk__in=turn).delete()
            Stream.objects.filter(pk__in=gone).delete()
            if not self.conversation.messages.exists():
                self.conversation.delete()
            transaction.on_commit(engine.wake)

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
            "branches": [str(pk) for pk in self.branches],
        }
