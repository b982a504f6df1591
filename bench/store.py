"""Where results and the data of what is measured lie: var/bench, on the disk that the checkout is on."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from tests.servers import ROOT, warden

FOLDER = ROOT / "var/bench"


@contextmanager
def home() -> Iterator[Path]:
    """A folder for a subject's data and logs, gone afterwards."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="run-", dir=FOLDER))
    warden.remove(path)
    path.chmod(0o755)  # PostgreSQL runs as a user of its own if this one is root.
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return {
        "cpus": psutil.cpu_count(),
        "cpu": model,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "pace_before_ms": pace_ms(),
    }


def pace_ms() -> float:
    """What a fixed piece of work takes, the best of five: to follow numbers all over the memory, as a process whose
    caches are cold does. The same virtual machine may be twice as fast an hour later."""
    order = list(range(1_000_000))
    random.Random(0).shuffle(order)
    took_s = []
    for _ in range(5):
        began, at = time.perf_counter(), 0
        for _ in range(300_000):
            at = order[at]
        took_s.append(time.perf_counter() - began)
    return round(min(took_s) * 1000, 1)


def commit() -> str:
    """The commit that was measured; a `+` if the tree had changes."""
    git = ["git", "describe", "--always", "--abbrev=8", "--dirty=+"]
    return subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def save(measurement: str, records: list[dict[str, Any]], of: dict[str, Any]) -> Path:
    """Write one measurement's records; an earlier one of the same name is replaced."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{measurement}.json"
    told = {"at": datetime.now(UTC).isoformat(timespec="minutes"), "commit": commit(), "machine": of}
    path.write_text(json.dumps({"measurement": measurement, **told, "records": records}, indent=1))
    return path


def load(measurement: str, published: Path) -> dict[str, Any] | None:
    """What was measured on this machine; what was `published` where that was not."""
    for folder in (FOLDER, published):
        path = folder / f"{measurement}.json"
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text())
            return found
    return None


def publish(found: dict[str, Any], folder: Path) -> None:
    """Keep results beside the page that shows them, a line for each record."""
    records = ",\n  ".join(json.dumps(record) for record in found["records"])
    told = json.dumps({name: value for name, value in found.items() if name != "records"})
    (folder / f"{found['measurement']}.json").write_text(f'{told[:-1]}, "records": [\n  {records}\n]}}\n')
