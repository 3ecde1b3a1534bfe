"""The checks of a map as curves in one picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .style import legend_of, new_figure, plain_axes, save_figure, theme_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..evaluation.evaluating import Evaluation

_PANEL = (4.2, 3.8)
"""Width and height in inches."""


def draw_evaluation(path: Path, found: Evaluation, title: str, theme: str = "print") -> bool:
    """Draw curves, sensitivity-n and cascade, those that were measured; returns whether there was any."""
    figure = evaluation_figure(found, title, theme)
    if figure is not None:
        save_figure(figure, path)
    return figure is not None


def evaluation_figure(found: Evaluation, title: str, theme: str = "print") -> Figure | None:
    """The same as a matplotlib figure; None where nothing was measured that can be drawn."""
    panels = _panels(found)
    if not panels:
        return None
    colors = theme_of(theme)
    figure = new_figure(_PANEL[0] * max(2, len(panels)), _PANEL[1], colors)
    figure.set_layout_engine("constrained")
    for draw, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0]):
        plain_axes(axes, colors)
        draw(found, axes)
        if axes.get_legend_handles_labels()[0]:
            legend_of(axes, colors)
    figure.suptitle(title, color=colors.text, fontsize=11)
    return figure


def _panels(found: Evaluation) -> list[Callable[[Evaluation, Axes], None]]:
    measured = (
        (bool(found.curves), _curves),
        (found.sensitivity is not None, _sensitivity),
        (found.cascade is not None, _cascade),
    )
    return [draw for is_there, draw in measured if is_there]


def _curves(found: Evaluation, axes: Axes) -> None:
    for name, curve in found.curves.items():
        axes.plot(curve.fractions, curve.values, label=name)
    axes.set(title="Voxels shown or hidden", xlabel="part of the voxels", ylabel="prediction")


def _sensitivity(found: Evaluation, axes: Axes) -> None:
    assert found.sensitivity is not None  # drawn where it was measured
    axes.semilogx(*found.sensitivity, marker="o")
    axes.axhline(0, color="gray", linewidth=0.8)
    axes.set(title="Sensitivity-n", xlabel="hidden voxels", ylabel="correlation", ylim=(-1, 1))


def _cascade(found: Evaluation, axes: Axes) -> None:
    cascade = found.cascade
    assert cascade is not None  # drawn where it was measured
    stages = range(1, len(cascade.layers) + 1)
    axes.plot(stages, np.abs(cascade.spearman), marker="o", label="|Spearman|")
    axes.plot(stages, cascade.ssim, marker="s", label="SSIM")
    axes.set_xticks(list(stages), cascade.layers, rotation=30, fontsize=7)
    axes.set(title="Weights randomized from the output on", ylabel="similarity", ylim=(-0.1, 1.05))
