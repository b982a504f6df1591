"""How stored text becomes page text: the one place between a message and its HTML (static/js/reply.js mirrors it)."""

from collections import OrderedDict
from threading import Lock
from typing import Any

from django import template
from django.conf import settings
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from streaming.models import LIVE, Status, Stream
from streaming.rendering import render
from streaming.unfinished import render_live

register = template.Library()
CUT = ("length", "content_filter")
NOTES = (*Status.values, "retry", *CUT)


class Renderings:
    """The HTML of finished answers, which never changes: the ones used last, up to so many characters."""

    def __init__(self, limit_chars: int) -> None:
        self._limit_chars = limit_chars
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._chars = 0
        self._lock = Lock()

    def of(self, stream: str, text: str) -> str:
        with self._lock:
            if stream in self._kept:
                self._kept.move_to_end(stream)
                return self._kept[stream]
        html = render(text)
        with self._lock:
            if stream not in self._kept:
                self._kept[stream] = html
                self._chars += len(html)
            while self._chars > self._limit_chars:
                self._chars -= len(self._kept.popitem(last=False)[1])
        return html


renderings = Renderings(limit_chars=16_000_000)


@register.filter
def answer(said: dict[str, Any] | None) -> SafeString:
    """The HTML of a reply as far as it is known; nothing in the template for the script."""
    if not said:
        return SafeString()
    live = said["status"] in LIVE
    return mark_safe(render_live(said["text"]) if live else renderings.of(said["stream"], said["text"]))


@register.filter(is_safe=True)
def exactly(text: str) -> SafeString:
    """`text` escaped so that the page's text equals it to the character: a parser would turn a bare CR into LF."""
    return mark_safe(escape(text).replace("\r", "&#13;"))


@register.filter
def note(stream: Stream) -> str:
    """Which note stands under a reply (templates/conversations/_note.html): its status, or why a done one is short."""
    cut = stream.status == Status.DONE and stream.finish_reason in CUT
    return stream.finish_reason if cut else stream.status


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
