"""The geometry of a volume: its shape in voxels and where its voxels lie in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import InputError

SMALLEST_SPACING_MM = 1e-6
LARGEST_SPACING_MM = 1e4
FARTHEST_MM = 1e6
SMALLEST_INDEPENDENCE = 0.01
"""Minimum volume of the box spanned by the three unit axis directions (1 for perpendicular axes)."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A lattice of voxels in the patient.

    ``shape`` is (I, J, K); ``affine`` is the 4x4 matrix from voxel indices (i, j, k, 1) to RAS coordinates
    in mm, as 3D Slicer's IJKToRAS. Indices are those of voxel centers: voxel 0 extends from -0.5 to 0.5.

    Raises:
        InputError: the shape is not three positive numbers, or the affine cannot be inverted.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    _inverse: np.ndarray = field(init=False, repr=False)

    if TYPE_CHECKING:  # any three sizes do; they are checked

        def __init__(self, shape: Sequence[int], affine: np.ndarray) -> None: ...

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        _check_shape(shape)
        _check_affine(affine)
        inverse = np.linalg.inv(affine)
        affine.setflags(write=False)
        inverse.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "_inverse", inverse)

    @classmethod
    def from_directions(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        directions: np.ndarray | None = None,
        origin: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> Grid:
        """Grid from spacing (mm), unit direction columns (3x3, RAS) and the RAS position (mm) of voxel (0, "
        "0, 0)."""
        affine = np.eye(4)
        affine[:3, :3] = (np.eye(3) if directions is None else np.asarray(directions)) * np.asarray(spacing)
        affine[:3, 3] = origin
        return cls(tuple(shape), affine)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighboring voxels along each index axis."""
        first, second, third = (float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))
        return first, second, third

    @property
    def directions(self) -> np.ndarray:
        """Unit vectors (RAS) of the index axes, as the columns of a 3x3 matrix."""
        return self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def origin(self) -> np.ndarray:
        """RAS position in mm of the center of voxel (0, 0, 0)."""
        return self.affine[:3, 3]

    @property
    def center(self) -> np.ndarray:
        """RAS position in mm of the middle of the grid."""
        return self.index_to_ras((np.array(self.shape) - 1) / 2)

    @property
    def voxel_count(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def handedness(self) -> int:
        """1 for right-handed index axes, -1 for left-handed (mirrored) ones."""
        return 1 if np.linalg.det(self.affine[:3, :3]) > 0 else -1

    @property
    def is_sheared(self) -> bool:
        """True when the index axes are not perpendicular (tilted gantry)."""
        directions = self.directions
        return not np.allclose(directions.T @ directions, np.eye(3), atol=1e-3)

    @property
    def anatomical_axes(self) -> tuple[tuple[int, int], ...]:
        """For each index axis the nearest RAS axis (0 R, 1 A, 2 S), each used once, and the sign of the
        direction.

        An axial volume as most scanners store it has ``((0, -1), (1, -1), (2, 1))``.
        """
        cosines = self.directions.copy()
        axes: list[tuple[int, int]] = [(0, 1)] * 3
        for _ in range(3):
            ras_axis, index_axis = np.unravel_index(np.argmax(np.abs(cosines)), (3, 3))
            axes[index_axis] = (int(ras_axis), 1 if self.directions[ras_axis, index_axis] >= 0 else -1)
            cosines[ras_axis, :] = 0
            cosines[:, index_axis] = 0
        return tuple(axes)

    def index_axis(self, ras_axis: int) -> int:
        """The index axis that runs nearest to a RAS axis (0 R, 1 A, 2 S): 2 gives the axis across axial "
        "slices."""
        return [axis for axis, _ in self.anatomical_axes].index(ras_axis)

    def index_to_ras(self, index: np.ndarray | Sequence[float]) -> np.ndarray:
        """RAS positions in mm of (fractional) voxel indices; both are (..., 3)."""
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def ras_to_index(self, ras: np.ndarray | Sequence[float]) -> np.ndarray:
        """Fractional voxel indices of RAS positions in mm; both are (..., 3)."""
        return np.asarray(ras, dtype=np.float64) @ self._inverse[:3, :3].T + self._inverse[:3, 3]

    def contains(self, ras: np.ndarray | Sequence[float]) -> np.ndarray:
        """Whether each RAS position (..., 3) lies in a voxel of the grid; boolean (...)."""
        index = self.ras_to_index(ras)
        tolerance = 1e-6
        inside = (index >= -0.5 - tolerance) & (index <= np.array(self.shape) - 0.5 + tolerance)
        return np.asarray(inside.all(axis=-1))

    def corners(self) -> np.ndarray:
        """RAS positions in mm of the centers of the eight corner voxels, (8, 3)."""
        last = np.array(self.shape) - 1
        corners = np.array(np.meshgrid(*[[0, end] for end in last], indexing="ij")).reshape(3, -1).T
        return self.index_to_ras(corners)

    def index_mapping(self, target: Grid) -> np.ndarray:
        """The 4x4 matrix from voxel indices of ``target`` to (fractional) voxel indices of this grid."""
        return self._inverse @ target.affine

    def overlaps(self, other: Grid) -> float:
        """Share (0..1) of this grid's extent that lies within ``other``; accurate to about a percent."""
        volumes = [grid.voxel_volume_ml * grid.voxel_count for grid in (self, other)]
        if volumes[0] <= volumes[1]:
            return float(other.contains(_lattice(self)).mean())
        return min(1.0, float(self.contains(_lattice(other)).mean()) * volumes[1] / volumes[0])

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids have the same voxels: equal shapes, and corners within ``tolerance`` mm."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self.corners() - other.corners()).max() <= tolerance)

    def resized(self, shape: Sequence[int]) -> Grid:
        """The grid of another shape over the same extent, edge to edge.

        This is where the voxels of a network's feature map, or of an array resized with
        ``align_corners=False``, lie when the array before it lies on this grid.
        """
        shape = tuple(int(size) for size in shape)
        scale = np.array(self.shape) / np.array(shape, dtype=np.float64)
        step = np.diag([*scale, 1.0])
        step[:3, 3] = (scale - 1) / 2
        return Grid(shape, self.affine @ step)

    def cropped(self, start: Sequence[int], shape: Sequence[int]) -> Grid:
        """The grid of a box of voxels from index ``start``, which may be negative (padding)."""
        affine = self.affine.copy()
        affine[:3, 3] = self.index_to_ras(start)
        return Grid(tuple(shape), affine)

    def flipped(self, axes: Sequence[int]) -> Grid:
        """The same voxels, stored the other way around along some of the axes."""
        affine = self.affine.copy()
        affine[:3, 3] = self.index_to_ras([size - 1 if axis in axes else 0 for axis, size in enumerate(self.shape)])
        affine[:3, list(axes)] *= -1
        return Grid(self.shape, affine)

    def describe(self) -> str:
        """Size and spacing in words, for messages: ``512 x 512 x 133 voxels of 0.70 x 0.70 x 2.50 mm``."""
        size = " x ".join(str(count) for count in self.shape)
        spacing = " x ".join(f"{length:.3g}" for length in self.spacing)
        return f"{size} voxels of {spacing} mm"


def _lattice(grid: Grid, per_axis: int = 32) -> np.ndarray:
    """RAS positions of evenly spread points of the grid's extent, (per_axis ** 3, 3)."""
    steps = [(np.arange(per_axis) + 0.5) / per_axis * size - 0.5 for size in grid.shape]
    return grid.index_to_ras(np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3))


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        raise InputError(
            f"The image has {len(shape)} dimensions (sizes {shape}); a volume with 3 was expected.",
            "Choose a three-dimensional scan.",
        )
    if min(shape) < 1:
        raise InputError(f"The volume is empty: its size is {shape} voxels.", "Choose a volume that holds an image.")


