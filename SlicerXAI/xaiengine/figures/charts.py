"""Bars of concepts as pictures: units that detect them, and what they contribute to a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from ..core.number_text import percent
from ..semantics.semantic_attribution import UNLABELED_NAME, ConceptShare
from .style import Theme, new_figure, plain_axes, save_figure, theme_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 25


def _figure(rows: int, title: str, theme: Theme) -> tuple[Figure, Axes]:
    figure = new_figure(8.6, 1.5 + 0.36 * max(3, rows), theme)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    plain_axes(axes, theme)
    axes.set_title("\n".join(wrap(title.replace(" %", "\u00a0%"), 88)), fontsize=10.5, loc="left", color=theme.text)
    return figure, axes


def draw_contributions(
    path: Path, shares: Sequence[ConceptShare], title: str, unit: str, theme: str = "print"
) -> None:
    """Signed bars: to the right what spoke for the prediction, to the left what spoke against it."""
    labeled = sorted((bar for bar in shares if bar.concept != UNLABELED_NAME), key=lambda bar: -bar.contribution)
    rest = [bar for bar in shares if bar.concept == UNLABELED_NAME]
    if len(labeled) > MOST_BARS:
        strongest = sorted(labeled, key=lambda bar: -abs(bar.contribution))[:MOST_BARS]
        labeled = [bar for bar in labeled if bar in strongest]
    shown = labeled + rest
    colors = theme_of(theme)
    figure, axes = _figure(len(shown), title, colors)
    values = np.array([bar.contribution for bar in shown])
    fill = [
        colors.faint
        if bar.concept == UNLABELED_NAME
        else colors.supporting
        if bar.contribution > 0
        else colors.opposing
        for bar in shown
    ]
    places = np.arange(len(shown))
    axes.barh(places, values, color=fill, height=0.72)
    for place, bar in zip(places, shown):
        side = "left" if bar.contribution >= 0 else "right"
        axes.annotate(
            percent(bar.share),
            (bar.contribution, place),
            (4 if side == "left" else -4, 0),
            textcoords="offset points",
            va="center",
            ha=side,
            fontsize=8.5,
            color=colors.text,
        )
    axes.set_yticks(places, [f"{bar.concept} ({bar.units} unit{'s' * (bar.units != 1)})" for bar in shown], fontsize=9)
    axes.invert_yaxis()
    axes.axvline(0, color=colors.text, linewidth=0.8)
    axes.margins(x=0.14)
    axes.set_xlabel(f"against  ←  contribution to the {unit}  →  for", fontsize=9, color=colors.text)
    save_figure(figure, path)


def draw_units_per_concept(
    path: Path, rows: Sequence[tuple[str, int, float, float]], title: str, theme: str = "print"
) -> None:
    """Bars of the number of units of each concept (name, units, lower, upper end of the interval)."""
    shown = sorted(rows, key=lambda row: -row[1])[:MOST_BARS]
    colors = theme_of(theme)
    figure, axes = _figure(len(shown), title, colors)
    places = np.arange(len(shown))
    units = np.array([row[1] for row in shown], dtype=float)
    reach = np.array([[max(0.0, row[1] - row[2]), max(0.0, row[3] - row[1])] for row in shown]).T
    axes.barh(places, units, color=colors.opposing, height=0.72)
    if len(shown):
        axes.errorbar(units, places, xerr=reach, fmt="none", ecolor=colors.text, elinewidth=1, capsize=3)
    axes.set_yticks(places, [row[0] for row in shown], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("units that detect it, with 95 % interval over images", fontsize=9, color=colors.text)
    save_figure(figure, path)
