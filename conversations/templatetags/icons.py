"""Icons on the pages: `{% icon "send" %}` becomes templates/icons/send.svg once, when its template is compiled."""

from __future__ import annotations

from django import template
from django.conf import settings
from django.template.base import Parser, TextNode, Token

register = template.Library()


@register.tag
def icon(parser: Parser, token: Token) -> TextNode:
    name = token.split_contents()[1].strip('"')
    return TextNode((settings.BASE_DIR / "templates" / "icons" / f"{name}.svg").read_text())
