"""What a client may say on the websocket (docs/protocol.md), checked before anything acts on it."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from django.conf import settings
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError, field_validator

ATTACH_STREAMS = 1000


class BadFrame(ValueError):
    """A frame that says nothing this server understands; the text is for the client's developer."""


class Command(BaseModel):
    model_config = ConfigDict(strict=False, extra="ignore")


class Attach(Command):
    type: Literal["attach"]
    after: dict[UUID, NonNegativeInt] = Field(default_factory=dict, max_length=ATTACH_STREAMS)
    since: UUID | None = None


class Ask(Command):
    type: Literal["ask"]
    text: str
    key: UUID

    @field_validator("text")
    @classmethod
    def storable(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("the prompt is empty")
        if len(text) > settings.PROMPT_MAX_CHARS:
            raise ValueError(f"the prompt is longer than {settings.PROMPT_MAX_CHARS} characters")
        if "\0" in text:
            raise ValueError("the prompt has a NUL character")
        return text


class Stop(Command):
    type: Literal["stop"]
    stream: UUID


class Ack(Command):
    type: Literal["ack"]
    stream: UUID
    seq: NonNegativeInt


AnyCommand = Annotated[Attach | Ask | Stop | Ack, Field(discriminator="type")]
_adapter: TypeAdapter[Attach | Ask | Stop | Ack] = TypeAdapter(AnyCommand)


def parse(text: str | None) -> Attach | Ask | Stop | Ack:
    """The command in a frame's text; BadFrame with the first thing wrong with it."""
    if text is None:
        raise BadFrame("Frames are JSON text, not bytes.")
    try:
        return _adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadFrame(f"{where}: {first['msg']}" if where else first["msg"]) from None
