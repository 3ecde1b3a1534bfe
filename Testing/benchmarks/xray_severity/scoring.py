"""How a map's sums in the zones agree with an effect or a score: within an image, and beyond the means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xaiengine.core.similarity import pearson, spearman


def zone_sums(maps: np.ndarray, zones: np.ndarray) -> np.ndarray:
    """(n, 6) sums of maps (n, rows, columns) in zones (n, 6, rows, columns)."""
    return np.einsum("nrc,nzrc->nz", maps.astype(np.float64), zones.astype(np.float64))


def within_image(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,) Spearman of two (n, 6) in each image; NaN where one of them is the same in all zones."""
    return np.array([spearman(a, b) if np.ptp(a) > 0 and np.ptp(b) > 0 else np.nan for a, b in zip(first, second)])


def centered(values: np.ndarray) -> np.ndarray:
    """(n, 6) without the means of zones and of images."""
    return values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()


def centered_r(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two (n, 6) without the means of zones and images: what neither brightness of an image nor the
    usual place of disease explains."""
    return pearson(centered(first), centered(second))


@dataclass(frozen=True)
class Agreement:
    """Mean within-image Spearman and centered correlation, each with the 95 % interval over patients."""

    within: float
    within_interval: tuple[float, float]
    centered: float
    centered_interval: tuple[float, float]

    def __str__(self) -> str:
        def cell(value: float, interval: tuple[float, float]) -> str:
            return f"{value:5.2f} ({interval[0]:5.2f}, {interval[1]:5.2f})"

        return f"{cell(self.within, self.within_interval)} {cell(self.centered, self.centered_interval)}"


def agreement(
    maps: np.ndarray, truth: np.ndarray, patients: np.ndarray, repeats: int = 500, seed: int = 0
) -> Agreement:
    """Of (n, 6) with a truth (n, 6); patients (n,) are drawn with replacement for the intervals."""
    each = within_image(maps, truth)
    random = np.random.default_rng(seed)
    names = np.unique(patients)
    members = [np.flatnonzero(patients == name) for name in names]
    withins, centereds = [], []
    for _ in range(repeats):
        rows = np.concatenate([members[place] for place in random.integers(len(names), size=len(names))])
        withins.append(_mean(each[rows]))
        centereds.append(centered_r(maps[rows], truth[rows]))

    def interval(values: list[float]) -> tuple[float, float]:
        low, high = np.nanquantile(values, (0.025, 0.975))
        return float(low), float(high)

    return Agreement(_mean(each), interval(withins), centered_r(maps, truth), interval(centereds))


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
