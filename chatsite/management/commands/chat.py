"""`manage.py chat`: converse in a terminal, with this checkout's site or any other."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console

from chatsite.client import Client, Refused, Unreachable
from chatsite.ownsite import own_site, own_token
from chatsite.terminal import Terminal, prompts

NEWEST = "newest"


def is_terminal() -> bool:
    """Whether somebody types, and sees what is printed."""
    return sys.stdin.isatty() and sys.stdout.isatty()


class Command(BaseCommand):
    help = (
        "Converse in a terminal. Without --url a site runs on this checkout's database for as long as the command. "
        "What comes through a pipe is one prompt, and its answer is all that is printed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", default="", help="A site that runs already, e.g. https://chat.example.org")
        parser.add_argument("--token", default="", help="For --url. Without one a guest account is made.")
        parser.add_argument("--user", default="terminal", help="Without --url: who you are; made if need be.")
        parser.add_argument("--model", default="", help="Of a new conversation; the site's first if left out.")
        parser.add_argument(
            "--resume",
            nargs="?",
            const=NEWEST,
            default="",
            metavar="ID",
            help="Go on with the newest conversation, or this.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # Notes go beside the answer, which may be read by another program.
        console = Console(stderr=not sys.stdout.isatty())
        with ExitStack() as stack:
            try:
                site = stack.enter_context(self.site(stack, console, options))
                terminal = Terminal(site, self.conversation(site, options), console)
                if options["resume"] and is_terminal():
                    terminal.catch_up()
                whole = self.converse(terminal, console)
            except (Refused, Unreachable) as error:
                raise CommandError(str(error)) from error
        if not whole:
            sys.exit(1)

    def site(self, stack: ExitStack, console: Console, options: dict[str, Any]) -> Client:
        if not options["url"]:
            token = stack.enter_context(own_token(options["user"]))
            return Client(stack.enter_context(own_site()), token)
        site = Client(options["url"], options["token"])
        if not options["token"]:
            console.print(f"You are a guest. To come back: --token {site.visit()}", style="dim")
        return site

    def conversation(self, site: Client, options: dict[str, Any]) -> str:
        if options["resume"] == NEWEST:
            if newest := site.conversations()[:1]:
                return str(newest[0]["id"])
        elif options["resume"]:
            return str(options["resume"])
        return site.begin(**({"model": options["model"]} if options["model"] else {}))

    def converse(self, terminal: Terminal, console: Console) -> bool:
        """Whether everything that was asked through a pipe has been answered."""
        if not is_terminal():
            return terminal.ask(sys.stdin.read())
        for text in prompts(console):
            terminal.ask(text)
        return True
