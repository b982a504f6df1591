"""What the API takes and gives, as rest framework's serializers; the schema at /api/schema/ is made of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import exceptions, serializers
from rest_framework.request import Request

from conversations.models import Conversation, Message, User
from streaming.frames import SPOKEN, Row
from streaming.models import Status, Stream

Serializer = TypeVar("Serializer")
LAST_SEQ = 2**31 - 1
IDEMPOTENCY_KEY = "Idempotency-Key"


REFUSAL = {"code": "busy", "detail": "An answer is still being written. Wait for its end or stop it first."}


def asked_like(name: str, value: dict[str, Any]) -> Callable[[type[Serializer]], type[Serializer]]:
    """Show an example of what a serializer takes in the schema."""
    return extend_schema_serializer(examples=[OpenApiExample(name, value=value, request_only=True)])


class Text(serializers.CharField):
    """A string kept as it came. Rest framework would also take numbers, and trim what may be code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **options})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Moment(serializers.DateTimeField):
    """A time as `Message.describe` writes it."""

    def to_representation(self, value: Any) -> str:
        written: str = value.isoformat()
        return written


def prompt_sized(text: str) -> None:
    """A validator; a `max_length` would be read from the settings only once."""
    if len(text) > settings.PROMPT_MAX_CHARS:
        raise serializers.ValidationError(f"At most {settings.PROMPT_MAX_CHARS} characters.", code="max_length")


def not_blank(text: str) -> None:
    if not text.strip():
        raise serializers.ValidationError("This field may not be blank.", code="blank")


class Input(serializers.Serializer[Any]):
    """A JSON object of the declared fields and no others: a misspelt name must not look like success."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(self.fields))):
            raise serializers.ValidationError({name: ["This field is not known."] for name in unknown})
        values: dict[str, Any] = super().to_internal_value(data)
        return values


@asked_like("A chat with instructions", {"title": "Physics", "system_prompt": "Be brief."})
class ConversationInput(Input):
    title = Text(max_length=200, required=False, allow_blank=True)
    model = Text(max_length=100, required=False, allow_blank=True, help_text="Empty: the site's first model.")
    system_prompt = Text(required=False, allow_blank=True, validators=[prompt_sized])

    def validate_model(self, model: str) -> str:
        if model and model not in settings.LLM_MODELS:
            offered = ", ".join(settings.LLM_MODELS)
            raise serializers.ValidationError(f"This site offers: {offered}.", code="invalid_choice")
        return model


class EditInput(Input):
    text = Text(validators=[not_blank, prompt_sized])


@asked_like("A question", {"text": "Why is the sky blue?"})
class PromptInput(EditInput):
    parent = serializers.UUIDField(  # type: ignore[assignment]
        required=False, allow_null=True, help_text="The reply it follows; if left out, the last of the chosen branch."
    )


# Not declared as a class, in which `as` could not be a name.
ExportInput = type(
    "ExportInput",
    (serializers.Serializer,),
    {"as": serializers.ChoiceField(["json", "markdown"], default="json")},
)


class ChunksInput(serializers.Serializer[Any]):
    after = serializers.IntegerField(
        min_value=0, max_value=LAST_SEQ, default=0, help_text="The position behind which to begin."
    )


def valid(kind: type[serializers.Serializer[Any]], data: Any, **options: Any) -> dict[str, Any]:
    """The checked values of `data`, or 400 with what is wrong."""
    serializer = kind(data=data, **options)
    serializer.is_valid(raise_exception=True)
    values: dict[str, Any] = serializer.validated_data
    return values


def idempotency_key(request: Request) -> uuid.UUID | None:
    """The request's key, a UUID in its usual form, or None when it has none."""
    header: str | None = request.headers.get(IDEMPOTENCY_KEY)
    if header is None:
        return None
    try:
        key = uuid.UUID(header)
    except ValueError:
        key = None
    if key is None or str(key) != header.lower():
        raise exceptions.ValidationError({IDEMPOTENCY_KEY: ["This header must be a UUID."]})
    return key


@extend_schema_serializer(examples=[OpenApiExample("Refused", value=REFUSAL, response_only=True)])
class ErrorOutput(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="Stable, for programs.")
    detail = serializers.CharField(help_text="For people.")
    fields = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="What is wrong, by the name of the input.",
    )


