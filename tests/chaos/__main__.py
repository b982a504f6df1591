"""`make chaos`: RUNS faults in the order of SEED, on SITES sites at a time, at most MINUTES long; FAULT chooses one.

Prints a line for each run, and in the end a table that it also writes to var/chaos/table.md.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from environs import Env

from tests.chaos.campaign import DEFAULT_LEASE_S, DEFAULT_PART, LEASE_S, Plan, Run, campaign
from tests.chaos.checker import Limits
from tests.chaos.faults import FAULTS
from tests.chaos.report import line, table
from tests.servers import ROOT

HOME = ROOT / "var/chaos"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def plan() -> Plan:
    """What the environment asks for."""
    env = Env()
    seed = env.int("SEED", random.randrange(10**6))
    fault = env.str("FAULT", "")
    if fault and fault not in FAULTS:
        sys.exit(f"FAULT is one of {', '.join(FAULTS)}")
    ends_at = time.time() + 60 * env.float("MINUTES", 90)
    return Plan(seed, env.int("RUNS", 500), [fault] if fault else list(FAULTS), env.int("SITES", 2), ends_at, Limits())


def document(plan: Plan, runs: list[Run], began: float) -> str:
    minutes = (time.time() - began) / 60
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, seed {plan.seed}: {len(runs)} of {plan.runs} runs in {minutes:.0f} minutes "
        f"on a machine with {os.cpu_count()} cores, {plan.sites} sites at a time; leases of {LEASE_S:g} s, in the last "
        f"{DEFAULT_PART:.0%} of the runs {DEFAULT_LEASE_S:g} s.\n\n{table(runs)}"
    )


def main() -> None:
    chosen, began = plan(), time.time()
    for old in HOME.glob("site-*/run-*.json"):
        old.unlink()
    HOME.mkdir(parents=True, exist_ok=True)
    say(f"SEED={chosen.seed} RUNS={chosen.runs}")
    runs: list[Run] = []

    def note(run: Run) -> None:
        runs.append(run)
        say(line(run))

    asyncio.run(campaign(chosen, HOME, note))
    found = document(chosen, runs, began)
    Path(HOME / "table.md").write_text(found)
    say(f"\n{found}")
    if any(run.judgement.violations for run in runs):
        sys.exit("Some promise was broken; the whole story of each such run is in var/chaos/site-*/run-*.json.")


if __name__ == "__main__":
    main()
