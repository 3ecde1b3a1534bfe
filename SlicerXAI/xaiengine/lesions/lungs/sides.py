"""Which lung: the patient's left and right lung told apart, also where they touch."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .morphology import components, eroded

RIGHT, LEFT = 1, 2
SMALLEST_SHARE = 0.1
"""A part with less than this share of a connected mass is not one of the two lungs that touch."""

SEPARATION_STEP_MM = 2.5
SEPARATION_LIMIT_MM = 20.0


def split_sides(mask: np.ndarray, body: np.ndarray, spacing: float) -> np.ndarray:
    """Labels (I, J, K) uint8, 1 right and 2 left, of a lung mask on a RAS-aligned grid (first axis to the right).

    Lungs that touch (at the anterior or posterior junction) are parted where erosion parts them first; the removed
    rim goes to the nearer part. What no erosion parts is one lung; alone in a field of view that cuts the body on one
    side, it is the lung of the other side.
    """
    sides = np.zeros(mask.shape, np.uint8)
    if not mask.any():
        return sides
    middle = midplane(mask, body)
    labels, sizes = components(mask)
    total = sizes.sum()
    for label in np.flatnonzero(sizes):
        part = labels == label
        x = np.nonzero(part)[0] - middle
        if sizes[label] < SMALLEST_SHARE * total or not _straddles(x):
            sides[part] = RIGHT if np.median(x) > 0 else LEFT
        else:
            parted = _parted(part, middle, spacing)
            sides[part] = _single(part, middle, body) if parted is None else parted[part]
    return sides


def midplane(mask: np.ndarray, body: np.ndarray) -> float:
    """Index along the first axis of the middle of the body at the height of the lungs."""
    heights = np.flatnonzero(mask.any(axis=(0, 1)))
    trunk = body[:, :, heights[0] : heights[-1] + 1]
    columns = np.nonzero(trunk)[0]
    return float(np.median(columns)) if columns.size else (mask.shape[0] - 1) / 2


def _straddles(x: np.ndarray) -> bool:
    return 0.15 < float((x > 0).mean()) < 0.85


def _single(part: np.ndarray, middle: float, body: np.ndarray) -> int:
    """Side of a lung that spans the middle of what is seen of the body."""
    heights = np.flatnonzero(part.any(axis=(0, 1)))
    trunk = body[:, :, heights[0] : heights[-1] + 1]
    cut = {side: np.count_nonzero(trunk[edge]) for side, edge in ((LEFT, 0), (RIGHT, -1))}
    if max(cut.values()) > 0 and min(cut.values()) < 0.2 * max(cut.values()):
        return RIGHT if cut[LEFT] > cut[RIGHT] else LEFT
    return RIGHT if np.median(np.nonzero(part)[0]) > middle else LEFT


def _parted(part: np.ndarray, middle: float, spacing: float) -> np.ndarray | None:
    """Sides of one connected mass that holds both lungs; None when erosion leaves it in one piece."""
    radius = SEPARATION_STEP_MM
    while radius <= SEPARATION_LIMIT_MM:
        labels, sizes = components(eroded(part, radius, spacing))
        seeds = _two_sided(labels, sizes, middle)
        if seeds is not None:
            nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
            return seeds[tuple(nearest)]
        radius += SEPARATION_STEP_MM
    return None


def _two_sided(labels: np.ndarray, sizes: np.ndarray, middle: float) -> np.ndarray | None:
    """Seeds of both lungs, or None while one part still holds both."""
    seeds = np.zeros(labels.shape, np.uint8)
    large = np.flatnonzero(sizes > SMALLEST_SHARE * sizes.sum())
    for label in large:
        x = np.nonzero(labels == label)[0] - middle
        if _straddles(x):
            return None
        seeds[labels == label] = RIGHT if np.median(x) > 0 else LEFT
    both = (seeds == RIGHT).any() and (seeds == LEFT).any()
    return seeds if both else None
