"""A wall clock that jumps 30 s ahead while `ahead` is on: python -m tests.chaos.clock manage.py worker

It covers what Python code asks: time.time, time.time_ns and datetime.now, utcnow, today. It leaves alone the monotonic
clocks, which no one can set, and extensions in C or Rust that ask the kernel themselves.
"""

from __future__ import annotations

import datetime
import runpy
import sys
import time
from typing import Any

from tests.chaos.switches import Switch

AHEAD_S = 30


def set_clock_ahead() -> None:
    """Put clocks that `ahead` sets forward in the place of Python's, before anybody imports those."""
    ahead, time_s, time_ns = Switch("ahead"), time.time, time.time_ns
    real = datetime.datetime

    class Meta(type(real)):  # type: ignore[misc]
        """Every other datetime of this process, one read from the database say, is one all the same."""

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

    class Ahead(real, metaclass=Meta):  # type: ignore[valid-type,misc]
        __slots__ = ()  # Extensions check that it is as large as the real one.

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return real.now(tz) + datetime.timedelta(seconds=AHEAD_S if ahead else 0)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now(datetime.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return cls.now()

    time.time = lambda: time_s() + (AHEAD_S if ahead else 0)
    time.time_ns = lambda: time_ns() + (AHEAD_S * 10**9 if ahead else 0)
    datetime.datetime = Ahead  # type: ignore[misc]


if __name__ == "__main__":
    set_clock_ahead()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
