"""What a client may say on the websocket (docs/protocol.md), checked before anything acts on it."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from django.conf import settings
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError

ATTACH_STREAMS = 1000


class BadFrame(ValueError):
    """A frame that says nothing this server understands; the text is for the client's developer."""


class Command(BaseModel):
    model_config = ConfigDict(strict=False, extra="ignore")


class Attach(Command):
    type: Literal["attach"]
    after: dict[UUID, NonNegativeInt] = Field(default_factory=dict, max_length=ATTACH_STREAMS)
    since: UUID | None = None


def storable(text: str) -> str:
    if not text.strip():
        raise ValueError("the prompt is empty")
    if len(text) > settings.PROMPT_MAX_CHARS:
        raise ValueError(f"the prompt is longer than {settings.PROMPT_MAX_CHARS} characters")
    if "\0" in text:
        raise ValueError("the prompt has a NUL character")
    return text


Prompt = Annotated[str, AfterValidator(storable)]


class Ask(Command):
    type: Literal["ask"]
    text: Prompt
    key: UUID
    parent: UUID | None = None


class Edit(Command):
    type: Literal["edit"]
    message: UUID
    text: Prompt
    key: UUID


class Regenerate(Command):
    type: Literal["regenerate"]
    message: UUID
    key: UUID


class Stop(Command):
    type: Literal["stop"]
    stream: UUID


class Ack(Command):
    type: Literal["ack"]
    stream: UUID
    seq: NonNegativeInt


Asking = Ask | Edit | Regenerate
AnyCommand = Attach | Asking | Stop | Ack
_adapter: TypeAdapter[AnyCommand] = TypeAdapter(Annotated[AnyCommand, Field(discriminator="type")])


def parse(text: str | None) -> AnyCommand:
    """The command in a frame's text; BadFrame with the first thing wrong with it."""
    if text is None:
        raise BadFrame("Frames are JSON text, not bytes.")
    try:
        return _adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadFrame(f"{where}: {first['msg']}" if where else first["msg"]) from None
