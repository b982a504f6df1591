"""Whether the disk stands still: PostgreSQL's commits wait for it, and those who share a virtual machine's host use it.

Measured on such a machine while nothing else ran: a page takes 0.25 ms to be safe, and 35 to 130 ms every ten seconds.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PAGE = bytes(8192)
PAGES = 128
EVERY_S = 0.02
LONG_S = 0.01

_make_safe = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter.


class Disk:
    """Writes a page to a file of its own, fifty times a second, as long as it is entered. `still` is then the part of
    that time in which pages waited for long: a little less than the disk stood still. What the subject itself keeps the
    disk busy with counts as well."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._file.write(PAGE * PAGES)  # So that later only pages change, and not what is known of the file.
        self._file.flush()
        os.fsync(self._file.fileno())
        self._left = threading.Event()
        self._thread = ThreadPoolExecutor(1, "disk")

    def __enter__(self) -> Disk:
        self._entered = time.monotonic()
        self._watching = self._thread.submit(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.shutdown()
        self._file.close()
        self.still = self._watching.result() / (time.monotonic() - self._entered)

    def _watch(self) -> float:
        """For how many seconds pages waited for long, until this is left."""
        still_s, at = 0.0, 0
        while not self._left.wait(EVERY_S):
            began = time.monotonic()
            os.pwrite(self._file.fileno(), PAGE, at * len(PAGE))
            _make_safe(self._file.fileno())
            took_s = time.monotonic() - began
            still_s += took_s if took_s > LONG_S else 0
            at = (at + 1) % PAGES
        return still_s
