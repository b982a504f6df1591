"""Faults inside the site's own processes, switched on from outside by a file in $CHAOS_HOME."""

from __future__ import annotations

import os
import time
from pathlib import Path

LOOK_S = 0.05


class Switch:
    """Whether a file is there; looked for at most every LOOK_S, because clocks are asked often."""

    def __init__(self, name: str) -> None:
        self._path = Path(os.environ["CHAOS_HOME"]) / name
        self._looked = 0.0
        self._on = False

    def __bool__(self) -> bool:
        now = time.monotonic()
        if now - self._looked > LOOK_S:
            self._looked = now
            self._on = self._path.exists()
        return self._on
