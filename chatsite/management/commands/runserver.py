"""`manage.py runserver` serves websockets too, and runs the engine: it is daphne's.

Daphne as an installed app would do the same, and cost each other command and process a third of its start.
"""

from daphne.management.commands.runserver import Command  # type: ignore[import-untyped]

__all__ = ["Command"]
