"""What a program may ask for beside the text of a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Wish:
    """For one answer: another model, instructions in place of the system prompt, and parameters of the model's server.

    `context` is what was said elsewhere before the prompt, as the model is sent it; it stays part of the conversation.
    `fed`: no model at all, the program writes the answer itself.
    """

    model: str = ""
    instructions: str = ""
    context: tuple[dict[str, str], ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fed: bool = False


PLAIN = Wish()
