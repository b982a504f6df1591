"""The table of a campaign, as Markdown for docs/promises.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tests.chaos.campaign import Run
from tests.chaos.faults import FAULTS

HEAD = (
    "| Fault | Runs | Answers | Readers | Violations | Last end | Next row | Stop | Stall |\n"
    "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |\n"
)
LEGEND = (
    "Times are the worst of all runs, in seconds. Last end: from the end of the fault to the last final status. Next "
    "row: from the blow that tears a stream from its writer to the stream's next row. Stop: from sending it, to the "
    "web process that was not asked, to the end of the request to the model, where the fault is not in its way. "
    "Stall: the longest time between two frames at one reader, a silence of the model included.\n"
)


def table(runs: Sequence[Run]) -> str:
    """A line for each fault, and one for all."""
    by_fault: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_fault[run.fault].append(run)
    lines = [_line(FAULTS[name].description, by_fault[name]) for name in FAULTS if name in by_fault]
    return HEAD + "".join([*lines, _line("**All**", runs)]) + "\n" + LEGEND


def _line(title: str, runs: Sequence[Run]) -> str:
    answers, readers = sum(run.answers for run in runs), sum(run.readers for run in runs)
    judged = [run.judgement for run in runs]
    times = (
        _worst(time for one in judged for time in one.ended_s),
        _worst(time for one in judged for time in one.recovered_s),
        _worst(time for one in judged for time in one.stopped_s),
        _worst(run.stall_s for run in runs),
    )
    return f"| {title} | {len(runs)} | {answers} | {readers} | {_violations(runs)} | {' | '.join(times)} |\n"


def _violations(runs: Iterable[Run]) -> str:
    kinds = Counter(violation.kind for run in runs for violation in run.judgement.violations)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "0"


def _worst(times: Iterable[float]) -> str:
    worst = max(times, default=None)
    return "" if worst is None else f"{max(worst, 0):.1f}"


def line(run: Run) -> str:
    """One run, for those who watch."""
    judged = run.judgement
    seen = f"{run.answers} answers, {run.readers} readers"
    times = f"last end {_worst(judged.ended_s)} s, stall {run.stall_s:.1f} s"
    lines = [f"{run.number:4} {run.fault:18} {seen}, {times}: {_violations([run])} violations"]
    lines += [f"       {one.kind}: {one.where}: {one.detail}" for one in judged.violations]
    return "\n".join(lines)
