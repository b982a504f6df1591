"""A site's processes with a stopwatch on each commit of the journal, for bench/storage.py.

    python -m uvicorn bench.timed:application        python -m bench.timed worker

BENCH_TIMES names the folder for a file from each process, a line a commit: milliseconds, streams, rows.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from chatsite.asgi import application
from streaming.journal import Journal
from streaming.models import Entry

__all__ = ["application"]
log = Path(os.environ["BENCH_TIMES"], f"{os.getpid()}.commits").open("w", buffering=1)  # noqa: SIM115  It is closed with the process.
commit = Journal._commit


async def timed(self: Journal, entries: list[Entry]) -> Any:
    began = time.perf_counter()
    lost = await commit(self, entries)
    took_ms = (time.perf_counter() - began) * 1000
    log.write(f"{took_ms:.4f} {len(entries)} {sum(len(entry.rows) for entry in entries)}\n")
    return lost


Journal._commit = timed  # type: ignore[method-assign]

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", *sys.argv[1:]])
