"""How alike two maps are: rank correlation, overlap of the highest voxels, structural similarity."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

SSIM_SIGMA = 1.5


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation of two maps over all voxels; 0 when one of them is constant."""
    return pearson(rankdata(first), rankdata(second))


def pearson(first: np.ndarray, second: np.ndarray) -> float:
    """Linear correlation; 0 when one side is constant."""
    first = np.asarray(first, dtype=np.float64).ravel()
    second = np.asarray(second, dtype=np.float64).ravel()
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 1e-30 else 0.0


def top_overlap(first: np.ndarray, second: np.ndarray, part: float = 0.05) -> float:
    """Share of the top ``part`` of voxels that two maps have in common (0..1)."""
    count = max(1, round(part * first.size))
    return len(np.intersect1d(highest(first, count), highest(second, count))) / count


def highest(values: np.ndarray, count: int) -> np.ndarray:
    """Flat indices of the ``count`` highest values; ties go to the first voxels, so that results repeat."""
    return np.argsort(-values.ravel(), kind="stable")[:count]


def structural_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Mean SSIM (Wang 2004) of two maps (spatial...), each scaled to 0..1 by its own range, Gaussian window."""
    first, second = unit_range(first), unit_range(second)

    def smooth(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, SSIM_SIGMA, truncate=3.5, mode="reflect")

    mean_first, mean_second = smooth(first), smooth(second)
    variance_first = smooth(first**2) - mean_first**2
    variance_second = smooth(second**2) - mean_second**2
    covariance = smooth(first * second) - mean_first * mean_second
    numerator = (2 * mean_first * mean_second + 0.01**2) * (2 * covariance + 0.03**2)
    denominator = (mean_first**2 + mean_second**2 + 0.01**2) * (variance_first + variance_second + 0.03**2)
    return float((numerator / denominator).mean())


def unit_range(values: np.ndarray) -> np.ndarray:
    """A map scaled to 0..1; a constant map becomes 0."""
    values = np.asarray(values, dtype=np.float64)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
