"""The inner wall of the rib cage, seen from the middle of the chest, also where no air lies behind it.

In each axial slice the wall is a radius per direction. Ribs cross a slice every few centimetres only, and shoulder
blades or vessels with contrast agent can be mistaken for them; the median over neighboring directions and slices
bridges the gaps and drops the mistakes. Where aerated lung is seen to reach ribs nearby, only those ribs count.
Aerated lung always lies inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .morphology import CORNERS, components, opened
from .thorax import ChestAir
from .working_copy import WorkingCopy

DIRECTIONS = 120
BONE_HU = 160.0
SMALLEST_RIB_ML = 0.3
THICKEST_RIB_MM = 7.0
WINDOW_DIRECTIONS = 5
WINDOW_MM = 20.0
BESIDE_AIR_MM = 7.0
BESIDE_AIR_SHARE = 0.15
INNERMOST_SHARE = 0.45
"""No rib lies nearer to the middle than this share of the way to the skin."""


@dataclass(frozen=True, eq=False)
class RibCage:
    """``inside`` (I, J, K) bool on the working copy; ``center`` (x, y) in voxels from which the wall was seen.

    ``half_widths`` (K, 2): extent in voxels to the patient's right and left of the center; ``front`` and ``back``
    (K,): the index along the second axis of the wall's foremost and hindmost points. NaN in slices without a wall.
    """

    inside: np.ndarray
    center: np.ndarray
    half_widths: np.ndarray
    front: np.ndarray
    back: np.ndarray


def find_rib_cage(copy: WorkingCopy, air: ChestAir, lungs: np.ndarray, middle: float) -> RibCage:
    """Rib cage at the height of ``lungs`` (I, J, K) bool; ``middle`` is the midplane's index along the first axis."""
    heights = np.flatnonzero(lungs.any(axis=(0, 1)))
    levels = np.arange(heights[0], heights[-1] + 1)
    center = np.array([middle, np.median(np.nonzero(air.body[:, :, levels])[1])])
    air_radius, rib_radius = _radii(copy, air, lungs, center, levels)
    wall = _wall(air_radius, rib_radius, copy.spacing)
    inside = np.zeros(lungs.shape, bool)
    inside[:, :, levels] = _fill(wall, center, lungs.shape[:2])
    inside |= lungs
    return _measured(inside & air.body, center)


def _directions() -> tuple[np.ndarray, np.ndarray]:
    angle = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    return np.cos(angle), np.sin(angle)


