"""Learning curves as small SVG files: a few lines over steps, readable on any background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 34, 38
COLOURS = ("#1f6feb", "#d1570a", "#3a8f3a")


@dataclass(frozen=True)
class Curve:
    """Points (step, value) and what they are called; ``band`` holds (low, high) for each point, where an interval is known."""

    label: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]] = ()


def write(path: Path, title: str, curves: Sequence[Curve], level: float | None = None) -> None:
    """Draw *curves*, none empty, into *path*. *level* is a horizontal line to compare with, such as chance."""
    values = [value for curve in curves for _, value in curve.points]
    values += [edge for curve in curves for pair in curve.band for edge in pair] + ([] if level is None else [level])
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.5
    low, high, last = low - margin, high + margin, max(step for curve in curves for step, _ in curve.points) or 1

    def place(step: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / last
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
        return f"{x:.1f},{y:.1f}"

    body = [f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}</text>']
    for tick in range(5):
        value = low + (high - low) * tick / 4
        start, end = place(0, value), place(last, value)
        x, y = (float(part) for part in start.split(","))
        body.append(f'<polyline points="{start} {end}" stroke="#ddd" fill="none"/>')
        body.append(f'<text x="{x - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">{value:.3g}</text>')
        step = last * tick / 4
        x = float(place(step, low).split(",")[0])
        body.append(f'<text x="{x:.0f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{step:g}</text>')
    body.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">steps</text>')
    if level is not None:
        body.append(f'<polyline points="{place(0, level)} {place(last, level)}" stroke="#888" stroke-dasharray="4 3" fill="none"/>')
    for number, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        if curve.band:
            steps = [step for step, _ in curve.points]
            upper = [place(step, edge) for step, (_, edge) in zip(steps, curve.band, strict=True)]
            lower = [place(step, edge) for step, (edge, _) in zip(steps, curve.band, strict=True)]
            body.append(f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{colour}" opacity="0.15"/>')
        line = " ".join(place(step, value) for step, value in curve.points)
        body.append(f'<polyline points="{line}" stroke="{colour}" stroke-width="2" fill="none"/>')
        body.append(f'<text x="{LEFT + 110 * number}" y="{HEIGHT - 6}" fill="{colour}">{escape(curve.label)}</text>')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11" fill="#333">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n",
        encoding="utf-8",
    )
