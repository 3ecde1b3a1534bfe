"""Bars of concepts as pictures: units that detect them, and what they contribute to a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np

from ..core.atomic import written_whole
from ..semantics.semantic_attribution import UNLABELED_NAME, ConceptShare

FOR_COLOR, AGAINST_COLOR, UNKNOWN_COLOR = "#c0392b", "#2471a3", "#909090"
MOST_BARS = 25
PICTURE_DPI = 120


def _figure(rows: int, title: str):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 1.5 + 0.36 * max(3, rows)), facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    axes.set_title("\n".join(wrap(title.replace(" %", "\u00a0%"), 88)), fontsize=10.5, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure, path: Path) -> None:
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=PICTURE_DPI)


def draw_contributions(path: Path, shares: Sequence[ConceptShare], title: str, unit: str) -> None:
    """Signed bars: to the right what spoke for the prediction, to the left what spoke against it."""
    labeled = sorted((bar for bar in shares if bar.concept != UNLABELED_NAME), key=lambda bar: -bar.contribution)
    rest = [bar for bar in shares if bar.concept == UNLABELED_NAME]
    if len(labeled) > MOST_BARS:
        strongest = sorted(labeled, key=lambda bar: -abs(bar.contribution))[:MOST_BARS]
        labeled = [bar for bar in labeled if bar in strongest]
    shown = labeled + rest
    figure, axes = _figure(len(shown), title)
    values = np.array([bar.contribution for bar in shown])
    colors = [
        UNKNOWN_COLOR if bar.concept == UNLABELED_NAME else FOR_COLOR if bar.contribution > 0 else AGAINST_COLOR
        for bar in shown
    ]
    places = np.arange(len(shown))
    axes.barh(places, values, color=colors, height=0.72)
    for place, bar in zip(places, shown):
        side = "left" if bar.contribution >= 0 else "right"
        axes.annotate(
            f"{bar.share:.0%}".replace("%", " %"),
            (bar.contribution, place),
            (4 if side == "left" else -4, 0),
            textcoords="offset points",
            va="center",
            ha=side,
            fontsize=8.5,
        )
    axes.set_yticks(places, [f"{bar.concept} ({bar.units} unit{'s' * (bar.units != 1)})" for bar in shown], fontsize=9)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.margins(x=0.14)
    axes.set_xlabel(f"against  ←  contribution to the {unit}  →  for", fontsize=9)
    _save(figure, path)


def draw_units_per_concept(path: Path, rows: Sequence[tuple[str, int, float, float]], title: str) -> None:
    """Bars of the number of units of each concept (name, units, lower, upper end of the interval)."""
    shown = sorted(rows, key=lambda row: -row[1])[:MOST_BARS]
    figure, axes = _figure(len(shown), title)
    places = np.arange(len(shown))
    units = np.array([row[1] for row in shown], dtype=float)
    reach = np.array([[max(0.0, row[1] - row[2]), max(0.0, row[3] - row[1])] for row in shown]).T
    axes.barh(places, units, color=AGAINST_COLOR, height=0.72)
    if len(shown):
        axes.errorbar(units, places, xerr=reach, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    axes.set_yticks(places, [row[0] for row in shown], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("units that detect it, with 95 % interval over images", fontsize=9)
    _save(figure, path)
