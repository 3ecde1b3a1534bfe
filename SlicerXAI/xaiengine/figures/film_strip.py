"""A picture of a series: the scan, the frames with their predictions, what each changed, and the curve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..core.number_text import beside, significant
from ..counterfactual.series.difference import window_of
from .style import DIVERGING, Theme, burn_in, new_figure, save_figure, theme_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..counterfactual.series.series import Series

COLUMN_INCHES = 1.35
MOST_COLUMNS = 13
ACCENT = {"dark": "#35e0d0", "print": "#00867a"}


def picture_of(image: torch.Tensor) -> np.ndarray:
    """An image (C, I, J) in [-1, 1] as rows and columns, (J, I) or (J, I, 3), in 0..1."""
    values = ((image.detach().cpu().clamp(-1, 1) + 1) / 2).numpy()
    return values[0].T if len(values) == 1 else values.transpose(2, 1, 0)


def shown_frames(count: int, base: int) -> list[int]:
    """At most as many frames as fit into a row, evenly spread, with the first, the last and the unshifted one."""
    if count <= MOST_COLUMNS - 1:
        return list(range(count))
    return sorted({*np.linspace(0, count - 1, MOST_COLUMNS - 1).round().astype(int).tolist(), base})


def draw_film_strip(path: Path, *arguments: Any, **settings: Any) -> Path:
    """Write the picture of :func:`film_strip`, PNG or SVG by the extension."""
    return save_figure(film_strip(*arguments, **settings), path)


def film_strip(
    scan: torch.Tensor,
    series: Series,
    shown: torch.Tensor,
    own: float,
    *,
    title: str,
    answer_name: str,
    decision: float | None,
    unit: float,
    unit_name: str,
    theme: str = "dark",
) -> Figure:
    """A series as a figure; every generated image bears the word SYNTHETIC.

    ``scan`` (C, S, S) is the explained image, ``own`` the shown prediction for it, ``shown`` (n,) those for the
    frames; ``unit`` is the scan's unit per image unit.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colors_of, accent = theme_of(theme), ACCENT[theme]
    chosen = shown_frames(len(series.frames), series.base)
    columns = len(chosen) + 1
    figure = new_figure(COLUMN_INCHES * columns + 1.1, 5.6, colors_of)
    layout = figure.add_gridspec(
        3,
        columns,
        left=0.01,
        right=1 - 0.95 / (COLUMN_INCHES * columns + 1.1),
        top=0.84,
        bottom=0.1,
        height_ratios=[1, 1, 1.15],
        wspace=0.04,
        hspace=0.12,
    )
    window = window_of(series.differences)
    first = figure.add_subplot(layout[0, 0])
    _show(first, picture_of(scan))
    _caption(first, "scan", beside(own, decision), accent)
    _say_once(figure.add_subplot(layout[1, 0]), "difference to\nthe image\nat shift 0", colors_of)
    for column, number in enumerate(chosen, start=1):
        frame, below = figure.add_subplot(layout[0, column]), figure.add_subplot(layout[1, column])
        _show(frame, picture_of(series.frames[number]))
        name = "rebuilt" if number == series.base else f"{float(series.shifts[number]):+.1f} SD"
        over = decision is not None and float(shown[number]) > decision
        value = beside(float(shown[number]), decision)
        _caption(frame, name, value, colors_of.decision if over else colors_of.text)
        burn_in(frame, heights=(0.94, 0.06))
        difference = series.differences[number].mean(0).cpu().numpy().T
        below.imshow(difference, cmap=DIVERGING, vmin=-window, vmax=window, interpolation="bilinear")
        below.set_axis_off()
    colors = ScalarMappable(Normalize(-window * unit, window * unit), DIVERGING)
    top, low = layout[1, columns - 1].get_position(figure).y1, layout[1, columns - 1].get_position(figure).y0
    edge = layout[1, columns - 1].get_position(figure).x1
    bar = figure.colorbar(colors, cax=figure.add_axes((edge + 0.006, low, 0.008, top - low)))
    bar.set_label(unit_name or "scan's unit", color=colors_of.text, fontsize=8)
    bar.ax.tick_params(colors=colors_of.text, labelsize=7)
    _curve(figure.add_subplot(layout[2, 1:]), series, shown, own, answer_name, decision, colors_of, accent)
    figure.text(0.012, 0.955, title, color=colors_of.text, fontsize=12, weight="bold", va="center")
    return figure


def _show(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="bicubic")
    axes.set_axis_off()


def _caption(axes: Axes, above: str, value: str, color: str) -> None:
    axes.set_title(f"{above}\n{value}", color=color, fontsize=9, pad=3)


def _say_once(axes: Axes, text: str, theme: Theme) -> None:
    axes.text(0.5, 0.5, text, color=theme.text, fontsize=9, ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()


def _curve(
    axes: Axes,
    series: Series,
    shown: torch.Tensor,
    own: float,
    answer_name: str,
    decision: float | None,
    theme: Theme,
    accent: str,
) -> None:
    axes.set_facecolor(theme.background)
    shifts = series.shifts.numpy()
    axes.plot(shifts, shown.cpu().numpy(), color=theme.text, marker="o", markersize=4, linewidth=1.5)
    axes.axhline(own, color=accent, linewidth=1.0, linestyle=":")
    axes.text(shifts[-1], own, " scan", color=accent, fontsize=8, va="center", ha="left")
    if decision is not None:
        axes.axhline(decision, color=theme.decision, linewidth=1.0, linestyle="--")
        name = f"decision at {significant(decision)}"
        axes.text(shifts[0], decision, name, color=theme.decision, fontsize=8, va="bottom", ha="left")
        axes.set_ylim(-0.04, 1.04) if 0 < decision < 1 and float(shown.max()) <= 1 else None
    axes.set_xlabel("shift (SD)", color=theme.text, fontsize=9)
    axes.set_ylabel("\n".join(answer_name.split(" of ", 1)), color=theme.text, fontsize=9)
    axes.tick_params(colors=theme.text, labelsize=8)
    for side in axes.spines.values():
        side.set_edgecolor(theme.faint)
