"""What a conversation is called before anybody names it: a rule on its first prompt, without asking a model."""

from __future__ import annotations

import re

TITLE_CHARS = 60
FENCE = re.compile(r"^(```|~~~).*?(^\1|\Z)", re.MULTILINE | re.DOTALL)
MARKUP = re.compile(r"^([#>*+-]+\s+|\d+[.)]\s+|\[.\]\s+)+|^(```|~~~).*|\*{2,}|`")
SENTENCE = re.compile(r"(.{12,}?[.!?…])\s")


def title_from(text: str) -> str:
    """The first line that says something, without its Markdown; of a long one its first sentence, else cut at a word.

    Code is passed over when anything else was said.
    """
    lines = (line for part in (FENCE.sub("", text), text) for line in part.splitlines())
    titles = (" ".join(MARKUP.sub("", line.strip()).split()) for line in lines)
    title = next((title for title in titles if any(map(str.isalnum, title))), text.strip()[: TITLE_CHARS + 1])
    if len(title) <= TITLE_CHARS:
        return title
    if sentence := SENTENCE.match(title[: TITLE_CHARS + 1]):
        return sentence[1].rstrip(".")
    return title[:TITLE_CHARS].rsplit(" ", 1)[0].rstrip(",;:") + "…"
