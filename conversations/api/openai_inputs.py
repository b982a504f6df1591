"""What clients of OpenAI's API may ask for, checked: what this site cannot do is refused by name and never ignored.

Values that ask for nothing special (`n: 1`, `tools: []`, null) are taken for what they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import orjson
from django.conf import settings
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from conversations.api.openai_errors import ApiError
from conversations.wish import Wish

DEPTH = 64
SYSTEM = "system"
ROLES = {"developer": SYSTEM}
Kind = TypeVar("Kind", bound="Asked")
# What a refusal says of an input, by pydantic's name for the problem.
CODES = {"extra_forbidden": "unsupported_parameter", "missing": "missing_required_parameter"}


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


class Reasoning(Strict):
    effort: Short | None = None


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class ConversationOf(Strict):
    id: Short


class Asked(Strict):
    """What both ways of asking have in common."""

    model: str = ""
    stream: bool = False
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    user: Short | None = None
    safety_identifier: Short | None = None
    prompt_cache_key: Short | None = None
    service_tier: Short | None = None
    # Only what changes nothing.
    store: Literal[True] = True
    tools: Nothing = []
    tool_choice: Literal["auto", "none"] = "auto"
    parallel_tool_calls: bool = True
    metadata: Annotated[dict[str, Any], Field(max_length=0)] = {}
    top_logprobs: Literal[0] = 0

    # Sent to the model under the same name.
    passed_on: ClassVar[tuple[str, ...]] = (
        "temperature",
        "top_p",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "service_tier",
    )

    @classmethod
    def parse(cls: type[Kind], body: bytes) -> Kind:
        """The checked request, or ApiError for the first thing that is wrong with it."""
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ApiError(400, "invalid_json", f"The body is not JSON: {error}") from error
        check_storable(value)
        try:
            asked = cls.model_validate(without_nulls(value))
        except ValidationError as error:
            raise refusal(error) from None
        asked.check()
        return asked

    def check(self) -> None:
        if self.model and self.model not in settings.LLM_MODELS:
            raise no_model(self.model)
        *_, last = self.messages()
        if last["role"] != "user":
            raise ApiError(400, "invalid_value", "The last message must be the user's.", param=self.asks_in())
        text = last["content"]
        if not text.strip():
            raise ApiError(400, "invalid_value", "The last message is empty.", param=self.asks_in())
        if len(text) > settings.PROMPT_MAX_CHARS:
            limit = f"The last message has more than {settings.PROMPT_MAX_CHARS} characters."
            raise ApiError(400, "string_above_max_length", limit, param=self.asks_in())

    def messages(self) -> list[dict[str, str]]:
        raise NotImplementedError

    def asks_in(self) -> str:
        """The name of the field that holds the messages."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Any]:
        """What the model is asked beside the messages, as chat completions have it."""
        return self.model_dump(include=set(self.passed_on), exclude_none=True)

    def wish(self) -> Wish:
        *context, _ = self.messages()
        return Wish(self.model, context=tuple(context), parameters=self.parameters())

    @property
    def prompt(self) -> str:
        return self.messages()[-1]["content"]


class ResponseInput(Asked):
    """POST /v1/responses"""

    input: Items
    instructions: str = ""
    previous_response_id: Short | None = None
    conversation: Annotated[ConversationOf, BeforeValidator(as_object)] | None = None
    background: bool = False
    max_output_tokens: Count | None = None
    reasoning: Annotated[Reasoning, BeforeValidator(without_nulls)] | None = None
    text: Annotated[TextConfig, BeforeValidator(without_nulls)] | None = None
    truncation: Literal["auto"] = "auto"
    include: Nothing = []
    stream_options: Annotated[StreamOptions, BeforeValidator(without_nulls)] | None = None

    def check(self) -> None:
        super().check()
        if self.previous_response_id and self.conversation:
            both = "previous_response_id and conversation cannot be given together."
            raise ApiError(400, "mutually_exclusive_parameters", both, param="conversation")

    def messages(self) -> list[dict[str, str]]:
        return [item.said() for item in self.input]

    def wish(self) -> Wish:
        return replace(super().wish(), instructions=self.instructions)

    def asks_in(self) -> str:
        return "input"

    def parameters(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "max_completion_tokens": self.max_output_tokens,
            "reasoning_effort": self.reasoning.effort if self.reasoning else None,
            "verbosity": self.text.verbosity if self.text else None,
            "response_format": self.text.format.parameter() if self.text and self.text.format else None,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        return super().parameters() | given


class CompletionInput(Asked):
    """POST /v1/chat/completions"""

    messages_: Annotated[Items, Field(alias="messages")]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stop: Annotated[list[Short], BeforeValidator(as_list), Field(max_length=16)] | None = None
    seed: int | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    reasoning_effort: Short | None = None
    verbosity: Short | None = None
    response_format: Annotated[ResponseFormat, BeforeValidator(without_nulls)] | None = None
    stream_options: Annotated[StreamOptions, BeforeValidator(without_nulls)] | None = None
    n: Literal[1] = 1
    logprobs: Literal[False] = False
    functions: Nothing = []
    modalities: list[Literal["text"]] = []

    passed_on: ClassVar[tuple[str, ...]] = (
        *Asked.passed_on,
        *("max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty", "stop", "seed"),
        *("logit_bias", "reasoning_effort", "verbosity"),
    )

    def messages(self) -> list[dict[str, str]]:
        return [item.said() for item in self.messages_]

    def asks_in(self) -> str:
        return "messages"

    def parameters(self) -> dict[str, Any]:
        if self.response_format is None:
            return super().parameters()
        wanted = self.response_format.model_dump(by_alias=True, exclude_unset=True)
        return super().parameters() | {"response_format": wanted}

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def check_storable(value: Any, depth: int = 0) -> None:
    """Refuse what a database would not take or give back: NUL characters, and nesting without end."""
    if depth > DEPTH:
        raise ApiError(400, "invalid_value", f"The body is nested more than {DEPTH} levels deep.")
    if isinstance(value, str):
        if "\0" in value:
            raise ApiError(400, "invalid_value", "The body has a NUL character.")
    elif isinstance(value, dict):
        for name, item in value.items():
            check_storable(name, depth + 1)
            check_storable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_storable(item, depth + 1)


def refusal(error: ValidationError) -> ApiError:
    """The first thing wrong, by the name of the field."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    param = ".".join(str(part) for part in first["loc"])
    code = CODES.get(first["type"], "invalid_value")
    said = "This site does not support it." if code == "unsupported_parameter" else f"{first['msg']}."
    return ApiError(400, code, f"{param}: {said}" if param else said, param=param or None)


def no_model(name: str) -> ApiError:
    offered = ", ".join(settings.LLM_MODELS)
    return ApiError(
        404, "model_not_found", f"There is no model {name[:100]!r}. This site offers: {offered}.", param="model"
    )
