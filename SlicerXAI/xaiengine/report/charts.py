"""Charts as SVG, drawn without any package, so that a page holds them and prints them sharply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..figures.style import THEMES

COLORS = THEMES["print"].curves
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 56
LEGEND_LINE = 18


@dataclass(frozen=True)
class Curve:
    """One line, row of points or group of bars; NaN where there is no value."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """``x`` holds numbers, or words for bars; ``kind`` is line, scatter or bar."""

    title: str
    x: Sequence[float] | Sequence[str]
    curves: Sequence[Curve]
    kind: str = "line"
    x_title: str = ""
    y_title: str = ""

    @property
    def is_bar(self) -> bool:
        return self.kind == "bar" or any(isinstance(x, str) for x in self.x)


@dataclass(frozen=True)
class _Axes:
    """From values to places in the drawing."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    y_ticks: Sequence[float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def chart_svg(chart: Chart) -> str:
    """The chart as an SVG element; a sentence where it has nothing to show."""
    values = [value for curve in chart.curves for value in curve.values if math.isfinite(value)]
    if not values or not len(chart.x):
        return f"<p>{escape(chart.title)}: nothing to show.</p>"
    places = list(range(len(chart.x))) if chart.is_bar else [float(x) for x in chart.x]
    low, high = min(values), max(values)
    ticks = nice_ticks(min(low, 0.0) if chart.is_bar else low, max(high, 0.0) if chart.is_bar else high)
    finite = [x for x in places if math.isfinite(x)] or [0.0]
    x_range = (-0.5, len(places) - 0.5) if chart.is_bar else _widened(min(finite), max(finite))
    axes = _Axes(x_range, _widened(min(ticks[0], low), max(ticks[-1], high)), ticks)
    legend = len(chart.curves) > 1
    height = HEIGHT + (LEGEND_LINE * len(chart.curves) if legend else 0)
    lines = [
        f'<svg class="chart" role="img" aria-label="{escape(chart.title)}" viewBox="0 0 {WIDTH} {height}" '
        'xmlns="http://www.w3.org/2000/svg">',
        *_frame(chart, axes),
    ]
    for number, curve in enumerate(chart.curves):
        color = COLORS[number % len(COLORS)]
        lines += _bars(chart, axes, number, curve, color) if chart.is_bar else _line(chart, axes, places, curve, color)
        if legend:
            y = HEIGHT + number * LEGEND_LINE
            lines.append(f'<rect x="{LEFT}" y="{y - 9}" width="12" height="12" fill="{color}"/>')
            lines.append(_label(LEFT + 18, y + 2, curve.name, "start"))
    return "\n".join([*lines, "</svg>"])


def _frame(chart: Chart, axes: _Axes) -> list[str]:
    bottom, right, middle = HEIGHT - BOTTOM, WIDTH - RIGHT, (TOP + HEIGHT - BOTTOM) / 2
    lines = []
    for tick in axes.y_ticks:
        y = axes.y(tick)
        lines.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(_label(LEFT - 6, y + 4, f"{tick:g}", "end"))
    lines += [_label(axes.x(place), bottom + 16, text, "middle") for place, text in _x_labels(chart, axes)]
    lines.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#444"/>')
    if axes.y_range[0] < 0 < axes.y_range[1]:
        zero = axes.y(0.0)
        lines.append(f'<line x1="{LEFT}" x2="{right}" y1="{zero:.1f}" y2="{zero:.1f}" stroke="#444"/>')
    lines.append(_label((LEFT + right) / 2, bottom + 38, chart.x_title, "middle"))
    lines.append(_label(14, middle, chart.y_title, "middle", f' transform="rotate(-90 14 {middle:.0f})"'))
    return lines


def _x_labels(chart: Chart, axes: _Axes) -> list[tuple[float, str]]:
    if not chart.is_bar:
        low, high = axes.x_range
        return [(tick, f"{tick:g}") for tick in nice_ticks(low, high) if low - 1e-9 <= tick <= high + 1e-9]
    every = max(1, math.ceil(len(chart.x) / 12))
    words = [x if isinstance(x, str) else f"{x:g}" for x in chart.x]
    room = max(4, 90 * every // max(1, len(words)))
    return [(place, _cut(words[place], room)) for place in range(0, len(words), every)]


def _line(chart: Chart, axes: _Axes, places: Sequence[float], curve: Curve, color: str) -> list[str]:
    points = [(axes.x(x), axes.y(y)) for x, y in zip(places, curve.values) if math.isfinite(x + y)]
    if chart.kind == "scatter" or len(points) == 1:
        return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>']


def _bars(chart: Chart, axes: _Axes, number: int, curve: Curve, color: str) -> list[str]:
    width = 0.8 / len(chart.curves)
    marks = []
    for place, value in enumerate(curve.values):
        if math.isfinite(value):
            left, right = (axes.x(place - 0.4 + (number + step) * width) for step in (0, 1))
            top, base = sorted((axes.y(value), axes.y(0.0)))
            marks.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{base - top:.1f}" '
                f'fill="{color}"/>'
            )
    return marks


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers over a range: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        spread = abs(low) or 1.0
        low, high = low - spread / 2, high + spread / 2
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _label(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>' if text else ""


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
