"""A client as docs/protocol.md tells it to be: what it shows of each stream, from a position and frames after it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streaming.frames import Said


@dataclass
class Shown:
    seq: int = 0
    text: str = ""
    reasoning: str = ""
    status: str = "pending"


@dataclass
class Follower:
    """Applies frames and fails on a gap or a repeat instead of papering over it."""

    streams: dict[str, Shown] = field(default_factory=dict)
    turns: list[str] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, stream: str, said: Said) -> None:
        """Show what a page rendered: the stored text and the seq it goes up to."""
        self.streams[stream] = Shown(said.seq, said.text, said.reasoning)

    def begin_empty(self, stream: str) -> None:
        """Show a stream of which nothing was seen yet."""
        self.streams.setdefault(stream, Shown())

    def apply(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "turn":
            self.turns.append(frame["stream"])
        elif kind == "error":
            self.errors.append(frame)
        elif kind != "progress":
            shown = self.streams.setdefault(frame["stream"], Shown())
            assert frame["seq"] > shown.seq, f"repeat: {frame} at {shown.seq}"
            shown.seq = frame["seq"]
            self._apply_row(shown, frame)

    def _apply_row(self, shown: Shown, frame: dict[str, Any]) -> None:
        if frame["type"] == "delta" and frame["kind"] == "text":
            shown.text += frame["text"]
        elif frame["type"] == "delta":
            shown.reasoning += frame["text"]
        elif frame["type"] == "restart":
            shown.text = shown.reasoning = ""
        elif frame["type"] == "end":
            shown.status = frame["status"]

    @property
    def positions(self) -> dict[str, int]:
        return {stream: shown.seq for stream, shown in self.streams.items()}

    def done(self, stream: str) -> bool:
        return stream in self.streams and self.streams[stream].status != "pending"
