"""Regions of an image: supervoxels, and what an explanation says about each segment."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..core.errors import OptionError

LOWEST_COUNT = 2
PART_COLUMN, NET_COLUMN = "part of |map| (%)", "net (for minus against, %)"


def supervoxels(
    image: np.ndarray,
    spacing: Sequence[float],
    count: int = 100,
    *,
    compactness: float = 0.1,
    iterations: int = 6,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Simple linear iterative clustering (Achanta 2012) of an image (spatial...) in one to three dimensions.

    ``spacing`` (mm per axis) makes the seeds' grid and the distances isotropic in the patient; ``compactness``
    weighs distance (in seed distances) against intensity (in SDs of the image). With ``mask``, voxels outside
    get label 0. Regions are labeled 1, 2, ...; every label is used.
    """
    shape = np.array(image.shape)
    cells = _seed_grid(shape, np.asarray(spacing, float), count)
    pitch = shape / cells
    scale = np.asarray(spacing, float) / float(np.exp(np.mean(np.log(pitch * spacing))))
    values = (image - image.mean()) / max(float(image.std()), 1e-12)
    axes = [np.arange(size) for size in shape]
    home = [np.minimum((axis / step).astype(int), size - 1) for axis, step, size in zip(axes, pitch, cells)]
    seeds = np.stack(
        np.meshgrid(*[(np.arange(size) + 0.5) * step - 0.5 for size, step in zip(cells, pitch)], indexing="ij"), -1
    )
    centers = seeds.reshape(-1, len(shape))
    means = values[tuple(np.round(centers).astype(int).T)]
    positions = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    for _ in range(iterations):
        labels = _nearest(values, positions, home, cells, centers, means, scale, compactness)
        sizes = np.bincount(labels.ravel(), minlength=len(centers))
        filled = sizes > 0
        safe = np.maximum(sizes, 1)
        means = np.where(filled, np.bincount(labels.ravel(), values.ravel(), len(centers)) / safe, means)
        for axis in range(len(shape)):
            sums = np.bincount(labels.ravel(), positions[..., axis].ravel(), len(centers))
            centers[:, axis] = np.where(filled, sums / safe, centers[:, axis])
    labels = labels + 1
    if mask is not None:
        labels = np.where(mask, labels, 0)
    return _consecutive(labels)


def _seed_grid(shape: np.ndarray, spacing: np.ndarray, count: int) -> np.ndarray:
    extent = shape * spacing
    pitch = (np.prod(extent) / count) ** (1 / len(shape))
    return np.clip(np.round(extent / pitch), 1, shape).astype(int)


def _nearest(
    values: np.ndarray,
    positions: np.ndarray,
    home: list[np.ndarray],
    cells: np.ndarray,
    centers: np.ndarray,
    means: np.ndarray,
    scale: np.ndarray,
    compactness: float,
) -> np.ndarray:
    """The best of the seeds in the surrounding 3^d cells, for every voxel."""
    best = np.full(values.shape, np.inf)
    labels = np.zeros(values.shape, dtype=np.int64)
    for offset in itertools.product((-1, 0, 1), repeat=values.ndim):
        steps = [np.clip(axis + move, 0, size - 1) for axis, move, size in zip(home, offset, cells)]
        candidate = np.ravel_multi_index(np.ix_(*steps), tuple(cells))
        candidate = np.broadcast_to(candidate, values.shape)
        distance = compactness * (((positions - centers[candidate]) * scale) ** 2).sum(-1)
        distance += (values - means[candidate]) ** 2
        closer = distance < best
        best[closer] = distance[closer]
        labels[closer] = candidate[closer]
    return labels


def _consecutive(labels: np.ndarray) -> np.ndarray:
    used, index = np.unique(labels, return_inverse=True)
    shift = 0 if used[0] == 0 else 1
    return (index.reshape(labels.shape) + shift).astype(np.int32)


def check_regions(labels: np.ndarray) -> int:
    """The number of regions. Raises OptionError when there are fewer than two."""
    count = int(labels.max())
    if count < LOWEST_COUNT:
        raise OptionError(
            f"Regions are compared, but there are {count} in the image.",
            "Ask for more regions, or give a segmentation of several segments.",
        )
    return count


@dataclass(frozen=True)
class RegionRow:
    """What one segment holds of an explanation.

    ``part`` is its part of the map's absolute sum, ``net`` (supporting minus opposing) of the same sum, both 0..1.
    """

    segment: str
    volume_ml: float
    attribution: float
    part: float
    net: float
    density_per_ml: float
    rank: int

    def row(self) -> dict[str, str | float | int]:
        """As a row of a table, units in the column names."""
        return {
            "segment": self.segment,
            "volume (mL)": self.volume_ml,
            "attribution": self.attribution,
            PART_COLUMN: 100 * self.part,
            NET_COLUMN: 100 * self.net,
            "density (per mL)": self.density_per_ml,
            "rank": self.rank,
        }


def region_table(values: np.ndarray, segments: Mapping[str, np.ndarray], voxel_volume_ml: float) -> list[RegionRow]:
    """Sum, parts and density of a map (spatial...) in each segment (boolean masks), ranked by |density|.

    A last row, "outside all segments", has the rest, so that the parts of disjoint segments add up to 1. Segments may
    overlap; empty ones have density 0.
    """
    values = np.asarray(values, dtype=np.float64)
    total = float(np.abs(values).sum()) or 1.0
    covered = np.zeros(values.shape, dtype=bool)
    parts: list[tuple[str, float, float, float]] = []
    for name, mask in segments.items():
        mask = np.asarray(mask, dtype=bool)
        covered |= mask
        parts.append((name, *_sums(values, mask), float(mask.sum()) * voxel_volume_ml))
    outside = ~covered
    parts.append(("outside all segments", *_sums(values, outside), float(outside.sum()) * voxel_volume_ml))
    densities = [net / volume if volume else 0.0 for _, net, _, volume in parts]
    order = sorted(range(len(parts)), key=lambda index: -abs(densities[index]))
    ranks = {index: rank for rank, index in enumerate(order, start=1)}
    return [
        RegionRow(name, volume, net, amount / total, net / total, densities[index], ranks[index])
        for index, (name, net, amount, volume) in enumerate(parts)
    ]


def _sums(values: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """The signed and the absolute sum of a map in a mask."""
    inside = values[mask]
    return float(inside.sum()), float(np.abs(inside).sum())


def region_sums(values: torch.Tensor, labels: torch.Tensor, count: int) -> torch.Tensor:
    """The sum of a map (spatial...) in each region 1..count, (count,)."""
    sums = torch.zeros(count + 1, dtype=values.dtype, device=values.device)
    return sums.index_add_(0, labels.flatten().long(), values.flatten())[1:]