def _radii(
    copy: WorkingCopy, air: ChestAir, lungs: np.ndarray, center: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Outermost radius of lung and innermost radius of rib, in voxels, (directions, levels); 0 and NaN for none."""
    ribs = _ribs(copy, air)
    steps = np.arange(0.0, np.hypot(*lungs.shape[:2]), 0.5)
    cosine, sine = _directions()
    x = np.rint(center[0] + np.outer(cosine, steps)).astype(int)
    y = np.rint(center[1] + np.outer(sine, steps)).astype(int)
    valid = (x >= 0) & (x < lungs.shape[0]) & (y >= 0) & (y < lungs.shape[1])
    x, y = np.where(valid, x, 0), np.where(valid, y, 0)
    air_radius = np.zeros((DIRECTIONS, levels.size))
    rib_radius = np.full((DIRECTIONS, levels.size), np.nan)
    for column, k in enumerate(levels):
        lung_hit = lungs[:, :, k][x, y] & valid
        skin = _last(air.body[:, :, k][x, y] & valid, steps)
        air_radius[:, column] = _last(lung_hit, steps)
        innermost = np.maximum(air_radius[:, column] - 2.0, INNERMOST_SHARE * skin)
        rib_hit = ribs[:, :, k][x, y] & valid & (steps >= innermost[:, None])
        found = rib_hit.any(axis=1)
        rib_radius[found, column] = steps[rib_hit[found].argmax(axis=1)]
    return air_radius, rib_radius


def _ribs(copy: WorkingCopy, air: ChestAir) -> np.ndarray:
    """Bone thinner than a vertebra, without the specks that noise leaves, (I, J, K) bool."""
    bone = air.body & (copy.hu > BONE_HU)
    thin = bone & ~opened(bone, THICKEST_RIB_MM, copy.spacing)
    labels, sizes = components(thin, CORNERS)
    return (sizes * copy.voxel_ml >= SMALLEST_RIB_ML)[labels]


def _last(hit: np.ndarray, steps: np.ndarray) -> np.ndarray:
    last = steps[hit.shape[1] - 1 - hit[:, ::-1].argmax(axis=1)]
    return np.where(hit.any(axis=1), last, 0.0)


def _wall(air_radius: np.ndarray, rib_radius: np.ndarray, spacing: float) -> np.ndarray:
    """Radius of the wall in voxels, (directions, levels)."""
    windows = _windows(rib_radius, spacing)
    seen = np.isfinite(windows).any(axis=-1)
    if not seen.any():
        return air_radius
    beside_air = rib_radius - air_radius <= BESIDE_AIR_MM / spacing
    trusted = _windows(np.where(beside_air, rib_radius, np.nan), spacing)
    hits, trusted_hits = (np.isfinite(radii).sum(axis=-1) for radii in (windows, trusted))
    reached = seen & (trusted_hits >= np.maximum(BESIDE_AIR_SHARE * hits, 1))
    wall = np.zeros_like(rib_radius)
    wall[seen] = _median(windows[seen])
    wall[reached] = _median(trusted[reached])
    wall = ndimage.gaussian_filter(wall, (1.0, 1.0), mode=("wrap", "nearest"))
    return np.maximum(wall, air_radius)


def _windows(radius: np.ndarray, spacing: float) -> np.ndarray:
    """For each direction and level the values of its neighbors, (directions, levels, neighbors)."""
    reach = int(round(WINDOW_MM / spacing))
    padded = np.pad(radius, ((WINDOW_DIRECTIONS,) * 2, (0, 0)), mode="wrap")
    padded = np.pad(padded, ((0, 0), (reach, reach)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * WINDOW_DIRECTIONS + 1, 2 * reach + 1))
    return windows.reshape(*radius.shape, -1)


def _median(values: np.ndarray) -> np.ndarray:
    """The middle one of the finite values in each row (n, m), the lower of two, (n,)."""
    ordered = np.sort(values, axis=-1)  # NaN come last
    middle = (np.isfinite(ordered).sum(axis=-1) - 1) // 2
    return np.take_along_axis(ordered, middle[:, None], axis=-1)[:, 0]


def _fill(wall: np.ndarray, center: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Voxels nearer to the center than the wall in their direction, (I, J, levels) bool."""
    dx = np.arange(shape[0])[:, None] - center[0]
    dy = np.arange(shape[1])[None, :] - center[1]
    radius = np.hypot(dx, dy)
    position = (np.arctan2(dy, dx) % (2 * np.pi)) / (2 * np.pi) * DIRECTIONS
    low = np.floor(position).astype(int) % DIRECTIONS
    weight = (position - np.floor(position))[..., None]
    limit = wall[low] * (1 - weight) + wall[(low + 1) % DIRECTIONS] * weight
    return radius[..., None] <= limit


def _measured(inside: np.ndarray, center: np.ndarray) -> RibCage:
    count = inside.shape[2]
    half_widths, front, back = np.full((count, 2), np.nan), np.full(count, np.nan), np.full(count, np.nan)
    for k in np.flatnonzero(inside.any(axis=(0, 1))):
        columns = np.flatnonzero(inside[:, :, k].any(axis=1))
        rows = np.flatnonzero(inside[:, :, k].any(axis=0))
        half_widths[k] = max(columns[-1] - center[0], 1.0), max(center[0] - columns[0], 1.0)
        back[k], front[k] = rows[0], rows[-1]
    return RibCage(inside, center, half_widths, front, back)
