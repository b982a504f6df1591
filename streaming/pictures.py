"""Figures as columns of an SVG, laid out here and drawn by templates/admin/streaming/_columns.html.

No style and no script is in the picture: its colours are classes, which the admin's light and dark themes fill.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 480, 110
GAP = 2


@dataclass(frozen=True, slots=True)
class Segment:
    y: float
    height: float
    kind: str


@dataclass(frozen=True, slots=True)
class Column:
    x: float
    width: float
    title: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Picture:
    """`summary` says in words what the columns show, for who sees none."""

    title: str
    summary: str
    columns: tuple[Column, ...] = ()
    ticks: tuple[Tick, ...] = ()
    kinds: tuple[str, ...] = ()
    top: int = 0
    facts: list[tuple[str, str]] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT


def picture(
    title: str,
    summary: str,
    counts: Sequence[dict[str, int]],
    labels: Sequence[str],
    kinds: Iterable[str],
    *,
    ticks: Sequence[str],
    facts: list[tuple[str, str]] | None = None,
) -> Picture:
    """Columns of `counts`, each stacked from its `kinds`; `ticks` are spread evenly below them."""
    kinds = tuple(kinds)
    top = max((sum(column.values()) for column in counts), default=0)
    step = WIDTH / max(len(counts), 1)
    columns = tuple(
        Column(round(at * step, 2), round(step - GAP, 2), label, _stack(column, kinds, top))
        for at, (column, label) in enumerate(zip(counts, labels, strict=True))
    )
    return Picture(title, summary, columns, _ticks(ticks), kinds if len(kinds) > 1 else (), top, facts or [])


def _stack(column: dict[str, int], kinds: Iterable[str], top: int) -> tuple[Segment, ...]:
    segments = []
    below = 0.0
    for kind in kinds:
        if count := column.get(kind, 0):
            # What happened at all is to be seen, however much more happened elsewhere.
            height = max(count / top * HEIGHT, 1.5)
            below += height
            segments.append(Segment(round(HEIGHT - below, 2), round(height, 2), kind))
    return tuple(segments)


def _ticks(texts: Sequence[str]) -> tuple[Tick, ...]:
    last = len(texts) - 1
    anchors = {0: "start", last: "end"}
    return tuple(
        Tick(round(WIDTH * at / max(last, 1), 2), text, anchors.get(at, "middle")) for at, text in enumerate(texts)
    )


def percentile(values: Sequence[float], part: float) -> float | None:
    """The value that `part` of the sorted `values` do not exceed."""
    return values[min(int(len(values) * part), len(values) - 1)] if values else None


def bound(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """The upper bound of the bucket in which `part` of all is reached; None without any, or beyond the last bound."""
    wanted, reached = sum(counts) * part, 0
    for upper, count in zip(bounds, counts, strict=False):
        reached += count
        if reached and reached >= wanted:
            return upper
    return None


def time_text(value_s: float | None) -> str:
    if value_s is None:
        return "–"
    if value_s < 1:
        return f"{value_s * 1000:g} ms" if value_s < 0.01 else f"{value_s * 1000:.0f} ms"
    return f"{value_s:.1f} s" if value_s < 60 else f"{value_s / 60:.1f} min"
