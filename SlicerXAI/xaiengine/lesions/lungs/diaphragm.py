"""Where the lungs end below: the diaphragm, and the top of its dome."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .rib_cage import RibCage
from .sides import LEFT, RIGHT

DEPTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
DOME_SMOOTHING_MM = 45.0
MIRROR_TOLERANCE_MM = 35.0
MIRROR_MARGIN_MM = 20.0

DOME = (0.20, 0.22, 0.27, 0.36, 0.46, 0.46)
"""Height that the diaphragm does not exceed after a full breath, a value per depth. Used where some lung, on either
side, reaches down to LOWEST_SEEN: only then are the heights, which are measured from the apex, confirmed."""

LOWEST_SEEN = 0.12

CAP_UNDER_LUNG = 0.6
CAP_ON_ABDOMEN = 0.8
FLATTEST_CAP = 0.5
"""A part is the top of the diaphragm's dome when it rests on the abdomen and lies under aerated lung with more than
these shares of its faces, and is thinner than this share of its diameter. Consolidations of a base are thicker."""


def diaphragm(cage: RibCage, height: np.ndarray, sides: np.ndarray, middle: float, spacing: float) -> np.ndarray:
    """Index along the third axis below which no lung is looked for, per column, (I, J) float."""
    footprint = np.asarray(cage.inside.any(axis=2))
    bottoms = {side: _lowest(sides == side) for side in (RIGHT, LEFT)}
    mirror = np.rint(2 * middle - np.arange(sides.shape[0])).astype(int)
    on_grid = (mirror >= 0) & (mirror < sides.shape[0])
    right_half = np.arange(sides.shape[0]) > middle
    bottom: np.ndarray = np.full(footprint.shape, np.inf)
    for side, half in ((RIGHT, right_half), (LEFT, ~right_half)):
        own = bottoms[side]
        other = np.full(own.shape, np.inf)
        other[on_grid] = bottoms[RIGHT + LEFT - side][mirror[on_grid]]
        other += MIRROR_MARGIN_MM / spacing
        much_lower = own > other + (MIRROR_TOLERANCE_MM - MIRROR_MARGIN_MM) / spacing
        own = np.where(much_lower, other, own)
        bottom[half] = own[half]
    bottom = np.minimum(_extended(bottom, footprint), _highest_dome(cage, height, sides > 0))
    size = int(round(DOME_SMOOTHING_MM / spacing))
    smooth = ndimage.grey_opening(bottom, footprint=_disc(size))
    return np.where(footprint, np.minimum(bottom, smooth), np.inf)


def is_dome_top(part: np.ndarray, lungs: np.ndarray, abdomen: np.ndarray) -> bool:
    """Whether ``part`` (I, J, K) is the top of the diaphragm's dome: flat, under aerated lung, on the abdomen."""
    thickness = part.sum(axis=2)
    diameter = 2 * np.sqrt(np.count_nonzero(thickness) / np.pi)
    top = np.zeros_like(part)
    top[:, :, 1:] = part[:, :, :-1] & ~part[:, :, 1:]
    base = np.zeros_like(part)
    base[:, :, :-1] = part[:, :, 1:] & ~part[:, :, :-1]
    if not top.any() or not base.any():
        return False
    flat = np.percentile(thickness[thickness > 0], 95) <= FLATTEST_CAP * diameter
    return bool(flat and lungs[top].mean() >= CAP_UNDER_LUNG and abdomen[base].mean() >= CAP_ON_ABDOMEN)


def _highest_dome(cage: RibCage, height: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Index along the third axis that the diaphragm does not exceed, per column of a row (J,); infinite if unknown."""
    lowest = np.flatnonzero(lungs.any(axis=(0, 1)))[0]
    if not height[lowest] <= LOWEST_SEEN:
        return np.full(lungs.shape[1], np.inf)
    middle = (height > 0.3) & (height < 0.7)
    back, front = np.nanmedian(cage.back[middle]), np.nanmedian(cage.front[middle])
    depth = np.clip((np.arange(lungs.shape[1]) - back) / (front - back), 0.0, 1.0)
    return np.searchsorted(height, np.interp(depth, DEPTHS, DOME)).astype(float)


def _lowest(mask: np.ndarray) -> np.ndarray:
    """Index of the lowest voxel of each column, (I, J) float; infinite for an empty column."""
    return np.where(mask.any(axis=2), mask.argmax(axis=2), np.inf)


def _extended(bottom: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Columns without a value take that of the nearest column that has one."""
    known = np.isfinite(bottom)
    if not known.any():
        return bottom
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return bottom[tuple(nearest)]


def _disc(diameter: int) -> np.ndarray:
    offset = np.arange(diameter) - (diameter - 1) / 2
    return offset[:, None] ** 2 + offset[None, :] ** 2 <= (diameter / 2) ** 2
