"""Test scans: one body, given by formulas in the patient's coordinates, sampled on every kind of grid.

The body is a small thorax: an elliptic cylinder of soft tissue in air with two lungs, and balls as lesions where a
test wants them. Because it is a formula in RAS mm, what lies at a point does not depend on the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume

AIR, LUNG, TISSUE, LESION = -1000, -820, 40, 20
LESION_POINT = (-31.0, 6.0, 9.0)
"""A RAS point (mm) in the left lung that lies well within every grid."""

_TILT = np.array([[0.91, 0.35, -0.22], [-0.32, 0.93, 0.15], [0.26, -0.07, 0.96]])


def _rotation() -> np.ndarray:
    """The nearest rotation to a tilt about all three axes."""
    left, _, right = np.linalg.svd(_TILT)
    return left @ right


def _centered(shape: Sequence[int], spacing: Sequence[float], directions: np.ndarray) -> Grid:
    """A grid whose middle lies near the origin, off by a few tenths of a mm as in real scans."""
    grid = Grid.from_directions(shape, spacing, directions)
    return Grid.from_directions(shape, spacing, directions, np.array([0.3, -0.7, 1.1]) - grid.center)


_LPS = np.diag([-1.0, -1.0, 1.0])
_SAGITTAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])

GRIDS: dict[str, Grid] = {
    "axial": _centered((50, 40, 32), (2.4, 2.4, 3.0), _LPS),
    "sagittal_stored": _centered((40, 32, 50), (2.4, 3.0, 2.4), _SAGITTAL),
    "oblique": _centered((52, 44, 38), (2.4, 2.5, 3.0), _rotation() @ _LPS),
    "left_handed": _centered((50, 40, 32), (2.4, 2.4, 3.0), np.diag([-1.0, 1.0, 1.0])),
    "anisotropic": _centered((80, 66, 14), (1.5, 1.5, 7.0), _LPS),
    "cropped": _centered((50, 40, 32), (2.4, 2.4, 3.0), _LPS).cropped((22, 6, 5), (26, 27, 24)),
}
"""The geometries that every path through the software is tested on."""

SHEARED = Grid(
    (50, 40, 32), GRIDS["axial"].affine @ np.array([[1, 0, 0, 0], [0, 1, 0.25, -4], [0, 0, 1, 0], [0, 0, 0, 1.0]])
)
"""A tilted gantry: rows of slices are shifted against each other."""


@dataclass(frozen=True)
class Ball:
    """A lesion: all points within ``radius`` mm of ``center`` (RAS mm)."""

    center: tuple[float, float, float] = LESION_POINT
    radius: float = 9.0
    value: float = LESION

    def mask(self, grid: Grid) -> np.ndarray:
        """The voxels whose centers lie in the ball, boolean (I, J, K)."""
        distance = np.linalg.norm(coordinates(grid) - np.reshape(self.center, (3, 1, 1, 1)), axis=0)
        return distance <= self.radius

    @property
    def volume_ml(self) -> float:
        return 4 / 3 * np.pi * self.radius**3 / 1000


def coordinates(grid: Grid) -> np.ndarray:
    """A coordinate phantom: each voxel's own R, A and S in mm, (3, I, J, K)."""
    indices = np.stack(np.meshgrid(*[np.arange(size) for size in grid.shape], indexing="ij"), axis=-1)
    return np.moveaxis(grid.index_to_ras(indices), -1, 0)


def lung_mask(grid: Grid, side: str = "") -> np.ndarray:
    """The voxels of both lungs, or of the "left" or "right" one, boolean (I, J, K)."""
    r, a, s = coordinates(grid)
    lungs = np.zeros(grid.shape, dtype=bool)
    for name, center in (("left", -28.0), ("right", 28.0)):
        if side in ("", name):
            lungs |= ((r - center) / 17) ** 2 + (a / 24) ** 2 + (s / 38) ** 2 <= 1
    return lungs


def thorax(grid: Grid, lesions: Sequence[Ball] = (), noise: float = 0.0, seed: int = 0) -> Volume:
    """The body as a CT in HU, int16; ``noise`` is the standard deviation of Gaussian noise in HU."""
    r, a, _ = coordinates(grid)
    values = np.full(grid.shape, float(AIR))
    values[(r / 54) ** 2 + (a / 40) ** 2 <= 1] = TISSUE
    values[lung_mask(grid)] = LUNG
    for lesion in lesions:
        values[lesion.mask(grid)] = lesion.value
    if noise:
        values += np.random.default_rng(seed).normal(0.0, noise, grid.shape)
    return Volume(np.rint(values).astype(np.int16), grid, "thorax", "HU")


def smooth_field(grid: Grid) -> np.ndarray:
    """A smooth function of the RAS position, different in all directions, float64 (I, J, K)."""
    r, a, s = coordinates(grid)
    return np.sin(r / 23) + np.cos(a / 31 + 0.4) * np.sin(s / 27 - 0.3) + 0.01 * r - 0.004 * s
