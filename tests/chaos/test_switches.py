"""The faults inside the site's processes do happen, while they are switched on and only then."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.layer import LossyLayer
from tests.servers import ROOT

CLOCKS = """
import datetime, time
from django.utils import timezone
assert isinstance(timezone.now(), datetime.datetime)
print(time.time(), time.time_ns() / 1e9, datetime.datetime.now().timestamp(), timezone.now().timestamp())
"""


@pytest.mark.parametrize("ahead_s", [0, 30])
def test_every_wall_clock_of_the_process_is_ahead(tmp_path: Path, ahead_s: int) -> None:
    if ahead_s:
        (tmp_path / "ahead").touch()
    (tmp_path / "clocks.py").write_text(CLOCKS)
    command = [sys.executable, "-W", "error", "-m", "tests.chaos.clock", str(tmp_path / "clocks.py")]
    environment = os.environ | {"CHAOS_HOME": str(tmp_path), "DJANGO_SETTINGS_MODULE": "chatsite.settings"}
    before = (tmp_path / "clocks.py").stat().st_mtime
    said = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    clocks = [float(clock) - before for clock in said.split()]
    assert len(clocks) == 4
    assert all(ahead_s - 1 < clock < ahead_s + 20 for clock in clocks)


async def test_every_third_message_is_lost_while_the_layer_drops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOS_HOME", str(tmp_path))
    numbers = count(1)

    class Inner:
        async def receive(self, channel: str) -> dict[str, Any]:
            return {"number": next(numbers)}

    monkeypatch.setattr(LossyLayer, "_get_layer", lambda self: Inner())
    (tmp_path / "drop").touch()
    layer = LossyLayer(hosts=["redis://127.0.0.1:1/0"])
    assert [(await layer.receive("hub"))["number"] for _ in range(5)] == [1, 2, 4, 5, 7]
    (tmp_path / "drop").unlink()
    calm = LossyLayer(hosts=["redis://127.0.0.1:1/0"])
    assert [(await calm.receive("hub"))["number"] for _ in range(3)] == [8, 9, 10]
