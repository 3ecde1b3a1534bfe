"""Maps that know nothing of the model: what every explanation must beat."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def random_map(shape: tuple[int, ...], seed: int, smoothness: float = 0.0) -> np.ndarray:
    """Independent values per voxel, or, with ``smoothness`` (SD in voxels), blobs about as coarse as real maps."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    return ndimage.gaussian_filter(noise, smoothness, mode="wrap") if smoothness > 0 else noise


def edge_map(image: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    """The strength of edges of the image (spatial...): what methods that fail the sanity check resemble."""
    return ndimage.gaussian_gradient_magnitude(np.asarray(image, dtype=np.float64), sigma)


def smoothness_of(values: np.ndarray) -> float:
    """How coarse a map is: the SD in voxels of the Gaussian that makes noise as smooth (from its mean gradient).

    White noise smoothed by σ has a ratio 1 / (2σ²) of the variances of its derivative and of itself.
    """
    values = np.asarray(values, dtype=np.float64)
    variance = values.var()
    if variance <= 0:
        return 0.0
    slopes = [np.diff(values, axis=axis).ravel() for axis in range(values.ndim) if values.shape[axis] > 1]
    roughness = float(np.mean([(slope**2).mean() for slope in slopes])) / variance
    if roughness >= 2:
        return 0.0
    # A difference over one voxel of Gaussian-smoothed noise has variance 2 (1 - exp(-1 / 4σ²)).
    return float(np.sqrt(-0.25 / np.log(1 - roughness / 2)))
