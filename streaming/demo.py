"""What the demo model says: fixed texts chosen by words in the question, so that the whole site works without a model.

Together they exercise what an answer can hold: paragraphs, lists, code, tables, emoji, long and unpunctuated text.
"""

from __future__ import annotations

import re
from typing import Any

from streaming.completions import storable
from streaming.frames import REASONING, TEXT

QUOTE_MAX_CHARS = 200
LONG_WORDS = 600
LONG_MAX_WORDS = 20_000
# A token is rarely longer; scripts without spaces would otherwise come as one piece.
PIECE = re.compile(r"\s*\S{1,12}|\s+")
LETTERS_PER_TOKEN = 4

GREETING = (
    "I am the demo model of this site: no language model is configured, so this answer is a fixed text. "
    "Set OPENAI_API_KEY or OPENAI_BASE_URL to talk to a real one."
)
INVITATION = (
    "Reload the page, close the tab or open a second one while I speak: the answer goes on. "
    "Ask me for a list, some code, a table, emoji, something long, plain words, or to think first."
)
LIST = """\
A list, with one inside it:

1. Ask something.
2. Watch the answer arrive:
   - word by word,
   - in every tab you have open,
   - also after a reload.
3. Ask the next thing.

- [x] what was seen is saved
- [ ] what comes next"""
CODE = """\
Some code:

```python
def greet(name: str) -> str:
    \"\"\"Characters that need care: <b>, &amp;, 'quotes' and \\\\n.\"\"\"
    return f"Hello, {name}!"


print(greet("world"))
```

and a line of it in the text: `print(1 < 2 and "yes")`."""
TABLE = """\
A table:

| Surface | Carries | Position |
| :--- | :--- | ---: |
| WebSocket | frames | `seq` |
| Server-sent events | the same frames | `Last-Event-ID` |
| JSON API | rows | `after` |"""
EMOJI = """\
Emoji, from one code point to several: 🙂 🚀 👍🏽 🇪🇺 👩‍💻 👨‍👩‍👧‍👦 ❤️‍🔥, and letters of other scripts: \
Grüße, Ελληνικά, Привет, שלום, مرحبا, हिन्दी, 你好世界, こんにちは, 안녕하세요."""
PLAIN = (
    "this answer has neither punctuation nor line breaks it just goes on and on one word after the other like someone "
    "thinking aloud and whoever saves text only at the end of a sentence would save nothing of it until the very last "
    "word has come which would be far too late for anyone who reloads the page somewhere in the middle of it"
)
LONG = (
    "Every word you read here was committed to the database before it was sent to you. "
    "If the connection breaks, the page asks for what follows the last position it has, and nothing is missing. "
    "If the server dies, another one takes over or says honestly that the answer was interrupted. "
)
THOUGHTS = (
    "The question asks me to think, so this is what visible reasoning looks like. First I read the question. "
    "Then I choose one of my fixed texts by the words in it. That was not hard."
)
SECTIONS = {"list": LIST, "code": CODE, "table": TABLE, "emoji": EMOJI}


def question(request: dict[str, Any]) -> str:
    """The text of the last user message, whatever shape its content has."""
    messages = request.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            return storable(_words(message.get("content")))
    return ""


def deltas(request: dict[str, Any]) -> list[tuple[str, str]]:
    """The whole answer as (kind, text) pieces of about a word; the same question always gets the same answer."""
    asked = question(request)
    thoughts = THOUGHTS if _asks_for("think", asked) else ""
    return [(REASONING, piece) for piece in PIECE.findall(thoughts)] + [
        (TEXT, piece) for piece in PIECE.findall(answer(asked))
    ]


def usage(request: dict[str, Any], tokens: int) -> dict[str, int]:
    """An estimate, in the shape of OpenAI's usage."""
    messages = request.get("messages")
    heard = sum(len(_words(message)) for message in messages) if isinstance(messages, list) else 0
    prompt = heard // LETTERS_PER_TOKEN + 1
    return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}


def answer(asked: str) -> str:
    if _asks_for("plain", asked) or "punctuation" in asked.lower():
        return f"this is the demo model {PLAIN}"
    if _asks_for("long", asked):
        return f"{GREETING}\n\n{_long(asked)}"
    wanted = [text for word, text in SECTIONS.items() if _asks_for(word, asked)]
    return "\n\n".join([GREETING, _echo(asked), *(wanted or (LONG.strip(), EMOJI)), INVITATION])


def _asks_for(word: str, asked: str) -> bool:
    return re.search(rf"\b{word}", asked, re.IGNORECASE) is not None


def _echo(asked: str) -> str:
    """The beginning of the question on one line, as it was typed."""
    line = " ".join(asked.split()) or "…"
    if len(line) > QUOTE_MAX_CHARS:
        line = line[:QUOTE_MAX_CHARS] + "…"
    return f"You said: {line}"


def _long(asked: str) -> str:
    """Numbered paragraphs of about as many words as the question names, up to the end of a sentence."""
    named = re.search(r"\d{1,6}", asked)
    count = min(int(named[0]) if named else LONG_WORDS, LONG_MAX_WORDS)
    words = LONG.split()
    while not words[(count - 1) % len(words)].endswith("."):
        count += 1  # An answer that ends in mid-sentence looks cut.
    paragraphs = range(-(-count // len(words)))
    return "\n\n".join(f"**{number + 1}.** " + " ".join(words[: count - number * len(words)]) for number in paragraphs)


def _words(content: Any) -> str:
    """All text in a message or its content: a string, or parts with a `text`."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return _words(content.get("content") or content.get("text"))
    return " ".join(_words(part) for part in content) if isinstance(content, list) else ""
