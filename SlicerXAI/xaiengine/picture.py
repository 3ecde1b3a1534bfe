"""A picture of a map over a scan: axial, coronal and sagittal plane through one point, as radiologists look at them.

The patient's right is on the picture's left, the front is up in the axial plane, the head is up in the others, and in
the sagittal plane the front is on the picture's left. Planes are cut in the patient's axes, whatever the scan's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from .atomic import written_whole
from .grid import Grid
from .volume import Volume

CT_WINDOW = (-1150.0, 350.0)
"""Lung window in HU: level -400, width 1500."""

MAP_COLORS = "inferno"
OUTLINE_COLOR = "#35e0d0"
TEXT_COLOR = "#e8e8e8"
BACKGROUND = "#101014"
LARGEST_OPACITY = 0.65
FINEST_PIXEL_MM = 0.7
PICTURE_DPI = 110
SCALE_BARS_MM = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Plane:
    """A plane of the patient: RAS axes that run to the picture's right and up, as (axis, sign), and the letters."""

    name: str
    right: tuple[int, int]
    up: tuple[int, int]
    letters: tuple[str, str, str, str]

    @property
    def normal(self) -> int:
        """RAS axis across the plane."""
        return 3 - self.right[0] - self.up[0]


PLANES = (
    Plane("axial", (0, -1), (1, 1), ("R", "L", "A", "P")),
    Plane("coronal", (0, -1), (2, 1), ("R", "L", "S", "I")),
    Plane("sagittal", (1, -1), (2, 1), ("A", "P", "S", "I")),
)
"""``letters`` name the picture's left, right, upper and lower side."""


@dataclass(frozen=True, eq=False)
class Cut:
    """A plane through a grid: ``ras`` (rows, columns, 3) in mm with row 0 at the top; square pixels of ``pixel`` mm."""

    plane: Plane
    ras: np.ndarray
    pixel: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, lower, upper border in mm along the plane's own directions, from the upper left pixel."""
        rows, columns = self.ras.shape[:2]
        return 0.0, columns * self.pixel, 0.0, rows * self.pixel

    def sample(self, array: np.ndarray, grid: Grid, order: int = 1, outside: float = 0.0) -> np.ndarray:
        """Values (rows, columns) of ``array`` (I, J, K) on ``grid`` in the plane."""
        index = np.moveaxis(grid.ras_to_index(self.ras), -1, 0)
        inside = grid.contains(self.ras)
        box = []
        for axis, size in enumerate(array.shape):
            low = int(np.clip(np.floor(index[axis][inside].min(initial=0.0)), 0, size - 1)) if inside.any() else 0
            high = int(np.clip(np.ceil(index[axis][inside].max(initial=0.0)), low, size - 1)) if inside.any() else 0
            box.append(slice(low, high + 1))
            index[axis] -= low
        values = ndimage.map_coordinates(
            array[tuple(box)].astype(np.float32), index, order=order, mode="nearest", prefilter=False
        )
        return np.where(inside, values, outside)


def cut_through(grid: Grid, center_ras: Sequence[float], plane: Plane) -> Cut:
    """The whole cross-section of a grid's extent with the plane through a RAS point."""
    half_voxel = np.abs(grid.affine[:3, :3]).sum(axis=1) / 2
    corners = grid.corners()
    low, high = corners.min(axis=0) - half_voxel, corners.max(axis=0) + half_voxel
    pixel = max(min(grid.spacing), FINEST_PIXEL_MM)
    positions = []
    for axis, sign in (plane.right, plane.up):
        count = max(1, int(round((high[axis] - low[axis]) / pixel)))
        along = low[axis] + (np.arange(count) + 0.5) * (high[axis] - low[axis]) / count
        positions.append(along[::sign])
    columns, rows = positions[0], positions[1][::-1]
    ras = np.empty((rows.size, columns.size, 3))
    ras[..., plane.right[0]] = columns[None, :]
    ras[..., plane.up[0]] = rows[:, None]
    ras[..., plane.normal] = center_ras[plane.normal]
    return Cut(plane, ras, pixel)


def overlay_picture(
    path: Path | str,
    scan: Volume,
    values: np.ndarray,
    lesions: np.ndarray | None = None,
    *,
    center_ras: Sequence[float] | None = None,
    title: str = "",
    unit: str = "bits per voxel",
    threshold: float = 0.0,
    window: tuple[float, float] | None = CT_WINDOW,
    upper: float | None = None,
    caption: str = "",
) -> Path:
    """Write a PNG of ``values`` (I, J, K) over ``scan`` on the same grid, with the outline of ``lesions`` (bool).

    ``center_ras``: the point in mm that the three planes share; without it the map's strongest voxel, or the scan's
    middle where the map is empty. The map is transparent up to ``threshold`` and fades in above it; its colors end at
    ``upper`` (default: what all but the strongest thousandth of the voxels above the threshold stay below).
    ``window``: the values of the scan shown black and white; None spans its 1st to 99th percentile.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    center = _center(scan.grid, values, threshold) if center_ras is None else np.asarray(center_ras, float)
    upper = _upper(values, threshold) if upper is None else upper
    window = tuple(np.nanpercentile(scan.array, (1, 99))) if window is None else window
    cuts = [cut_through(scan.grid, center, plane) for plane in PLANES]
    widths = [cut.extent[1] for cut in cuts]
    tallest = max(cut.extent[3] for cut in cuts)
    height = 5.2
    figure = Figure(figsize=(height * sum(widths) / tallest + 1.3, height + 1.0), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1, 4, width_ratios=[*widths, 0.03 * sum(widths)], left=0.01, right=0.925, top=0.86, bottom=0.1, wspace=0.03
    )
    shown = None
    for column, cut in enumerate(cuts):
        axes = figure.add_subplot(grid[0, column])
        shown = _draw(axes, cut, scan, values, lesions, center, window, (threshold, upper))
    _color_bar(figure, figure.add_subplot(grid[0, 3]), shown, unit)
    figure.text(0.012, 0.95, title, color=TEXT_COLOR, fontsize=13, weight="bold", va="center")
    figure.text(0.012, 0.035, caption, color=TEXT_COLOR, fontsize=11, va="center")
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=PICTURE_DPI, facecolor=BACKGROUND)
    return path
