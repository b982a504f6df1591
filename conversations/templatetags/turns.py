"""How stored text becomes page text: the one place between a message and its HTML (static/js/reply.js mirrors it)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from django import template
from django.conf import settings
from django.template import Context, Engine
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from conversations.models import Message
from streaming.models import LIVE, Status, Stream
from streaming.rendering import render
from streaming.unfinished import render_live

register = template.Library()
CUT = ("length", "content_filter")
NOTES = (*Status.values, "retry", *CUT)
KEPT_CHARS = 16_000_000


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
    """A message on the page. One that has ended is rendered once for all readers: only its neighbours may change."""
    mine = bool(context.get("mine"))
    # The template itself is in the key, so that another one takes effect where templates are reloaded.
    form = Engine.get_default().get_template(f"conversations/_{'reply' if message.stream else 'prompt'}.html")
    key = (form, said["id"], tuple(said["branches"]), mine)
    html = kept.get(key)
    if html is None:
        html = form.render(Context({"said": said, "mine": mine, **foot(message.stream)}))
        if said["status"] not in LIVE:
            kept.add(key, html)
    return mark_safe(html)  # nosec B308  # As a template rendered it.


def foot(stream: Stream | None) -> dict[str, Any]:
    """What stands under a reply (templates/conversations/_note.html)."""
    if stream is None:
        return {}
    tokens, detail = (stream.usage or {}).get("completion_tokens"), (stream.error or {}).get("detail")
    return {"state": note(stream), "detail": detail, "tokens": tokens, "attempt": stream.attempt}


def note(stream: Stream) -> str:
    """Which note stands there: the reply's status, or why a done one is short."""
    cut = stream.status == Status.DONE and stream.finish_reason in CUT
    return stream.finish_reason if cut else stream.status


@register.filter
def answer(said: dict[str, Any] | None) -> SafeString:
    """The HTML of a reply as far as it is known; nothing in the template for the script."""
    if not said:
        return SafeString()
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
def place(said: dict[str, Any] | None) -> dict[str, Any]:
    """Which of the messages in its place one is, and the ids of its neighbours; alone in a template for the script."""
    branches = said["branches"] if said else [""]
    at = branches.index(said["id"]) if said else 0
    before, after = "" if at == 0 else branches[at - 1], "".join(branches[at + 1 : at + 2])
    return {"at": at + 1, "of": len(branches), "before": before, "after": after}


@register.simple_tag
def notes() -> tuple[str, ...]:
    """Every note there is, for the script to clone."""
    return NOTES
