"""One run (talks, one fault at a random moment, a judgement), and many of them on several sites at a time."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.chaos.checker import Judgement, Limits, Stop, Story, Violation, judge
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.readers import Talk
from tests.chaos.rig import Rig, running

TALKS = 4
# What a writer that was given up long ago might still add, comes soon after it goes on.
LINGER_S = 0.5
STRAGGLE_S = 2.0
# Short, so that a run is; a part of the runs is made with the default.
LEASE_S = 3.0
DEFAULT_LEASE_S = 6.0
DEFAULT_PART = 0.2


@dataclass
class Run:
    """What became of one run."""

    fault: str
    number: int
    lease_s: float
    judgement: Judgement
    answers: int
    readers: int
    stall_s: float


async def run(rig: Rig, fault: Fault, number: int, seed: int, limits: Limits) -> Run:
    """Break the site once, while people talk, and judge what came of it."""
    rng = random.Random(f"{seed}.{number}.{fault.name}")
    await rig.healthy()
    await rig.asked()
    talks = await rig.talks(rng, f"{seed}.{number}", TALKS, fault.lasts_s, stops=rng.random() < 0.4)
    talking = asyncio.create_task(_all(talks), name="talks")
    await asyncio.sleep(rng.uniform(0.5, 3))
    await fault.blow(rig, rng)
    over_at = time.time()
    await asyncio.wait([talking], timeout=limits.ended_s + STRAGGLE_S)
    await asyncio.sleep(LINGER_S)
    talking.cancel()
    outcome = (await asyncio.gather(talking, return_exceptions=True))[0]
    if isinstance(outcome, Exception):
        raise outcome
    story = await tell(rig, talks, fault, over_at)
    judgement = await asyncio.to_thread(judge, story, limits)
    readers = [reader for talk in talks for reader in talk.readers]
    made = Run(fault.name, number, rig.lease_s, judgement, len(story.stored), len(readers), _stall(talks))
    if judgement.violations:
        keep(rig.home / f"run-{number}-{fault.name}.json", story, made)
    return made


async def _all(talks: list[Talk]) -> None:
    async with asyncio.TaskGroup() as group:
        for talk in talks:
            group.create_task(talk.run())


async def tell(rig: Rig, talks: list[Talk], fault: Fault, over_at: float) -> Story:
    """All that can be known from outside."""
    stored = await rig.stored(talks)
    return Story(
        prompts=[talk.prompt for talk in talks],
        over_at=over_at,
        asked=await rig.asked(),
        stored=stored,
        seen=[reader.seen(talk.stream) for talk in talks for reader in talk.readers],
        struck=sorted(rig.struck & {one.stream for one in stored}),
        struck_at=rig.struck_at,
        stops=[Stop(talk.stream, talk.stopped_at, fault.stops) for talk in talks if talk.stopped_at is not None],
        model_is_well=fault.model_is_well,
    )


def _stall(talks: list[Talk]) -> float:
    return max((reader.stall_s for talk in talks for reader in talk.readers), default=0.0)


def keep(path: Path, story: Story, made: Run) -> None:
    """Write down a run that went wrong, whole."""
    path.write_text(json.dumps({"run": asdict(made), "story": asdict(story)}, indent=1, default=str))


@dataclass(frozen=True)
class Plan:
    """`runs` faults, evenly many of each in `faults`, in an order that the seed decides."""

    seed: int
    runs: int
    faults: Sequence[str]
    sites: int
    ends_at: float
    limits: Limits

    def turns(self) -> list[tuple[int, str]]:
        names = [self.faults[number % len(self.faults)] for number in range(self.runs)]
        random.Random(self.seed).shuffle(names)
        return list(enumerate(names, 1))


async def campaign(plan: Plan, home: Path, note: Callable[[Run], None]) -> None:
    """All runs, first those with short leases; stops early when its time is over. `note` is told of each."""
    turns = deque(plan.turns())
    for lease_s, left in ((LEASE_S, int(plan.runs * DEFAULT_PART)), (DEFAULT_LEASE_S, 0)):
        part = deque(turns.popleft() for _ in range(len(turns) - left))
        async with asyncio.TaskGroup() as group:
            for site in range(min(plan.sites, len(part))):
                group.create_task(_work(plan, part, home / f"site-{site}", lease_s, note))


async def _work(
    plan: Plan, turns: deque[tuple[int, str]], home: Path, lease_s: float, note: Callable[[Run], None]
) -> None:
    """Run what is left on one site; a site that does not recover is a violation, and replaced."""
    while turns and time.time() < plan.ends_at:
        turn: tuple[int, str] | None = None
        try:
            async with running(home, lease_s) as rig:
                while turns and time.time() < plan.ends_at:
                    turn = turns.popleft()
                    note(await run(rig, FAULTS[turn[1]], turn[0], plan.seed, plan.limits))
        except Exception as error:
            number, name = turn or turns.popleft()
            broken = Judgement([Violation("broken", "site", repr(error))])
            note(Run(name, number, lease_s, broken, 0, 0, 0))
