"""What clients of OpenAI's API may ask for, checked: what this site cannot do is refused by name and never ignored.

Values that ask for nothing special (`n: 1`, `tools: []`, null) are taken for what they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import orjson
from django.conf import settings
from pydantic import BeforeValidator, Field, ValidationError

from conversations.api.openai_errors import ApiError
from conversations.api.openai_items import (
    Count,
    Items,
    Nothing,
    Penalty,
    ResponseFormat,
    Short,
    Strict,
    TextConfig,
    as_list,
    as_object,
    without_nulls,
)
from conversations.wish import Wish

DEPTH = 64
Kind = TypeVar("Kind", bound="Asked")
# What a refusal says of an input, by pydantic's name for the problem.
CODES = {
    "extra_forbidden": "unsupported_parameter",
    "missing": "missing_required_parameter",
    "literal_error": "unsupported_value",
    "too_long": "unsupported_value",
}


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
    said = "This site does not support it." if code.startswith("unsupported") else f"{first['msg']}."
    return ApiError(400, code, f"{param}: {said}" if param else said, param=param or None)


def no_model(name: str) -> ApiError:
    offered = ", ".join(settings.LLM_MODELS)
    return ApiError(
        404, "model_not_found", f"There is no model {name[:100]!r}. This site offers: {offered}.", param="model"
    )
