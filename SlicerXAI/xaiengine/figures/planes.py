"""Planes of the patient through a scan, as radiologists look at them, in mm, for scans stored in any orientation.

The patient's right is on the picture's left, the front is up in the axial plane, the head is up in the others, and in
the sagittal plane the front is on the picture's left. Planes are cut in the patient's axes, whatever the scan's; an
image of one slice is shown in its own plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..io.formats.file_names import PICTURES
from ..io.grid import Grid
from ..io.volume import Volume

MOST_PIXELS = 720
"""Along the longer side of a plane."""


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
    """A plane through a grid: ``ras`` (rows, columns, 3) in mm, row 0 at the top; square pixels of ``pixel`` mm.

    ``center`` is the point that the planes of a picture share, in mm to the right and up from the lower left corner.
    """

    plane: Plane
    ras: np.ndarray
    pixel: float
    center: tuple[float, float]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, lower and upper border in mm along the picture, from its lower left corner."""
        rows, columns = self.ras.shape[:2]
        return 0.0, columns * self.pixel, 0.0, rows * self.pixel

    def sample(self, array: np.ndarray, grid: Grid, order: int = 1, outside: float = 0.0) -> np.ndarray:
        """Values (rows, columns) of ``array`` (I, J, K) on ``grid`` in the plane; NaN where the array has NaN."""
        index = np.moveaxis(grid.ras_to_index(self.ras), -1, 0)
        inside = grid.contains(self.ras)
        box = []
        for axis, size in enumerate(array.shape):
            low = int(np.clip(np.floor(index[axis][inside].min(initial=size)), 0, size - 1)) if inside.any() else 0
            high = int(np.clip(np.ceil(index[axis][inside].max(initial=0.0)), low, size - 1)) if inside.any() else 0
            box.append(slice(low, high + 1))
            index[axis] -= low
        values = ndimage.map_coordinates(
            array[tuple(box)].astype(np.float32), index, order=order, mode="nearest", prefilter=False
        )
        return np.where(inside, values, outside)


def planes_of(grid: Grid) -> tuple[Plane, ...]:
    """The planes in which a scan has more than one voxel along both sides; one for a single image."""
    thick = [grid.shape[grid.index_axis(axis)] > 1 for axis in range(3)]
    shown = tuple(plane for plane in PLANES if thick[plane.right[0]] and thick[plane.up[0]])
    return shown or PLANES[:1]


def cut_through(grid: Grid, center_ras: Sequence[float] | np.ndarray, plane: Plane) -> Cut:
    """The whole cross-section of a grid's extent with the plane through a RAS point."""
    across = grid.index_axis(plane.normal)
    if grid.shape[across] == 1:
        return _own_plane(grid, center_ras, plane)
    half_voxel = np.abs(grid.affine[:3, :3]).sum(axis=1) / 2
    corners = grid.corners()
    low, high = corners.min(axis=0) - half_voxel, corners.max(axis=0) + half_voxel
    pixel = _pixel(grid, [high[axis] - low[axis] for axis, _ in (plane.right, plane.up)], plane)
    positions, at = [], []
    for axis, sign in (plane.right, plane.up):
        count = max(1, int(round((high[axis] - low[axis]) / pixel)))
        along = low[axis] + (np.arange(count) + 0.5) * (high[axis] - low[axis]) / count
        positions.append(along[::sign])
        at.append(float(center_ras[axis] - low[axis] if sign > 0 else high[axis] - center_ras[axis]))
    columns, rows = positions[0], positions[1][::-1]
    ras = np.empty((rows.size, columns.size, 3))
    ras[..., plane.right[0]] = columns[None, :]
    ras[..., plane.up[0]] = rows[:, None]
    ras[..., plane.normal] = center_ras[plane.normal]
    return Cut(plane, ras, pixel, (at[0], at[1]))


def _pixel(grid: Grid, sides: Sequence[float], plane: Plane) -> float:
    """Pixels of the finest voxel in the plane, no more of them than a picture shows."""
    finest = min(grid.spacing[grid.index_axis(axis)] for axis, _ in (plane.right, plane.up))
    return max(finest, max(sides) / MOST_PIXELS)


def _own_plane(grid: Grid, center_ras: Sequence[float] | np.ndarray, plane: Plane) -> Cut:
    """A single slice along its own axes, turned to the sides that the plane has."""
    axes = [grid.index_axis(axis) for axis, _ in (plane.right, plane.up)]
    signs = [sign * grid.anatomical_axes[grid.index_axis(axis)][1] for axis, sign in (plane.right, plane.up)]
    lengths = [grid.shape[axis] * grid.spacing[axis] for axis in axes]
    pixel = _pixel(grid, lengths, plane)
    index_of_center = grid.ras_to_index(center_ras)
    along, at = [], []
    for axis, sign, length in zip(axes, signs, lengths):
        count = max(1, int(round(length / pixel)))
        steps = (np.arange(count) + 0.5) / count * grid.shape[axis] - 0.5
        along.append(steps[::sign])
        from_low = (index_of_center[axis] + 0.5) * grid.spacing[axis]
        at.append(float(from_low if sign > 0 else length - from_low))
    columns, rows = along[0], along[1][::-1]
    index = np.zeros((rows.size, columns.size, 3))
    index[..., axes[0]] = columns[None, :]
    index[..., axes[1]] = rows[:, None]
    return Cut(plane, grid.index_to_ras(index), pixel, (at[0], at[1]))


def position_text(plane: Plane, center_ras: Sequence[float] | np.ndarray) -> str:
    """Where a plane lies: ``S 12.0 mm`` for an axial one."""
    position = float(center_ras[plane.normal])
    return f"{('RL', 'AP', 'SI')[plane.normal][int(position < 0)]} {abs(position):.1f} mm"


def knows_its_sides(volume: Volume) -> bool:
    """Whether a scan says which side of the patient is where; a photograph or PNG does not."""
    return volume.source is None or volume.source.suffix.lower() not in PICTURES
