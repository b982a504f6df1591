"""`manage.py worker`: generate answers beside the web processes, as many at once as STREAM_CONCURRENCY says."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Generates answers until SIGTERM or Ctrl-C, then hands back what is unfinished. Start as many as needed."
    # Not those of the pages' URLs, which load all views: a sixth of the time until a killed worker is back.
    requires_system_checks = ["chatsite"]

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.STREAM_ENGINE != "worker":
            raise CommandError(
                f"STREAM_ENGINE is {settings.STREAM_ENGINE!r}: the web processes generate, and a worker would have "
                "nothing to do. Workers need PostgreSQL (DATABASE_URL) and STREAM_ENGINE=worker, its default there."
            )
        from streaming import worker

        runner()(worker.main())


def runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    """uvloop's if it is there, as with uvicorn: with 100 answers at once the median reader is 10 % less behind."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run
