"""Charts as SVG, drawn without any package, so that a report holds them and prints them sharply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .Translation import tr as _

# Okabe and Ito's colors, which readers with any color vision can tell apart.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 56
_LEGEND_LINE = 18


@dataclass(frozen=True)
class Series:
    """One line, row of points or group of bars; NaN where there is no value."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """``x`` holds numbers, or words for bars; ``kind`` is line, scatter or bar."""

    title: str
    x: Sequence[float] | Sequence[str]
    series: Sequence[Series]
    kind: str = "line"
    xTitle: str = ""
    yTitle: str = ""


def chartSvg(chart: Chart) -> str:
    """Return the chart as an SVG element; a sentence where it has nothing to show."""
    values = [value for series in chart.series for value in series.values if math.isfinite(value)]
    if not values or not len(chart.x):
        return "<p>" + escape(_("{title}: nothing to show.").format(title=chart.title)) + "</p>"
    return _Drawing(chart, values).svg()


class _Drawing:
    def __init__(self, chart: Chart, values: Sequence[float]) -> None:
        self._chart = chart
        self._isBar = chart.kind == "bar" or any(isinstance(x, str) for x in chart.x)
        self._x = list(range(len(chart.x))) if self._isBar else [float(x) for x in chart.x]
        low, high = min(values), max(values)
        self._yTicks = niceTicks(min(low, 0.0) if self._isBar else low, max(high, 0.0) if self._isBar else high)
        self._legend = _LEGEND_LINE * len(chart.series) if len(chart.series) > 1 else 0
        finite = [x for x in self._x if math.isfinite(x)] or [0.0]
        self._xRange = (-0.5, len(self._x) - 0.5) if self._isBar else _widened(min(finite), max(finite))
        self._yRange = _widened(min(self._yTicks[0], low), max(self._yTicks[-1], high))

    def svg(self) -> str:
        height = _HEIGHT + self._legend
        head = (
            f'<svg class="chart" role="img" aria-label="{escape(self._chart.title)}" '
            f'viewBox="0 0 {_WIDTH} {height}" xmlns="http://www.w3.org/2000/svg">'
        )
        return "\n".join([head, *self._axes(), *self._marks(), *self._legendLines(), "</svg>"])

    def _px(self, x: float) -> float:
        low, high = self._xRange
        return _LEFT + (x - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def _py(self, y: float) -> float:
        low, high = self._yRange
        return _HEIGHT - _BOTTOM - (y - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def _axes(self) -> list[str]:
        bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        lines = []
        for tick in self._yTicks:
            y = self._py(tick)
            lines.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            lines.append(_label(_LEFT - 6, y + 4, f"{tick:g}", "end"))
        for place, text in self._xLabels():
            lines.append(_label(self._px(place), bottom + 16, text, "middle"))
        lines.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#444"/>')
        if self._yRange[0] < 0 < self._yRange[1]:
            zero = self._py(0.0)
            lines.append(f'<line x1="{_LEFT}" x2="{right}" y1="{zero:.1f}" y2="{zero:.1f}" stroke="#444"/>')
        lines.append(_label((_LEFT + right) / 2, bottom + 38, self._chart.xTitle, "middle"))
        middle = (_TOP + bottom) / 2
        turned = f' transform="rotate(-90 14 {middle:.0f})"'
        lines.append(_label(14, middle, self._chart.yTitle, "middle", turned))
        return lines

    def _xLabels(self) -> list[tuple[float, str]]:
        if not self._isBar:
            return [(tick, f"{tick:g}") for tick in niceTicks(*self._xRange) if _within(tick, self._xRange)]
        every = max(1, math.ceil(len(self._x) / 12))
        words = [x if isinstance(x, str) else f"{x:g}" for x in self._chart.x]
        room = max(4, 90 * every // max(1, len(words)))
        return [(place, _cut(words[place], room)) for place in range(0, len(words), every)]

    def _marks(self) -> list[str]:
        return [mark for number, series in enumerate(self._chart.series) for mark in self._one(number, series)]

    def _one(self, number: int, series: Series) -> list[str]:
        color = _COLORS[number % len(_COLORS)]
        if self._isBar:
            return self._bars(number, series, color)
        points = [(self._px(x), self._py(y)) for x, y in zip(self._x, series.values) if math.isfinite(x + y)]
        if self._chart.kind == "scatter" or len(points) == 1:
            return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        return [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>']

    def _bars(self, number: int, series: Series, color: str) -> list[str]:
        width = 0.8 / len(self._chart.series)
        marks = []
        for place, value in enumerate(series.values):
            if not math.isfinite(value):
                continue
            left = self._px(place - 0.4 + number * width)
            right = self._px(place - 0.4 + (number + 1) * width)
            top, base = sorted((self._py(value), self._py(0.0)))
            marks.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{base - top:.1f}" '
                f'fill="{color}"/>'
            )
        return marks

    def _legendLines(self) -> list[str]:
        if not self._legend:
            return []
        lines = []
        for number, series in enumerate(self._chart.series):
            y = _HEIGHT + number * _LEGEND_LINE
            color = _COLORS[number % len(_COLORS)]
            lines.append(f'<rect x="{_LEFT}" y="{y - 9}" width="12" height="12" fill="{color}"/>')
            lines.append(_label(_LEFT + 18, y + 2, series.name, "start"))
        return lines


def niceTicks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers over a range: steps of 1, 2 or 5 times a power of ten."""
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


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] - 1e-9 <= value <= limits[1] + 1e-9


def _label(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>' if text else ""


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
