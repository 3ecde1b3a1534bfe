"""Scans whose label has a known cause: soft discs (lesions) among look-alikes (rings, rods) on a textured body.

Every positive scan has two lesions far apart, each of which alone makes it positive. Look-alikes are as bright as
lesions and lie in positive and negative scans alike, so neither brightness nor edges give the label away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

BRIGHTNESS = 1.1
LOOK_ALIKES = 3


@dataclass(frozen=True)
class PlantedScan:
    """``image`` (1, spatial...) float32; ``causes`` are the masks (spatial...) of its lesions, empty if healthy."""

    image: np.ndarray
    causes: tuple[np.ndarray, ...]

    @property
    def positive(self) -> bool:
        return bool(self.causes)

    @property
    def truth(self) -> np.ndarray:
        return np.any(self.causes, axis=0) if self.causes else np.zeros(self.image.shape[1:], bool)

    @property
    def burden(self) -> float:
        """Lesion voxels in percent of the image."""
        return 100.0 * float(self.truth.mean())


def planted_scan(
    size: int, spatial_dims: int, generator: np.random.Generator, lesions: int | None = None
) -> PlantedScan:
    """One scan of ``size`` voxels per axis with 0 or 2 lesions (drawn when not given)."""
    shape = (size,) * spatial_dims
    count = int(generator.integers(0, 2)) * 2 if lesions is None else lesions
    image = 0.5 * gaussian_filter(generator.standard_normal(shape), size / 16) * size ** (spatial_dims / 2) / 8
    image += 0.15 * gaussian_filter(generator.standard_normal(shape), 1.0) * 3
    places = _places(count + LOOK_ALIKES, size, spatial_dims, generator)
    coordinates = np.stack(np.meshgrid(*[np.arange(size)] * spatial_dims, indexing="ij"))
    causes = []
    for place in places[:count]:
        radius = generator.uniform(0.055, 0.085) * size
        distance = _distance(coordinates, place)
        image += BRIGHTNESS / (1 + np.exp((distance - radius) / 0.6))
        causes.append(distance <= radius + 0.5)
    for place in places[count:]:
        image += _look_alike(coordinates, place, size, generator)
    return PlantedScan(image[None].astype(np.float32), tuple(causes))


def _places(count: int, size: int, spatial_dims: int, generator: np.random.Generator) -> np.ndarray:
    """Centers at least a quarter of the image apart."""
    while True:
        places = generator.uniform(0.14 * size, 0.86 * size, (count, spatial_dims))
        distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(count) * size
        if distances.min() > 0.25 * size:
            return places


def _distance(coordinates: np.ndarray, place: np.ndarray) -> np.ndarray:
    return np.linalg.norm(coordinates - place.reshape(-1, *[1] * (coordinates.ndim - 1)), axis=0)


def _look_alike(coordinates: np.ndarray, place: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """A hollow shell, or a thin rod."""
    if generator.random() < 0.5:
        radius = generator.uniform(0.07, 0.1) * size
        return BRIGHTNESS * np.exp(-(((_distance(coordinates, place) - radius) / 0.9) ** 2))
    direction = generator.standard_normal(len(place))
    direction /= np.linalg.norm(direction)
    offset = coordinates - place.reshape(-1, *[1] * (coordinates.ndim - 1))
    along = np.tensordot(direction, offset, 1)
    across = np.sqrt(np.maximum((offset**2).sum(0) - along**2, 0))
    return BRIGHTNESS * np.exp(-((across / 1.1) ** 2)) / (1 + np.exp((np.abs(along) - 0.12 * size) / 0.6))


def planted_batch(
    count: int, size: int, spatial_dims: int, generator: np.random.Generator, lesions: int | None = None
) -> list[PlantedScan]:
    return [planted_scan(size, spatial_dims, generator, lesions) for _ in range(count)]


def stacked(scans: list[PlantedScan]) -> torch.Tensor:
    """Images as one batch (N, 1, spatial...)."""
    return torch.from_numpy(np.stack([scan.image for scan in scans]))
