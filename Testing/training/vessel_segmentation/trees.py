"""Synthetic contrast-enhanced vascular trees in synthetic anatomy, with their exact masks.

A tree grows from the border of the volume: a wandering center line of slowly shrinking radius that branches by
Murray's law (the cubes of the branches' radii sum to that of the parent). Around it lie soft tissue, lung-like air
and bright bones that are not vessels, so that brightness alone does not tell a vessel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class SyntheticScan:
    """``hu`` (I, J, K) float32 in Hounsfield units at 1.5 mm, and the vessels, boolean."""

    hu: np.ndarray
    vessels: np.ndarray


def synthetic_scan(size: int, generator: np.random.Generator) -> SyntheticScan:
    """A cube of ``size`` voxels of 1.5 mm with 1 to 3 trees, soft tissue, air and bones."""
    hu = _tissue(size, generator)
    bones = _bones(size, generator)
    vessels = np.zeros((size,) * 3, bool)
    for _ in range(generator.integers(1, 4)):
        _grow(vessels, generator)
    bones &= ~ndimage.binary_dilation(vessels, iterations=1)
    hu[bones] = (generator.uniform(250, 900) + 150 * generator.standard_normal(hu.shape))[bones]
    mixing = ndimage.gaussian_filter(generator.standard_normal(hu.shape), 6)  # of contrast agent with blood
    enhancement = generator.uniform(220, 560) + 25 * mixing / mixing.std()
    hu[vessels] = enhancement[vessels]
    hu = ndimage.gaussian_filter(hu, generator.uniform(0.4, 0.8))
    hu += generator.uniform(8, 35) * generator.standard_normal(hu.shape)
    return SyntheticScan(hu.astype(np.float32), vessels)


def _tissue(size: int, generator: np.random.Generator) -> np.ndarray:
    """Soft tissue from -110 (fat) to 180 HU (parenchyma), with air where a smooth random field is high."""
    coarse = ndimage.gaussian_filter(generator.standard_normal((size,) * 3), generator.uniform(4, 9))
    coarse /= coarse.std()
    hu = np.where(coarse < -0.7, generator.uniform(-110, -60), generator.uniform(20, 90))
    hu = np.where(coarse > 1.0, generator.uniform(60, 180), hu)
    air = ndimage.gaussian_filter(generator.standard_normal((size,) * 3), generator.uniform(7, 12))
    lung = air / air.std() > generator.uniform(0.3, 2.5)
    return np.where(lung, generator.uniform(-900, -760), hu)


def _bones(size: int, generator: np.random.Generator) -> np.ndarray:
    """A few ellipsoids (vertebrae) and thin plates (ribs)."""
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1).astype(np.float32)
    bones = np.zeros((size,) * 3, bool)
    for _ in range(generator.integers(0, 4)):
        center = generator.uniform(0, size, 3)
        turn, _ = np.linalg.qr(generator.standard_normal((3, 3)))
        plate = generator.random() < 0.5
        radii = np.array([2.0, 6.0, 22.0]) if plate else generator.uniform(7, 15, 3)
        bones |= ((((grid - center) @ turn) / radii) ** 2).sum(-1) < 1
    return bones


def _grow(vessels: np.ndarray, generator: np.random.Generator) -> None:
    size = vessels.shape[0]
    start = generator.uniform(0.15, 0.85, 3) * size
    face = generator.integers(3)
    start[face] = 0.0 if generator.random() < 0.5 else size - 1.0
    direction = size / 2 + generator.uniform(-0.25, 0.25, 3) * size - start
    radius = float(np.exp(generator.uniform(np.log(1.3), np.log(8.0))))
    stack = [(start, direction / np.linalg.norm(direction), radius, 0)]
    while stack:
        point, heading, radius, depth = stack.pop()
        length = radius * generator.uniform(5, 12) + 6
        bend = generator.standard_normal(3) * 0.06
        for _ in range(int(length)):
            _stamp(vessels, point, radius)
            heading = heading + bend + 0.04 * generator.standard_normal(3)
            heading /= np.linalg.norm(heading)
            point = point + heading
            radius *= 0.997
        inside = ((point > -5) & (point < size + 5)).all()
        if inside and depth < 6 and radius > 0.9:
            share = generator.uniform(0.3, 0.7)
            for part in (share, 1 - share):
                side = generator.standard_normal(3)
                turned = heading + 0.6 * side / np.linalg.norm(side)
                stack.append((point, turned / np.linalg.norm(turned), radius * part ** (1 / 3), depth + 1))


def _stamp(vessels: np.ndarray, point: np.ndarray, radius: float) -> None:
    low = np.maximum(np.floor(point - radius).astype(int), 0)
    high = np.minimum(np.ceil(point + radius).astype(int) + 1, vessels.shape[0])
    if (low >= high).any():
        return
    axes = np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high)], indexing="ij")
    near = sum((axis - center) ** 2 for axis, center in zip(axes, point)) <= radius**2
    vessels[tuple(slice(a, b) for a, b in zip(low, high))] |= near
