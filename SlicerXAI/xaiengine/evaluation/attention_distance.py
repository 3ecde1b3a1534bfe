"""Where a model looks: how far from the explained structure an attribution lies, in millimeters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..io.distance import signed_distance

BINS = 60


@dataclass(frozen=True)
class DistanceCurve:
    """Attribution against the distance from a structure's surface.

    ``distance_mm`` (B,) are the far ends of the bins, negative inside; ``attribution`` (B,) the sum of |map| in each
    bin, ``volume_ml`` (B,) the tissue in it, ``share`` (B,) the part of all |map| up to there. ``radius_50_mm`` and
    ``radius_90_mm`` are how far outward one must go to hold 50 and 90 % of it (0: it lies inside).
    ``outside_share`` is the part outside the structure.
    """

    distance_mm: np.ndarray
    attribution: np.ndarray
    volume_ml: np.ndarray
    share: np.ndarray
    radius_50_mm: float
    radius_90_mm: float
    outside_share: float

    def rows(self) -> list[dict[str, float]]:
        """One row per bin, for a table and its plot."""
        density = np.divide(
            self.attribution, self.volume_ml, out=np.zeros_like(self.attribution), where=self.volume_ml > 0
        )
        return [
            {
                "distance (mm)": float(self.distance_mm[n]),
                "attribution": float(self.attribution[n]),
                "density (per mL)": float(density[n]),
                "share up to here (%)": 100 * float(self.share[n]),
            }
            for n in range(len(self.distance_mm))
        ]


def distance_curve(
    values: np.ndarray, mask: np.ndarray, spacing: Sequence[float], bin_mm: float | None = None
) -> DistanceCurve:
    """The curve of a map (I, J, K) around a structure ``mask`` (I, J, K) on a grid of ``spacing`` mm.

    ``bin_mm`` is the width of the bins, chosen from the extent of the scan by default.
    """
    distance = signed_distance(np.asarray(mask, bool), spacing)
    amount = np.abs(np.asarray(values, dtype=np.float64))
    extent = float(distance.max() - distance.min())
    width = bin_mm or max(min(spacing), extent / BINS)
    first, last = int(np.floor(distance.min() / width)), int(np.ceil(distance.max() / width))
    index = np.clip(np.ceil(distance / width).astype(int) - 1 - first, 0, last - first - 1).ravel()
    sums = np.bincount(index, amount.ravel(), last - first)
    counts = np.bincount(index, minlength=last - first)
    total = float(sums.sum())
    share = np.cumsum(sums) / total if total > 0 else np.zeros_like(sums)
    order = np.argsort(distance, axis=None)
    running = np.cumsum(amount.ravel()[order])
    return DistanceCurve(
        distance_mm=(np.arange(first, last) + 1) * width,
        attribution=sums,
        volume_ml=counts * float(np.prod(spacing)) / 1000,
        share=share,
        radius_50_mm=_radius(running, distance.ravel()[order], 0.5),
        radius_90_mm=_radius(running, distance.ravel()[order], 0.9),
        outside_share=float(amount[~np.asarray(mask, bool)].sum() / total) if total > 0 else 0.0,
    )


def _radius(running: np.ndarray, distance: np.ndarray, part: float) -> float:
    """The distance up to which the running sum reaches a part of its end; not below 0, the surface."""
    if running[-1] <= 0:
        return 0.0
    place = int(np.searchsorted(running, part * running[-1]))
    return float(max(0.0, distance[min(place, len(distance) - 1)]))


@dataclass(frozen=True)
class ReceptiveField:
    """How far the output at one voxel depends on the input: radii in mm that hold 50, 90 and 95 % of |gradient|,
    and the root mean square radius (the effective receptive field of Luo et al. 2016 is about twice that)."""

    radius_50_mm: float
    radius_90_mm: float
    radius_95_mm: float
    rms_mm: float


def receptive_field(gradient: np.ndarray, voxel: Sequence[int], spacing: Sequence[float]) -> ReceptiveField:
    """From the gradient (I, J, K) of the output at ``voxel`` with respect to the input."""
    axes = [(np.arange(size) - center) * step for size, center, step in zip(gradient.shape, voxel, spacing)]
    square = sum(
        axis.reshape([-1 if n == dimension else 1 for n in range(3)]) ** 2 for dimension, axis in enumerate(axes)
    )
    distance = np.sqrt(square).ravel()
    amount = np.abs(gradient).astype(np.float64).ravel()
    order = np.argsort(distance)
    running = np.cumsum(amount[order])
    radii = [_radius(running, distance[order], part) for part in (0.5, 0.9, 0.95)]
    energy = amount**2
    rms = float(np.sqrt((energy * distance**2).sum() / max(float(energy.sum()), 1e-30)))
    return ReceptiveField(*radii, rms)
