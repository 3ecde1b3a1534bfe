"""A picture of several maps over the scan: a row per method, planes through the peak of the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..attribution.explanation import Explanation
from ..io.volume import Volume

MOST_ROWS = 6
LONGEST_SIDE = 512


def display_window(explanation: Explanation) -> float:
    """The value at which colors end: what the strongest voxel in a thousand reaches."""
    amount = np.abs(explanation.map)
    positive = amount[amount > 0]
    return float(np.quantile(positive, 0.995)) if positive.size else 1.0


def draw_explanations(path: Path, volume: Volume, explanations: Sequence[Explanation], caption: str) -> None:
    """Write a PNG; explanations lie on the volume's grid. Planes are cut along the stored axes of the scan."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    shown = list(explanations)[:MOST_ROWS]
    planes = _planes(volume, shown[0])
    figure = Figure(figsize=(3.6 * len(planes) + 1.2, 3.3 * len(shown) + 0.6), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(shown), len(planes), squeeze=False)
    scan = volume.channels_first()[0]
    low, high = np.percentile(scan, [1, 99.5])
    for row, explanation in zip(axes, shown):
        window = display_window(explanation)
        for axis, (name, across, index) in zip(row, planes):
            spacing = [step for number, step in enumerate(volume.grid.spacing) if number != across]
            view = {"aspect": spacing[1] / spacing[0], "interpolation": "nearest"}
            axis.imshow(_plane(scan, across, index, volume), cmap="gray", vmin=low, vmax=max(high, low + 1e-6), **view)
            heat = _plane(explanation.map, across, index, volume)
            image = axis.imshow(
                heat,
                cmap="RdBu_r" if explanation.signed else "inferno",
                vmin=-window if explanation.signed else 0.0,
                vmax=window,
                alpha=np.clip(np.abs(heat) / (0.4 * window), 0, 0.75),
                **view,
            )
            axis.set_title(f"{explanation.title}, {name}", color="white", fontsize=9)
            axis.axis("off")
        colors = ScalarMappable(image.norm, image.cmap)  # the image's own transparency would fade the bar
        bar = figure.colorbar(colors, ax=row.tolist(), shrink=0.8, pad=0.01)
        bar.set_label(explanation.unit or "attribution", color="white", fontsize=8)
        bar.ax.tick_params(colors="white", labelsize=7)
    figure.suptitle(caption, color="white", fontsize=11)
    figure.savefig(path, facecolor="black")


def _planes(volume: Volume, explanation: Explanation) -> list[tuple[str, int, int]]:
    """(name, index axis, index) of the planes with more than one voxel on both sides."""
    names = {0: "sagittal", 1: "coronal", 2: "axial"}
    peak = np.unravel_index(int(explanation.map.argmax()), explanation.map.shape)
    planes = []
    for across in (2, 1, 0):
        sides = [size for axis, size in enumerate(volume.grid.shape) if axis != across]
        if min(sides) > 1:
            planes.append((names[volume.grid.anatomical_axes[across][0]], across, int(peak[across])))
    return planes


def _plane(values: np.ndarray, across: int, index: int, volume: Volume) -> np.ndarray:
    """A slice with the patient's right on the left of the picture, anterior and superior up where they should be."""
    plane = np.take(values, index, axis=across)
    remaining = [volume.grid.anatomical_axes[axis] for axis in range(3) if axis != across]
    for position, (anatomical, sign) in enumerate(remaining):
        # Columns run to the patient's left or back, rows downwards: to the back or to the feet.
        if (sign > 0) == (anatomical in (0, 1, 2)):
            plane = np.flip(plane, position)
    if remaining[0][0] > remaining[1][0]:
        return plane
    return plane.T
