"""A picture of a series: the scan, the frames with their predictions, what each changed, and the curve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.atomic import written_whole
from ..counterfactual.series.difference import window_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..counterfactual.series.series import Series

BACKGROUND, TEXT, ACCENT = "#101014", "#e8e8e8", "#35e0d0"
COLUMN_INCHES = 1.35
MOST_COLUMNS = 13
DPI = 110
DIVERGING = "RdBu_r"


def picture_of(image: torch.Tensor) -> np.ndarray:
    """An image (C, I, J) in [-1, 1] as rows and columns, (J, I) or (J, I, 3), in 0..1."""
    values = ((image.detach().cpu().clamp(-1, 1) + 1) / 2).numpy()
    return values[0].T if len(values) == 1 else values.transpose(2, 1, 0)


def shown_frames(count: int, base: int) -> list[int]:
    """At most as many frames as fit into a row, evenly spread, with the first, the last and the unshifted one."""
    if count <= MOST_COLUMNS - 1:
        return list(range(count))
    return sorted({*np.linspace(0, count - 1, MOST_COLUMNS - 1).round().astype(int).tolist(), base})


def draw_film_strip(
    path: Path,
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
) -> Path:
    """Write a PNG.

    ``scan`` (C, S, S) is the explained image, ``own`` the shown prediction for it, ``shown`` (n,) those for the
    frames; ``unit`` is the scan's unit per image unit.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    chosen = shown_frames(len(series.frames), series.base)
    columns = len(chosen) + 1
    figure = Figure(figsize=(COLUMN_INCHES * columns + 1.1, 5.6), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
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
    _caption(first, "scan", _number(own), ACCENT)
    _say_once(figure.add_subplot(layout[1, 0]), "difference to\nthe image\nat shift 0")
    for column, number in enumerate(chosen, start=1):
        frame, below = figure.add_subplot(layout[0, column]), figure.add_subplot(layout[1, column])
        _show(frame, picture_of(series.frames[number]))
        name = "rebuilt" if number == series.base else f"{float(series.shifts[number]):+.1f} SD"
        over = decision is not None and float(shown[number]) > decision
        _caption(frame, name, _number(float(shown[number])), "#ffb454" if over else TEXT)
        difference = series.differences[number].mean(0).cpu().numpy().T
        below.imshow(difference, cmap=DIVERGING, vmin=-window, vmax=window, interpolation="bilinear")
        below.set_axis_off()
    colors = ScalarMappable(Normalize(-window * unit, window * unit), DIVERGING)
    top, low = layout[1, columns - 1].get_position(figure).y1, layout[1, columns - 1].get_position(figure).y0
    edge = layout[1, columns - 1].get_position(figure).x1
    bar = figure.colorbar(colors, cax=figure.add_axes((edge + 0.006, low, 0.008, top - low)))
    bar.set_label(unit_name or "scan's unit", color=TEXT, fontsize=8)
    bar.ax.tick_params(colors=TEXT, labelsize=7)
    _curve(figure.add_subplot(layout[2, 1:]), series, shown, own, answer_name, decision)
    figure.text(0.012, 0.955, title, color=TEXT, fontsize=12, weight="bold", va="center")
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, facecolor=BACKGROUND)
    return path


def _show(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="bicubic")
    axes.set_axis_off()


def _caption(axes: Axes, above: str, value: str, color: str) -> None:
    axes.set_title(f"{above}\n{value}", color=color, fontsize=9, pad=3)


def _say_once(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, color=TEXT, fontsize=9, ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()


def _curve(
    axes: Axes, series: Series, shown: torch.Tensor, own: float, answer_name: str, decision: float | None
) -> None:
    axes.set_facecolor(BACKGROUND)
    shifts = series.shifts.numpy()
    axes.plot(shifts, shown.cpu().numpy(), color=TEXT, marker="o", markersize=4, linewidth=1.5)
    axes.axhline(own, color=ACCENT, linewidth=1.0, linestyle=":")
    axes.text(shifts[-1], own, " scan", color=ACCENT, fontsize=8, va="center", ha="left")
    if decision is not None:
        axes.axhline(decision, color="#ffb454", linewidth=1.0, linestyle="--")
        axes.text(shifts[0], decision, "decision", color="#ffb454", fontsize=8, va="bottom", ha="left")
        axes.set_ylim(-0.04, 1.04) if 0 < decision < 1 and float(shown.max()) <= 1 else None
    axes.set_xlabel("shift (SD)", color=TEXT, fontsize=9)
    axes.set_ylabel("\n".join(answer_name.split(" of ", 1)), color=TEXT, fontsize=9)
    axes.tick_params(colors=TEXT, labelsize=8)
    for side in axes.spines.values():
        side.set_edgecolor("#606068")


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
