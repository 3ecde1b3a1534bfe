"""Sweeps over the stored activations of one layer."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TypeVar

import torch

from ...core.progress import Progress
from .activation_store import ActivationStore, StoredSample
from .blocks import WANTED_SIDE, BlockGrid, Thinning
from .cohort import Cohort

Item = TypeVar("Item")

STRIDE_FROM_VOXELS = 1 << 23
"""Cohorts of more voxels than this look for quantiles among a part of them, at equal distances."""
POINTS_PER_CELL = 4


class LayerSweep:
    """Sweeps over the stored samples of one layer, with the blocks that fit each."""

    def __init__(self, cohort: Cohort, layer: str, stage: str = "") -> None:
        self.stage = stage
        self.store: ActivationStore = cohort.stores[layer]
        self._cohort, self.layer = cohort, layer
        self._grids: dict[tuple, BlockGrid] = {}

    def grid(self, cells: tuple[int, ...], voxels: tuple[int, ...], side: int = WANTED_SIDE) -> BlockGrid:
        """The blocks of a map of ``cells`` over ``voxels``."""
        key = (cells, voxels, side)
        if key not in self._grids:
            places = self._cohort.reader.grid(self.layer, self._cohort.examples[voxels], cells)
            self._grids[key] = BlockGrid(places, voxels, side)
        return self._grids[key]

    def samples(
        self, chosen: Container[int] | None = None, *, masks: bool = True, side: int = WANTED_SIDE
    ) -> Iterator[tuple[StoredSample, BlockGrid]]:
        """Samples (of the numbers ``chosen``) with their blocks."""
        for sample in self.store.samples(chosen, masks=masks):
            yield sample, self.grid(tuple(sample.activation.shape[1:]), sample.voxels, side)

    def activations(
        self, chosen: Container[int] | None = None, side: int = WANTED_SIDE
    ) -> Iterator[tuple[torch.Tensor, BlockGrid]]:
        for sample, grid in self.samples(chosen, masks=False, side=side):
            yield sample.activation, grid

    def looked_at(self, stride: int, side: int) -> int:
        """Voxels of all samples that a sweep with a stride looks at."""
        total = 0
        for turn, record in enumerate(self.store.records):
            grid = self.grid(record.cells, record.voxels, side)
            total += grid.sampled_count(Thinning(stride, turn % stride ** len(grid.axes)))
        return total

    def stride(self) -> int:
        """For large cohorts a quarter of the voxels between two cells, so that 4 of them are looked at; else 1."""
        if self.store.voxel_count < STRIDE_FROM_VOXELS:
            return 1
        shapes = {(record.cells, record.voxels) for record in self.store.records}
        return max(1, int(min(voxels / cells for shape in shapes for cells, voxels in zip(*shape)) / POINTS_PER_CELL))


def counted(items: Iterator[Item], progress: Progress | None) -> Iterator[Item]:
    """The items, each of which advances the progress once it has been dealt with."""
    for item in items:
        yield item
        if progress is not None:
            progress.advance()
