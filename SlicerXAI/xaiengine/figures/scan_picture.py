"""A picture of a map over a scan: axial, coronal and sagittal plane through one point, as radiologists look at them.

The patient's right is on the picture's left, the front is up in the axial plane, the head is up in the others, and in
the sagittal plane the front is on the picture's left. Planes are cut in the patient's axes, whatever the scan's.
Below each plane is a close-up of the scan alone, so that what the map marks can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ..core.atomic import written_whole
from ..io.grid import Grid
from ..io.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

CT_WINDOW = (-1150.0, 350.0)
"""Lung window in HU: level -400, width 1500."""

MAP_COLORS = "inferno"
OUTLINE_COLOR = "#35e0d0"
TEXT_COLOR = "#e8e8e8"
BACKGROUND = "#101014"
LARGEST_OPACITY = 0.6
CLOSE_UP = 1 / 3
"""Field of the close-ups as a share of the whole plane's."""

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
    """A plane through a grid: ``ras`` (rows, columns, 3) in mm, row 0 at the top; square pixels of ``pixel`` mm."""

    plane: Plane
    ras: np.ndarray
    pixel: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, lower and upper border in mm along the picture, from its lower left corner."""
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
    row = 4.6
    figure = Figure(figsize=(row * sum(widths) / tallest + 1.3, 2 * row + 1.2), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2,
        4,
        width_ratios=[*widths, 0.03 * sum(widths)],
        left=0.01,
        right=0.925,
        top=0.915,
        bottom=0.055,
        wspace=0.03,
        hspace=0.08,
    )
    for column, cut in enumerate(cuts):
        overview, close_up = (figure.add_subplot(grid[line, column]) for line in range(2))
        for axes in (overview, close_up):
            _draw_scan(axes, cut, scan, lesions, window)
        shown = _draw_map(overview, cut, values, scan.grid, threshold, upper)
        _annotate(overview, cut, center)
        _narrow(close_up, cut, center)
    _color_bar(figure, figure.add_subplot(grid[0, 3]), shown, threshold, unit)
    figure.text(0.012, 0.968, title, color=TEXT_COLOR, fontsize=13, weight="bold", va="center")
    figure.text(0.012, 0.022, caption, color=TEXT_COLOR, fontsize=11, va="center")
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=PICTURE_DPI, facecolor=BACKGROUND)
    return path


def _draw_scan(axes: Axes, cut: Cut, scan: Volume, lesions: np.ndarray | None, window: tuple[float, float]) -> None:
    axes.set_axis_off()
    axes.set_anchor("N")
    axes.imshow(
        cut.sample(scan.array, scan.grid, outside=window[0]),
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        extent=cut.extent,
        interpolation="bilinear",
    )
    outline = None if lesions is None else cut.sample(lesions, scan.grid)
    if outline is not None and outline.max() > 0.5:
        axes.contour(outline, [0.5], colors=OUTLINE_COLOR, linewidths=1.1, extent=cut.extent, origin="upper")


def _draw_map(axes: Axes, cut: Cut, values: np.ndarray, grid: Grid, threshold: float, upper: float) -> AxesImage:
    in_plane = cut.sample(values, grid)
    return axes.imshow(
        in_plane,
        cmap=MAP_COLORS,
        vmin=0.0,
        vmax=upper,
        alpha=_opacity(in_plane, threshold, upper),
        extent=cut.extent,
        interpolation="nearest",
    )


def _opacity(values: np.ndarray, threshold: float, upper: float) -> np.ndarray:
    """0 up to the threshold, then rising over a quarter of the range to the largest opacity."""
    rise = max((upper - threshold) / 4.0, 1e-12)
    share = np.clip((values - threshold) / rise, 0.0, 1.0)
    return np.where(values > threshold, LARGEST_OPACITY * (0.35 + 0.65 * share), 0.0)


def _annotate(axes: Axes, cut: Cut, center: np.ndarray) -> None:
    _, width, _, height = cut.extent
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    left, right, top, bottom = cut.plane.letters
    style = {"fontsize": 12, "weight": "bold", "ha": "center", "va": "center", **_readable()}
    inset = 0.035 * max(width, height)
    for letter, x, y in (
        (left, inset, height / 2),
        (right, width - inset, height / 2),
        (top, width / 2, height - inset),
        (bottom, width / 2, inset),
    ):
        axes.text(x, y, letter, **style)
    position = center[cut.plane.normal]
    side = ("RL", "AP", "SI")[cut.plane.normal][int(position < 0)]
    axes.set_title(f"{cut.plane.name}, {side} {abs(position):.1f} mm", color=TEXT_COLOR, fontsize=10.5, pad=4)
    _mark_center(axes, cut, center)
    _scale_bar(axes)


def _narrow(axes: Axes, cut: Cut, center: np.ndarray) -> None:
    """Show the surroundings of the center alone, kept inside the picture."""
    for limit, at, size in zip((axes.set_xlim, axes.set_ylim), _in_picture(cut, center), cut.extent[1::2]):
        low = float(np.clip(at - CLOSE_UP * size / 2, 0.0, (1 - CLOSE_UP) * size))
        limit(low, low + CLOSE_UP * size)
    axes.set_title(f"{cut.plane.name}, close-up of the scan", color=TEXT_COLOR, fontsize=10.5, pad=4)
    _scale_bar(axes)


def _in_picture(cut: Cut, center: np.ndarray) -> tuple[float, float]:
    """Place of the center in the plane, mm to the right and up from the picture's lower left corner."""
    corner = cut.ras[-1, 0]
    axes = cut.plane.right[0], cut.plane.up[0]
    return tuple(abs(float(center[axis] - corner[axis])) + cut.pixel / 2 for axis in axes)


