"""Conversations in a terminal: live Markdown while an answer is written, the whole of it once it has ended.

What models say goes to the terminal without control characters: they could change its settings, or what was shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from chatsite.client import Answer, Client, Refused

CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
EARLIER_TURNS = 10
FRAMES_PER_S = 12


def printable(text: str) -> str:
    return text.translate(CONTROLS)


class Writing:
    """An answer under way: as many of its last lines as the window has, and how it gets on."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._begun = time.monotonic()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        said = self._answer.text or self._answer.reasoning
        shown = Markdown(printable(said), style="" if self._answer.text else "dim")
        height = max(console.height - 3, 1)
        for line in console.render_lines(shown, options.update(height=None), pad=False)[-height:]:
            yield from line
            yield Segment.line()
        elapsed_s = time.monotonic() - self._begun
        what = "thinking" if not self._answer.text and self._answer.reasoning else "writing" if said else "waiting"
        yield Text(f"{what} {elapsed_s:.0f} s, {len(said)} characters; Ctrl-C stops", style="dim")


class Terminal:
    """One conversation, in a terminal or between pipes."""

    def __init__(self, site: Client, conversation: str, console: Console) -> None:
        self._site = site
        self._conversation = conversation
        self._console = console

    def catch_up(self) -> None:
        """Show what was said, and the rest of an answer that is being written."""
        for message in self._site.messages(self._conversation)[-EARLIER_TURNS:]:
            if message["role"] == "user":
                self._console.print(Text(f"> {printable(message['text'])}", style="bold"))
                continue
            shown = {name: message[name] for name in ("stream", "seq", "text", "reasoning", "status")}
            self.show(Answer(**shown))

    def ask(self, text: str) -> bool:
        """Ask, and show the answer; whether it is whole."""
        try:
            answer = self._site.ask(self._conversation, text)
            self.show(answer)
        except Refused as refused:
            self._console.print(Text(str(refused), style="red"))
            return False
        return answer.status == "done"

    def show(self, answer: Answer) -> None:
        """Follow an answer to its end; Ctrl-C ends it earlier."""
        if self._console.is_terminal and not answer.ended:
            with Live(Writing(answer), console=self._console, refresh_per_second=FRAMES_PER_S, transient=True):
                self._follow(answer)
        else:
            self._follow(answer)
        if sys.stdout.isatty():
            self._console.print(Markdown(printable(answer.text)))
        else:
            sys.stdout.write(answer.text + "\n")
        if answer.status != "done":
            why = answer.error["detail"] if answer.error else ""
            self._console.print(Text(f"({answer.status}) {why}", style="yellow"))

    def _follow(self, answer: Answer) -> None:
        while not answer.ended:
            try:
                for _ in self._site.follow(answer):
                    pass
            except KeyboardInterrupt:
                self._site.stop(answer)


def prompts(console: Console) -> Iterator[str]:
    """What a person types, line by line, until Ctrl-D or Ctrl-C."""
    with suppress(ImportError):
        import readline  # noqa: F401  # Makes lines editable.
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            # Not the console's, which knows nothing of lines that are edited.
            if text := input("> ").strip():
                yield text
    console.print()
