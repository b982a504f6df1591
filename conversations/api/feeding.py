"""Bring your own generator: a program writes the answer to a prompt itself, a few rows at a time (docs/clients.md)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from conversations.api import native
from conversations.api.native import AskingView, View
from conversations.api.schema import KEY_HEADER, operation
from conversations.api.serializers import LAST_SEQ, EditInput, Input, Text, TurnOutput, asked_like, valid
from conversations.models import Conversation, Message, Refused
from conversations.wish import Wish
from streaming import feeding
from streaming.feeding import Addition, Conflict
from streaming.frames import REASONING, ROW_CHARS, TEXT
from streaming.models import Outcome, Status, Stream

ADDED_ROWS = 1000
EXAMPLE_LEASE = "3f0c9c5e-0d5b-4f6e-9f59-6f6f2ad27d11"


class AdditionInput(Input):
    lease = serializers.UUIDField(help_text="As it was given when the stream was opened.")
    after = serializers.IntegerField(
        min_value=0, max_value=LAST_SEQ - ADDED_ROWS, help_text="The last seq, behind which this belongs."
    )


class WordsInput(Input):
    kind = serializers.ChoiceField([TEXT, REASONING], default=TEXT)
    text = Text(max_length=ROW_CHARS)


@asked_like(
    "Two words behind row 4", {"lease": EXAMPLE_LEASE, "after": 4, "chunks": [{"text": "Hello "}, {"text": "world"}]}
)
class WordsAddedInput(AdditionInput):
    chunks = serializers.ListField(
        child=WordsInput(), max_length=ADDED_ROWS, help_text="May be empty: then only the lease is renewed."
    )


class UsageInput(Input):
    prompt_tokens = serializers.IntegerField(min_value=0, max_value=LAST_SEQ, required=False)
    completion_tokens = serializers.IntegerField(min_value=0, max_value=LAST_SEQ, required=False)
    total_tokens = serializers.IntegerField(min_value=0, max_value=LAST_SEQ, required=False)


class EndingInput(AdditionInput):
    finish_reason = Text(max_length=40, default="stop")
    usage = UsageInput(required=False, allow_null=True)
    error = Text(max_length=500, required=False, help_text="Why there is no more, for people. Makes it an error.")


class FedTurnOutput(TurnOutput):
    """A prompt, the reply to be written, and what it takes to write it."""

    lease = serializers.UUIDField(source="stream.lease", allow_null=True, help_text="Null once it cannot be written.")
    lease_s = serializers.SerializerMethodField(help_text="For how long without a sign of life the lease is good.")

    def get_lease_s(self, reply: Any) -> float:
        return float(settings.FEED_LEASE_S)


class AddedOutput(serializers.Serializer[Any]):
    seq = serializers.IntegerField(help_text="The last seq of what was added: `after` for the next.")


class Streams(AskingView):
    turn_output = FedTurnOutput

    @operation(
        "Open a stream and write it yourself",
        {201: FedTurnOutput, 200: FedTurnOutput},
        takes=EditInput,
        refuses=(400, 404, 409, 413, 415, 422, 429),
        parameters=[KEY_HEADER],
    )
    def post(self, request: Request, pk: UUID) -> Response:
        found = self.conversation(pk)
        text = valid(EditInput, request.data)["text"]
        return self.turn(found, lambda key: self.opened(found, text, key))

    def opened(self, found: Conversation, text: str, key: UUID | None) -> Message:
        reply = found.ask(text, key, wish=Wish(fed=True))
        if reply.stream is None or not reply.stream.fed:
            # Its lease is an engine's, and nobody else's to know.
            raise Refused("key_reused", "This idempotency key was used to ask the model.")
        return reply


# A view that adds to a stream.
class AddingView(View):
    def add(self, pk: UUID, lease: UUID, addition: Addition) -> Response:
        try:
            return Response(AddedOutput({"seq": feeding.add(self.stream(pk).pk, lease, addition)}).data)
        except Conflict as conflict:
            raise Refused(conflict.code, conflict.detail) from conflict
        except Stream.DoesNotExist:
            # Deleted between the two queries.
            raise Refused("lease_lost", "This stream was deleted.") from None


class Chunks(native.Chunks, AddingView):
    @operation(
        "Add rows to a stream that you write",
        {200: AddedOutput},
        takes=WordsAddedInput,
        refuses=(400, 404, 409, 413, 415),
    )
    def post(self, request: Request, pk: UUID) -> Response:
        values = valid(WordsAddedInput, request.data)
        said = tuple((words["kind"], words["text"]) for words in values["chunks"])
        return self.add(pk, values["lease"], Addition(values["after"], said))


class End(AddingView):
    @operation(
        "End a stream that you write",
        {200: AddedOutput},
        takes=EndingInput,
        refuses=(400, 404, 409, 413, 415),
    )
    def post(self, request: Request, pk: UUID) -> Response:
        values = valid(EndingInput, request.data)
        return self.add(pk, values["lease"], Addition(values["after"], outcome=outcome_of(values)))


def outcome_of(values: dict[str, Any]) -> Outcome:
    usage = values.get("usage")
    if "error" in values:
        return feeding.gave_up(values["error"], usage)
    return Outcome(Status.DONE, values["finish_reason"], usage)