def _readable() -> dict[str, object]:
    """Light text with a dark edge, legible on bone and on air."""
    from matplotlib.patheffects import withStroke

    return {"color": TEXT_COLOR, "path_effects": [withStroke(linewidth=2.5, foreground="black")]}


def _mark_center(axes: Axes, cut: Cut, center: np.ndarray) -> None:
    """Short ticks at the borders where the other two planes cut this one."""
    _, width, _, height = cut.extent
    x, y = _in_picture(cut, center)
    tick = 0.03 * max(width, height)
    for xs, ys in (
        ((x, x), (0, tick)),
        ((x, x), (height - tick, height)),
        ((0, tick), (y, y)),
        ((width - tick, width), (y, y)),
    ):
        axes.plot(xs, ys, color=OUTLINE_COLOR, linewidth=1.0, clip_on=True)


def _scale_bar(axes: Axes) -> None:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    inset = 0.035 * max(right - left, top - bottom)
    length = max((step for step in SCALE_BARS_MM if step <= 0.3 * (right - left)), default=SCALE_BARS_MM[0])
    start, height = left + inset, bottom + inset
    axes.plot([start, start + length], [height] * 2, color="black", linewidth=4.5, solid_capstyle="butt")
    axes.plot([start, start + length], [height] * 2, color=TEXT_COLOR, linewidth=2.2, solid_capstyle="butt")
    axes.text(
        start + length / 2, height + 0.3 * inset, f"{length} mm", fontsize=9, ha="center", va="bottom", **_readable()
    )


def _color_bar(figure: Figure, axes: Axes, shown: AxesImage, threshold: float, unit: str) -> None:
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(shown.norm, shown.cmap), cax=axes)
    bar.set_label(unit, color=TEXT_COLOR, fontsize=11)
    bar.outline.set_edgecolor(TEXT_COLOR)
    bar.formatter.set_powerlimits((-2, 3))
    bar.update_ticks()
    bar.ax.tick_params(colors=TEXT_COLOR, labelsize=9)
    bar.ax.yaxis.get_offset_text().set_color(TEXT_COLOR)
    if 0.0 < threshold < shown.norm.vmax:
        bar.ax.axhline(threshold, color=OUTLINE_COLOR, linewidth=2)


def _center(grid: Grid, values: np.ndarray, threshold: float) -> np.ndarray:
    strongest = np.unravel_index(int(np.nanargmax(values)), values.shape)
    return grid.index_to_ras(strongest) if values[strongest] > threshold else grid.center


def _upper(values: np.ndarray, threshold: float) -> float:
    above = values[values > threshold]
    reached = float(np.quantile(above, 0.999)) if above.size else 0.0
    return max(reached, 1.5 * threshold, 1e-9)
