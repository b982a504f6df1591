"""How stored text becomes page text: the one place between a message and its HTML, at first and as it goes on."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import lru_cache
from math import ceil
from typing import Any

from django import template
from django.conf import settings
from django.template import Context, Engine
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from conversations.models import Message, Role
from streaming.frames import END, RESTART, RETRY, Row
from streaming.models import LIVE, Chunk, Status, Stream
from streaming.rendering import render
from streaming.unfinished import render_live

register = template.Library()
CUT = ("length", "content_filter")
KEPT_CHARS = 16_000_000
KEPT_NOTES = 1000


class Kept:
    """The HTML of messages that will not change any more, up to so many characters: beyond, it begins anew."""

    def __init__(self, limit_chars: int) -> None:
        self._limit_chars = limit_chars
        self._html: dict[Hashable, str] = {}
        self._chars = 0

    def get(self, key: Hashable) -> str | None:
        return self._html.get(key)

    def add(self, key: Hashable, html: str) -> None:
        # Threads may get in each other's way here: the count is off by a message then, and no page.
        if self._chars > self._limit_chars:
            self._html, self._chars = {}, 0
        self._html[key] = html
        self._chars += len(html)


kept = Kept(KEPT_CHARS)


@register.simple_tag(takes_context=True)
def turn(context: Context, message: Message, said: dict[str, Any]) -> SafeString:
    """A message on the page."""
    return html_of(said, foot(message.stream, said["seq"]) if message.stream else {}, mine=bool(context.get("mine")))


def begun(turn: dict[str, Any], *, mine: bool) -> dict[str, Any]:
    """A `turn` frame for pages: HTML in place of text. Its reply is as before its first row, whatever it is by now."""
    prompt, reply = turn["prompt"], turn["reply"]
    if reply["status"] != Status.PENDING:
        reply = reply | {"status": Status.STREAMING.value}
    return turn | {"prompt": _shown(prompt, {}, mine), "reply": _shown(reply, {"state": reply["status"]}, mine)}


def _shown(said: dict[str, Any], foot: dict[str, Any], mine: bool) -> dict[str, Any]:
    textless = {name: value for name, value in said.items() if name not in ("text", "reasoning")}
    return textless | {"html": html_of(said, foot, mine=mine)}


def html_of(said: dict[str, Any], foot: dict[str, Any], *, mine: bool) -> SafeString:
    """A message's HTML. One that has ended, or not begun, is rendered once for all: only its neighbours change."""
    # The template itself is in the key, so that another one takes effect where templates are reloaded.
    form = Engine.get_default().get_template(
        f"conversations/_{'prompt' if said['role'] == Role.USER else 'reply'}.html"
    )
    key = (form, said["id"], tuple(said["branches"]), mine, said["status"], *foot.values())
    html = kept.get(key) if (fixed := said["status"] not in LIVE or said["seq"] == 0) else None
    if html is None:
        html = form.render(Context({"said": said, "mine": mine, **foot})).strip()
        if fixed:
            kept.add(key, html)
    return mark_safe(html)  # nosec B308  # As a template rendered it.


def foot(stream: Stream, seq: int) -> dict[str, Any]:
    """What stands under a reply that is shown up to `seq` (templates/conversations/_note.html)."""
    newest = Chunk.objects.rows(stream.pk, seq - 1)[:1] if stream.status in LIVE else []
    return told(newest) or (
        ended(stream.status, stream.finish_reason, stream.usage, stream.error) | {"attempt": stream.attempt}
    )


def ended(status: str, finish_reason: str | None, usage: Any, error: Any) -> dict[str, Any]:
    """Which note stands there: the reply's status, or why a done one is short; and what it tells."""
    cut = status == Status.DONE and finish_reason in CUT
    tokens = (usage or {}).get("completion_tokens")
    told = {"detail": (error or {}).get("detail"), "tokens": tokens if isinstance(tokens, int) else None}
    return {"state": finish_reason if cut else status} | told


def told(rows: Iterable[Row]) -> dict[str, Any]:
    """What stands there behind these rows; nothing if none of them changes it."""
    found: dict[str, Any] = {}
    for row in rows:
        data = row.data or {}
        if row.kind == END:
            found = ended(data["status"], data.get("finish_reason"), data.get("usage"), data.get("error"))
        elif row.kind == RETRY:
            about = {name: data.get(name) for name in ("attempt", "of", "reason")}
            found = {"state": RETRY, **about, "wait": ceil(data.get("wait_s", 0))}
        elif row.kind == RESTART:
            found = {"state": Status.STREAMING.value, "attempt": data.get("attempt")}
        elif found:
            found["state"] = Status.STREAMING.value
    return found


def note(rows: Iterable[Row]) -> str | None:
    """The HTML of the note behind these rows, if one of them changes it."""
    found = told(rows)
    return _note(**found) if found else None


@lru_cache(maxsize=KEPT_NOTES)
def _note(**told: Hashable) -> str:
    return Engine.get_default().get_template("conversations/_note.html").render(Context(told)).strip()


@register.filter
def answer(said: dict[str, Any]) -> SafeString:
    """The HTML of a reply as far as it is known."""
    html = (render_live if said["status"] in LIVE else render)(said["text"])
    return mark_safe(html)  # nosec B308  # As the sanitising renderer made it.


@register.filter(is_safe=True)
def exactly(text: str) -> SafeString:
    """`text` escaped so that the page's text equals it to the character: a parser would turn a bare CR into LF."""
    return mark_safe(escape(text).replace("\r", "&#13;"))  # nosec B308  # Escaped right there.


@register.simple_tag
def models() -> list[str]:
    """The models one can choose from."""
    offered: list[str] = settings.LLM_MODELS
    return offered


@register.simple_tag
def place(said: dict[str, Any]) -> dict[str, Any]:
    """Which of the messages in its place one is, and the ids of its neighbours."""
    branches = said["branches"]
    at = branches.index(said["id"])
    before, after = "" if at == 0 else branches[at - 1], "".join(branches[at + 1 : at + 2])
    return {"at": at + 1, "of": len(branches), "before": before, "after": after}