class UserOutput(serializers.ModelSerializer[User]):
    name = serializers.CharField(source="display_name", read_only=True)

    class Meta:
        model = User
        fields = ("id", "name", "is_visitor")
        read_only_fields = fields


class VisitorOutput(serializers.Serializer[Any]):
    token = serializers.CharField(help_text="For `Authorization: Bearer`. It cannot be shown again.")
    user = UserOutput()


class ShareOutput(serializers.Serializer[Any]):
    url = serializers.URLField(help_text="Of the page that whoever has it may read.")


class ConversationOutput(serializers.ModelSerializer[Conversation]):
    shared = serializers.BooleanField(read_only=True, help_text="Whether it has an address that others may read.")
    created_at = Moment(read_only=True)
    updated_at = Moment(read_only=True)

    class Meta:
        model = Conversation
        fields = ("id", "title", "model", "system_prompt", "shared", "created_at", "updated_at")
        read_only_fields = fields


# The fields are for the schema; the values are those of `Message.describe`, which every surface shares.
class MessageOutput(serializers.Serializer[Message]):
    id = serializers.UUIDField()
    role = serializers.ChoiceField(["user", "assistant"])
    parent = serializers.UUIDField(allow_null=True)  # type: ignore[assignment]
    text = serializers.CharField(help_text="A prompt's text, or a reply's up to `seq`.")
    reasoning = serializers.CharField()
    created_at = serializers.DateTimeField()
    stream = serializers.UUIDField(allow_null=True, help_text="The stream of a reply.")
    status = serializers.ChoiceField(Status.choices)
    seq = serializers.IntegerField(help_text="The position in the stream's log up to which `text` is complete.")
    key = serializers.UUIDField(allow_null=True, help_text="The idempotency key it was asked with.")
    branches = serializers.ListField(
        child=serializers.UUIDField(), help_text="The messages that may stand in its place, with itself, oldest first."
    )

    def to_representation(self, instance: Message) -> dict[str, Any]:
        if tree := self.context.get("tree"):
            # Known for a whole list at once; by itself each message would look for its own.
            instance.branches = tree.branches(instance.pk)
        return instance.describe()


class TurnOutput(serializers.Serializer[Message]):
    """A prompt and its reply."""

    prompt = MessageOutput(source="parent")
    reply = MessageOutput(source="*")
    stream = serializers.UUIDField(source="stream_id")


class ProblemOutput(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField()


class TimingsOutput(serializers.Serializer[Stream]):
    created_at = Moment()
    claimed_at = Moment(allow_null=True, help_text="When the last attempt to answer was taken up.")
    first_text_at = Moment(allow_null=True)
    finished_at = Moment(allow_null=True)


class StreamOutput(serializers.Serializer[Stream]):
    """A stream with what it has said so far."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(Status.choices)
    seq = serializers.IntegerField(help_text="The position up to which `text` is complete.")
    text = serializers.CharField()
    reasoning = serializers.CharField()
    attempt = serializers.IntegerField()
    usage = serializers.DictField(allow_null=True)
    error = ProblemOutput(allow_null=True)
    finish_reason = serializers.CharField(allow_null=True)
    timings = TimingsOutput(source="*")

    def to_representation(self, instance: Stream) -> dict[str, Any]:
        # Once: between two readings of the rows another may have been added.
        said = instance.said()
        return {
            "id": str(instance.pk),
            "status": instance.status,
            "seq": said.seq,
            "text": said.text,
            "reasoning": said.reasoning,
            "attempt": instance.attempt,
            "usage": instance.usage,
            "error": instance.error,
            "finish_reason": instance.finish_reason or None,
            "timings": TimingsOutput(instance).data,
        }


class ChunkOutput(serializers.Serializer[Row]):
    seq = serializers.IntegerField()
    kind = serializers.ChoiceField(["text", "reasoning", "retry", "restart", "end"])
    text = serializers.CharField(required=False, help_text="Of text and reasoning.")
    payload = serializers.DictField(required=False, help_text="Of retry, restart and end.")

    def to_representation(self, instance: Row) -> dict[str, Any]:
        said = {"text": instance.text} if instance.kind in SPOKEN else {"payload": instance.data}
        return {"seq": instance.seq, "kind": instance.kind, **said}


class ChunksOutput(serializers.Serializer[Any]):
    results = ChunkOutput(many=True)
    next_after = serializers.IntegerField(help_text="`after` for the next page.")
    more = serializers.BooleanField(help_text="Whether there may be rows behind this page already.")
