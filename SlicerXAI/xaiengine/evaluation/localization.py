"""How well a map points at a known cause: a mask of the truth (spatial...)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from ..core.similarity import highest, unit_range

HEAT_FLOOR = 0.1
FOUND_PART = 0.2
QUANTILES = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class Localization:
    """Figures in 0..1, high is good.

    ``pointing``: 1 if the highest voxel lies in the truth. ``top``: share of the |truth| highest voxels that lie in
    it (also the Dice of the two). ``iou`` and ``dice`` at ``threshold`` of the map's range. ``average_precision``
    of the map as a detector of truth voxels. ``effective_heat_ratio`` see :func:`effective_heat_ratio`.
    """

    pointing: float
    top: float
    iou: float
    dice: float
    threshold: float
    average_precision: float
    effective_heat_ratio: float


def localization(values: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> Localization:
    """All figures of a map against the truth. Raises InputError when the truth is empty or everything."""
    values, truth = np.asarray(values, dtype=np.float64), np.asarray(truth, dtype=bool)
    check_truth(truth, values.shape)
    peak = np.unravel_index(int(values.argmax()), values.shape)
    inside = truth.ravel()[highest(values, int(truth.sum()))]
    marked = unit_range(values) >= threshold if values.max() > values.min() else np.zeros_like(truth)
    both, either = float((marked & truth).sum()), float((marked | truth).sum())
    return Localization(
        pointing=float(truth[peak]) if values.max() > values.min() else 0.0,
        top=float(inside.mean()),
        iou=both / either,
        dice=2 * both / float(marked.sum() + truth.sum()),
        threshold=threshold,
        average_precision=average_precision(values, truth),
        effective_heat_ratio=effective_heat_ratio(values, truth),
    )


def check_truth(truth: np.ndarray, shape: tuple[int, ...]) -> None:
    if truth.shape != shape:
        raise InputError(
            f"The truth has the shape {truth.shape}, the map {shape}.", "Bring both to the same grid first."
        )
    if not truth.any() or truth.all():
        raise InputError(
            "The truth marks no voxel, or every voxel, of the region that the map covers.",
            "Choose the segment in which the cause lies.",
        )


def effective_heat_ratio(values: np.ndarray, truth: np.ndarray) -> float:
    """Heat inside the truth by all heat, above rising quantiles of the heat, averaged over the quantiles.

    The map is scaled to 0..1 and heat below 0.1 dropped, so that a faint veil over the whole image does not count
    (Zhang 2021). A map without heat has 0.
    """
    heat = unit_range(values)
    heat = np.where(heat < HEAT_FLOOR, 0.0, heat)
    hot = heat[heat > 0]
    if not hot.size:
        return 0.0
    ratios = []
    for level in np.quantile(hot, QUANTILES):
        kept = np.where(heat >= level, heat, 0.0)
        ratios.append(kept[truth].sum() / kept.sum())
    widths = np.diff(QUANTILES)
    return float((widths * (np.array(ratios[1:]) + np.array(ratios[:-1])) / 2).sum())


def average_precision(values: np.ndarray, truth: np.ndarray) -> float:
    """Area below precision over recall as the threshold falls; equal values fall together."""
    order = np.argsort(-values.ravel(), kind="stable")
    sorted_values = values.ravel()[order]
    hits = np.cumsum(truth.ravel()[order])
    ends = np.append(np.flatnonzero(np.diff(sorted_values)), values.size - 1)
    precision = hits[ends] / (ends + 1)
    recall = hits[ends] / truth.sum()
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def found_causes(values: np.ndarray, causes: list[np.ndarray], part: float | None = None) -> int:
    """How many of several causes (masks) the map finds: a fifth of the cause lies among its highest voxels.

    ``part`` is the share of voxels that count as highest; by default as many as all causes have together. Voxels
    that are not above 0 never count.
    """
    union = np.any(causes, axis=0)
    count = max(1, round(part * values.size)) if part else int(union.sum())
    chosen = np.zeros(values.size, dtype=bool)
    chosen[highest(values, count)] = True
    chosen = chosen.reshape(values.shape) & (values > 0)
    return sum(int((chosen & cause).sum() >= FOUND_PART * cause.sum()) for cause in causes)
