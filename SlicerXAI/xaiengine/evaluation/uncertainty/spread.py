"""Mean and standard deviation of maps over runs, voxel by voxel and region by region.

A place is called stable where the SD over the runs is at most half of the mean: the map keeps its sign there and
most of its size. The stable part is weighted by the map, so that the many voxels near 0 do not decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...attribution.regions import region_table
from ...core.similarity import spearman

SD_PART_COLUMN, STABLE_COLUMN = "SD of part (%)", "stable part (%)"
STABLE_RATIO = 0.5


class RunningSpread:
    """Mean and sample SD of arrays that come one after another (Welford 1962), without keeping them."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: np.ndarray = np.zeros(())
        self._squares: np.ndarray = np.zeros(())

    def add(self, values: np.ndarray) -> None:
        values = np.asarray(values, dtype=np.float64)
        self.count += 1
        if self.count == 1:
            self.mean, self._squares = values.copy(), np.zeros_like(values)
            return
        change = values - self.mean
        self.mean += change / self.count
        self._squares += change * (values - self.mean)

    @property
    def sd(self) -> np.ndarray:
        """With n - 1; 0 for a single array."""
        return np.sqrt(self._squares / max(1, self.count - 1))


@dataclass(eq=False)
class MapSpread:
    """What the runs of one method say of its map.

    ``spread`` is on the map's grid; ``parts`` holds for each region the part of |map| (%) that each run gave it,
    ``stable`` the stable part of each region (%), ``correlations`` Spearman's of each run with the reported map.
    """

    method: str
    row: int = 0
    layer: str = ""
    spread: RunningSpread = field(default_factory=RunningSpread)
    parts: dict[str, list[float]] = field(default_factory=dict)
    stable: dict[str, float] = field(default_factory=dict)
    correlations: list[float] = field(default_factory=list)

    @property
    def sd(self) -> np.ndarray:
        return self.spread.sd.astype(np.float32)

    @property
    def stable_share(self) -> float:
        """The part of the mean map that lies where it is stable, 0..1."""
        return stable_share(self.spread.mean, self.spread.sd)

    def add_regions(self, values: np.ndarray, regions: Mapping[str, np.ndarray]) -> None:
        """The parts that one run (I, J, K) gives to regions on the same grid."""
        for row in region_table(values, regions, 1.0):
            self.parts.setdefault(row.segment, []).append(100 * row.part)

    def measure_regions(self, mean: np.ndarray, sd: np.ndarray, regions: Mapping[str, np.ndarray]) -> None:
        """The stable part of each region, from mean and SD on the regions' grid."""
        rest = np.ones(mean.shape, dtype=bool)
        for name, mask in regions.items():
            rest &= ~mask
            self._measure(name, mean[mask], sd[mask])
        self._measure("outside all segments", mean[rest], sd[rest])

    def _measure(self, name: str, mean: np.ndarray, sd: np.ndarray) -> None:
        """Nothing is stored for a region without a map: it is neither stable nor unstable."""
        if mean.any():
            self.stable[name] = 100 * stable_share(mean, sd)

    def region_columns(self, region: str) -> dict[str, Any]:
        """The columns that the table of regions gets for one of them."""
        parts = self.parts.get(region, [])
        return {
            SD_PART_COLUMN: float(np.std(parts, ddof=1)) if len(parts) > 1 else None,
            STABLE_COLUMN: self.stable.get(region),
        }


def stable_share(mean: np.ndarray, sd: np.ndarray) -> float:
    """The part of Σ |mean| that lies where the SD is at most half of |mean|; 0 for a map of zeros."""
    amount = np.abs(mean)
    total = float(amount.sum())
    return float(amount[sd <= STABLE_RATIO * amount].sum()) / total if total else 0.0


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's over the voxels where either map is not 0."""
    used = (first != 0) | (second != 0)
    if used.sum() < 3:
        return float("nan")
    return spearman(first[used], second[used])
