"""The parts that what is asked under /v1/ consists of: messages, texts, formats; nothing in them is ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# Two words for one thing, of which every model's server knows this one.
ROLES = {"developer": "system"}


def as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def as_object(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else without_nulls(value)


def without_nulls(value: Any) -> Any:
    return {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value


def as_items(items: Any) -> Any:
    """A bare string is one message; thoughts, which clients send back with the answer they led to, are left out."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    if not isinstance(items, list):
        return items
    return [item for item in items if not (isinstance(item, dict) and item.get("type") == "reasoning")]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


Nothing = Annotated[list[Any], Field(max_length=0)]
Short = Annotated[str, Field(max_length=512)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Count = Annotated[int, Field(ge=1, le=2**31)]


class Part(Strict):
    """A piece of text, as clients write it or as it was answered to them."""

    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: Nothing = []
    logprobs: Nothing = []


class Item(Strict):
    """A message. Fields that an answer of ours has are taken back, so that a client can send it as it got it."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[list[Annotated[Part, BeforeValidator(without_nulls)]], BeforeValidator(as_parts)]
    type: Literal["message"] = "message"
    id: Short = ""
    status: Short = ""
    annotations: Nothing = []
    reasoning_content: str = ""

    def said(self) -> dict[str, str]:
        return {"role": ROLES.get(self.role, self.role), "content": "\n".join(part.text for part in self.content)}


Items = Annotated[list[Annotated[Item, BeforeValidator(without_nulls)]], BeforeValidator(as_items), Field(min_length=1)]


class Schema(Strict):
    name: Short
    schema_: Annotated[dict[str, Any], Field(alias="schema")] = {}
    description: str = ""
    strict: bool = False


class ResponseFormat(Strict):
    """As chat completions have it."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Annotated[Schema, BeforeValidator(without_nulls)] | None = None

    @model_validator(mode="after")
    def complete(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema belongs to the type of that name")
        return self


class TextFormat(Schema):
    """As responses have it: the schema's fields beside the type."""

    type: Literal["text", "json_object", "json_schema"]
    name: Short = ""

    def parameter(self) -> dict[str, Any]:
        if self.type != "json_schema":
            return {"type": self.type}
        schema: dict[str, Any] = self.model_dump(by_alias=True, exclude={"type"}, exclude_unset=True)
        return {"type": self.type, "json_schema": schema}


class TextConfig(Strict):
    format: Annotated[TextFormat, BeforeValidator(without_nulls)] | None = None
    verbosity: Short | None = None