def _check_affine(affine: np.ndarray) -> None:
    remedy = "Correct the geometry in 3D Slicer (Volumes module, Volume Information) and save the volume again."
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise InputError("The position of the voxels is not given by a finite 4x4 matrix.", remedy)
    if not np.allclose(affine[3], [0, 0, 0, 1]):
        raise InputError(f"The last row of the matrix of the voxels' position is {affine[3]}, not 0 0 0 1.", remedy)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < SMALLEST_SPACING_MM:
        numbers = " x ".join(f"{length:g}" for length in spacing)
        raise InputError(f"The spacing of the voxels is {numbers} mm; it must be above zero.", remedy)
    if spacing.max() > LARGEST_SPACING_MM or np.abs(affine[:3, 3]).max() > FARTHEST_MM:
        numbers = " x ".join(f"{length:g}" for length in spacing)
        origin = ", ".join(f"{number:g}" for number in affine[:3, 3])
        raise InputError(
            f"The spacing of the voxels is {numbers} mm and the first lies at ({origin}) mm, outside any patient.",
            remedy,
        )
    independence = abs(np.linalg.det(affine[:3, :3] / spacing))
    if independence < SMALLEST_INDEPENDENCE:
        raise InputError(
            f"The directions of the volume's axes are singular (determinant {independence:.2g}): "
            "two of the axes run the same way.",
            remedy,
        )
