"""Each fault once on real sites: whatever breaks, no promise does. `make chaos` does it 500 times.

Times are hardly judged here, where other tests may have the machine: what is wrong is wrong on a slow one, too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.campaign import Plan, Run, campaign
from tests.chaos.checker import Limits
from tests.chaos.faults import FAULTS
from tests.chaos.report import table

PATIENT = Limits(ended_s=60, recovered_s=60, stopped_s=30)


@pytest.fixture
def home() -> Iterator[Path]:
    """Not in pytest's own folders: PostgreSQL, which never runs as root, could not look into those of root."""
    with tempfile.TemporaryDirectory(prefix="chatsite-chaos-", ignore_cleanup_errors=True) as home:
        Path(home).chmod(0o755)
        yield Path(home)


@pytest.mark.scaled
@pytest.mark.timeout(900)
async def test_no_fault_breaks_a_promise(home: Path) -> None:
    plan = Plan(1, len(FAULTS), list(FAULTS), sites=2, ends_at=time.time() + 800, limits=PATIENT)
    runs: list[Run] = []
    await campaign(plan, home, runs.append)
    assert [violation for run in runs for violation in run.judgement.violations] == []
    assert {run.fault for run in runs} == set(FAULTS)
    assert min(run.answers for run in runs) > 0
    assert table(runs).count("\n| ") == len(FAULTS) + 2
