"""Two kinds of picture, written as SVG by hand: lines over a logarithmic scale, and bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 760
LEFT = 60
RIGHT = 210
TOP = 44
ROW = 26
PLOT = 300
COLORS = (
    "#0b6bcb",
    "#c4320a",
    "#1f7a1f",
    "#7d3ac1",
    "#b54708",
    "#0e7490",
    "#be185d",
    "#525252",
    "#a16207",
    "#111827",
    "#64748b",
)
STYLE = "font-family: system-ui, sans-serif; font-size: 12px"


OURS = "chatsite"


def lines(title: str, x_name: str, y_name: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A line for each of `series`, both scales logarithmic, named at their ends; those of this project stand out."""
    xs = sorted({x for points in series.values() for x, _ in points})
    ys = [y for points in series.values() for _, y in points if y > 0]
    bottom, top = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    x_low, x_high = math.log10(xs[0]), math.log10(xs[-1])

    def across(x: float) -> float:
        return LEFT + (math.log10(x) - x_low) / ((x_high - x_low) or 1) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return TOP + PLOT - (math.log10(max(y, 10**bottom)) - bottom) / ((top - bottom) or 1) * PLOT

    parts = [_text(LEFT, 20, f"{title}: {y_name}", "font-weight: 600")]
    for power in range(bottom, top + 1):
        y = down(10**power)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{10**power:g}", "text-anchor: end"))
    parts += [_text(across(x), TOP + PLOT + 18, f"{x:g}", "text-anchor: middle") for x in xs]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, TOP + PLOT + 36, x_name, "text-anchor: middle"))
    labels = _spread({name: down(points[-1][1]) for name, points in series.items()})
    for number, (name, points) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        width = 3 if name.startswith(OURS) else 1.2
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{color}"/>' for x, y in points]
        parts.append(_text(WIDTH - RIGHT + 8, labels[name] + 4, name, f"fill: {color}"))
    return _picture(title, TOP + PLOT + 48, parts)


def bars(title: str, unit: str, values: Sequence[tuple[str, float]]) -> str:
    """A bar for each value; those of this project stand out."""
    name_width = 250
    most = max(value for _, value in values)
    parts = [_text(12, 20, f"{title} ({unit})", "font-weight: 600")]
    for number, (name, value) in enumerate(values):
        y = TOP + number * ROW
        width = value / most * (WIDTH - name_width - 90)
        color = COLORS[0] if name.startswith(OURS) else "#9aa4b2"
        parts.append(_text(name_width - 8, y + 14, name, "text-anchor: end"))
        parts.append(f'<rect x="{name_width}" y="{y}" width="{width:.1f}" height="{ROW - 8}" fill="{color}"/>')
        parts.append(_text(name_width + width + 6, y + 14, f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"))
    return _picture(title, TOP + len(values) * ROW + 8, parts)


def _spread(places: dict[str, float], distance: float = 15.0) -> dict[str, float]:
    """The same places moved down so that no two names overlap."""
    moved: dict[str, float] = {}
    last = -math.inf
    for name, y in sorted(places.items(), key=lambda one: one[1]):
        last = moved[name] = max(y, last + distance)
    return moved


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{escape(text)}</text>'


def _picture(title: str, height: float, parts: list[str]) -> str:
    size = f'width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}" style="{STYLE}">'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"
