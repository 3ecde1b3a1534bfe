"""Overlaps of units and concepts: voxels above the unit's threshold, and how many of them lie in each concept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...core.output import disk_errors
from .activation_store import StoredSample
from .blocks import BlockGrid, HotBlocks


def overlaps(sample: StoredSample, grid: BlockGrid, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Voxels (U,) above the thresholds in one sample, and (U, k) those of them in each of its k concepts."""
    units = sample.activation.shape[0]
    area = torch.zeros(units, dtype=torch.float64)
    inside = torch.zeros(units, len(sample.concepts), dtype=torch.float64)
    masks = torch.from_numpy(sample.masks).float()
    marked = _marked_blocks(sample.masks, grid)
    for block in grid.hot(sample.activation, thresholds):
        hits = block.values.gt_(0)
        area.index_add_(0, block.units, hits.sum(1).double())
        for start, stop, position in _runs(block.positions):
            if marked[position]:
                patch = masks[(slice(None), *grid.voxels_of(position))].flatten(1)
                inside.index_add_(0, block.units[start:stop], (hits[start:stop] @ patch.t()).double())
    return area, inside


def _runs(positions: Tensor) -> Iterator[tuple[int, int, int]]:
    """Start, stop and value of each run of equal positions."""
    values, counts = torch.unique_consecutive(positions, return_counts=True)
    stop = counts.cumsum(0)
    return zip((stop - counts).tolist(), stop.tolist(), values.tolist())


def _marked_blocks(masks: np.ndarray, grid: BlockGrid) -> np.ndarray:
    """Which blocks (flat) hold a voxel of any mask (k, voxels...)."""
    marked = np.zeros(grid.shape, dtype=bool)
    if len(masks):
        places = np.nonzero(masks.any(0))
        blocks = [np.searchsorted(axis.starts, place, side="right") - 1 for axis, place in zip(grid.axes, places)]
        marked[tuple(blocks)] = True
    return marked.reshape(-1)


def hit_voxels(block: HotBlocks, grid: BlockGrid) -> tuple[Tensor, Tensor]:
    """Unit and flat voxel index of every voxel above its unit's threshold."""
    rows, local = (block.values > 0).nonzero(as_tuple=True)
    first, offsets = grid.flat_voxels(block.positions)
    return block.units[rows], first[rows] + offsets[local]


class ImageCounts:
    """The counts of every image on disk: (U, 1 + K) each, the area first, then the overlap with each concept."""

    def __init__(self, path: Path, units: int, concepts: int) -> None:
        self._path = path
        self.units, self.concepts = units, concepts
        self.images = 0
        with disk_errors(path.parent):
            path.write_bytes(b"")

    def add(self, counts: np.ndarray) -> None:
        with disk_errors(self._path.parent), open(self._path, "ab") as stream:
            stream.write(np.ascontiguousarray(counts, dtype=np.int64).data)
        self.images += 1

    def __iter__(self) -> Iterator[np.ndarray]:
        """The images' counts, one after the other."""
        size = self.units * (1 + self.concepts)
        with open(self._path, "rb") as stream:
            for _ in range(self.images):
                yield np.fromfile(stream, np.int64, size).reshape(self.units, 1 + self.concepts)
