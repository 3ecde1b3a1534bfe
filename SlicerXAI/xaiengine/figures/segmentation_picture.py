"""A picture of a map over a scan: three planes through the target, with its outline and a color bar."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..io.grid import Grid
from ..io.resample import resample
from ..io.volume import Volume

PLANES = (("axial", 2, (0, 1)), ("coronal", 1, (0, 2)), ("sagittal", 0, (1, 2)))
LONGEST_SIDE = 320


def signed_picture(
    path: Path,
    volume: Volume,
    values: np.ndarray,
    mask: np.ndarray,
    *,
    signed: bool,
    window: float,
    title: str,
    unit: str,
    caption: str,
) -> None:
    """Write a PNG. ``values`` and ``mask`` (I, J, K) lie on the volume's grid; planes are those of the patient."""
    from matplotlib import cm, colors
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    grid = _upright(volume.grid)
    scan = resample(
        volume.channels_first()[0].astype(np.float32),
        volume.grid,
        grid,
        "linear",
        float(volume.channels_first()[0].min()),
    )
    heat = resample(values.astype(np.float32), volume.grid, grid)
    outline = resample(mask.astype(np.uint8), volume.grid, grid, "nearest")
    center = _center(outline, heat)
    low, high = np.percentile(scan, [1, 99.5])
    hues = cm.ScalarMappable(colors.Normalize(-window if signed else 0, window), "RdBu_r" if signed else "inferno")
    figure = Figure(figsize=(12, 4.6), dpi=110, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    planes = [plane for plane in PLANES if min(grid.shape[axis] for axis in plane[2]) > 1]  # one of a 2D image
    axes = figure.subplots(1, len(planes), squeeze=False)[0]
    for axis, (name, across, _) in zip(axes, planes):
        index = [slice(None)] * 3
        index[across] = center[across]
        plane, layer, edge = (np.flipud(array[tuple(index)].T) for array in (scan, heat, outline))
        spacing = [step for n, step in enumerate(grid.spacing) if n != across]
        view = {"aspect": spacing[1] / spacing[0], "interpolation": "nearest"}
        axis.imshow(plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), **view)
        shown = hues.to_rgba(layer)
        shown[..., 3] = np.clip(np.abs(layer) / (0.35 * window), 0, 0.75)  # nothing is drawn where the map is 0
        axis.imshow(shown, **view)
        if edge.any():
            axis.contour(edge, levels=[0.5], colors=["#40ff80"], linewidths=0.8)
        if across != 0:
            axis.invert_xaxis()  # the patient's right on the left of the picture
        axis.set_title(name, color="white", fontsize=10)
        axis.axis("off")
    bar = figure.colorbar(hues, ax=axes, shrink=0.8, pad=0.01)
    bar.set_label(unit, color="white")
    bar.ax.tick_params(colors="white", labelsize=8)
    figure.suptitle(title, color="white", fontsize=12)
    figure.supxlabel(caption, color="white", fontsize=9)
    figure.savefig(path, facecolor="black")


def _upright(grid: Grid) -> Grid:
    """A grid along the RAS axes around another, no finer than a picture needs."""
    corners = grid.corners()
    low, high = corners.min(0), corners.max(0)
    step = max(min(grid.spacing), float((high - low).max()) / LONGEST_SIDE)
    shape = tuple(int(size) for size in np.maximum(1, np.round((high - low) / step) + 1))
    return Grid.from_directions(shape, (step,) * 3, origin=low)


def _center(mask: np.ndarray, heat: np.ndarray) -> tuple[int, int, int]:
    """The voxel of the mask nearest to its middle; the strongest voxel where there is no mask."""
    voxels = np.argwhere(mask)
    if not len(voxels):
        return tuple(int(n) for n in np.unravel_index(int(np.abs(heat).argmax()), heat.shape))
    middle = np.median(voxels, axis=0)
    return tuple(int(n) for n in voxels[np.argmin(((voxels - middle) ** 2).sum(1))])
