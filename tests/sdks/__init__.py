"""Runs scripts with the openai package of this environment, or with an older one that is installed beside it.

The older one is pinned in openai1.txt and kept in var/; nothing has to be installed by hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.columns import ROOT

FOLDER = Path(__file__).resolve().parent
PINS = FOLDER / "openai1.txt"
INSTALL_S = 300
CURRENT, OLDER = "current", "1.x"


def installed() -> Path:
    """The folder with the older package, which is made if it is not there."""
    there = ROOT / "var" / f"openai1-{hashlib.sha256(PINS.read_bytes()).hexdigest()[:12]}"
    if not there.exists():
        # Renamed once it is whole: another run may be doing the same.
        own = there.with_name(f"{there.name}.{os.getpid()}")
        install = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, "-r", str(PINS), "--target", str(own)], timeout=INSTALL_S, check=True)
        try:
            own.rename(there)
        except OSError:
            shutil.rmtree(own)
    return there


def run(script: str, line: str, *arguments: str, deadline_s: float = 60) -> dict[str, Any]:
    """What a script of this folder prints as JSON, run with the CURRENT or the OLDER package."""
    path = {} if line == CURRENT else {"PYTHONPATH": str(installed())}
    command = [sys.executable, str(FOLDER / script), *arguments]
    done = subprocess.run(
        command, env=os.environ | path, capture_output=True, text=True, timeout=deadline_s, check=False
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said
