"""Feature maps compared with masks at the masks' resolution, without stretching what cannot matter.

A map stretched linearly over the voxels lies, between neighboring cells, within the range of those cells. So a block
of voxels between 2 (4, 8) cells whose highest cell is at or below a threshold holds no voxel above it. At the 0.99
quantile this leaves a few percent of the blocks, whose voxels are all computed: the counts are those of the whole
stretched map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ...network.feature_grid import FeatureGrid

_ROUNDING = 1e-9

LARGEST_CHUNK = 1 << 22
"""Voxels computed at once."""


WANTED_SIDE = 8
"""Blocks longer than this (voxels) are divided by points between the cells, which leaves fewer voxels to compute."""


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis cut into blocks: block b lies between nodes b and b + 1 and holds voxels ``starts[b]:starts[b+1]``.

    Row n of ``nodes`` (nodes, cells) gives a node from the cells: a cell itself, a point between two, or, beyond the
    outermost cells, again these. ``weights[b]`` (voxels of b, nodes of a block) are those of linear interpolation.
    Where cells are voxels, a block is one of them and has one node. Blocks with equal weights share a ``profile``.
    """

    nodes: np.ndarray
    starts: np.ndarray
    weights: tuple[np.ndarray, ...]
    profile: np.ndarray

    @property
    def blocks(self) -> int:
        return len(self.weights)

    @property
    def nodes_per_block(self) -> int:
        return self.weights[0].shape[1]


def axis_blocks(cells: int, voxels: int, scale: float, offset: float, side: int = WANTED_SIDE) -> Axis:
    """The blocks, of about ``side`` voxels, of an axis on which cell c lies at voxel ``scale c + offset``."""
    if cells == voxels and scale == 1 and offset == 0:
        everything = np.arange(voxels + 1)
        return Axis(np.eye(cells), everything, (np.ones((1, 1)),) * voxels, np.zeros(voxels, dtype=int))
    parts = max(1, round(scale / side))
    inner = (cells - 1) * parts  # blocks between the first and the last cell
    place = (np.arange(voxels) - offset) / scale * parts
    block = np.clip(np.floor(place + _ROUNDING).astype(int) + 1, 0, inner + 1)
    share = np.where((block > 0) & (block <= inner), place - (block - 1), 0.0)
    starts = np.searchsorted(block, np.arange(inner + 3))
    weights = []
    for first, last in zip(starts, starts[1:]):
        within = np.clip(np.round(share[first:last], 9), 0, 1)
        weights.append(np.stack([1 - within, within], axis=1))
    known: dict[bytes, int] = {}
    profile = np.array([known.setdefault(item.tobytes(), len(known)) for item in weights])
    return Axis(_node_weights(cells, parts), starts, tuple(weights), profile)


def _node_weights(cells: int, parts: int) -> np.ndarray:
    """(nodes, cells): ``parts`` steps from each cell to the next, and the outermost cells once more."""
    place = np.clip(np.arange(-1, (cells - 1) * parts + 2) / parts, 0, cells - 1)
    lower = np.minimum(np.floor(place).astype(int), max(cells - 2, 0))
    result = np.zeros((len(place), cells))
    rows = np.arange(len(place))
    result[rows, lower] = 1 - (place - lower)
    if cells > 1:
        result[rows, lower + 1] = place - lower
    return result


@dataclass(frozen=True, eq=False)
class HotBlocks:
    """Blocks in which some voxels may lie above their unit's threshold, all with the same weights.

    Row r: unit ``units[r]``, block ``positions[r]`` (flat index, ascending), voxel values ``values[r]`` minus the
    unit's threshold (n, voxels of a block).
    """

    units: Tensor
    positions: Tensor
    values: Tensor


@dataclass(frozen=True)
class Thinning:
    """Which voxels of a block are looked at: every ``stride``-th along each axis. ``turn`` chooses the first; over
    ``stride`` to the number of axes turns each voxel has been looked at once."""

    stride: int = 1
    turn: int = 0

    def slices(self, grid: BlockGrid) -> list[slice]:
        return [
            slice(self.turn // self.stride**axis % self.stride, None, self.stride) for axis in range(len(grid.axes))
        ]


EVERY_VOXEL = Thinning()


class BlockGrid:
    """The blocks of a feature map of ``cells`` over an image of ``voxels``; cells lie as ``grid`` says."""

    def __init__(self, grid: FeatureGrid, voxels: Sequence[int], side: int = WANTED_SIDE) -> None:
        self.cells = tuple(grid.cells)
        self.voxels = tuple(voxels)
        self.axes = [axis_blocks(*numbers, side) for numbers in zip(self.cells, self.voxels, grid.scale, grid.offset)]
        self.shape = tuple(axis.blocks for axis in self.axes)
        self.voxel_count = int(np.prod(self.voxels))
        self._nodes = [torch.as_tensor(axis.nodes, dtype=torch.float32) for axis in self.axes]
        self._thin = {EVERY_VOXEL: self._group_profiles(EVERY_VOXEL)}
        self._group_of = torch.zeros(int(np.prod(self.shape)), dtype=torch.long)
        for number, (blocks, _) in enumerate(self._thin[EVERY_VOXEL]):
            self._group_of[blocks] = number
        self._first_node, self._steps = self._node_indices()

    def _node_indices(self) -> tuple[np.ndarray, Tensor]:
        """Flat index of the first node of each block, and the steps from it to the block's other nodes."""
        sides = [nodes.shape[0] for nodes in self._nodes]
        strides = [int(np.prod(sides[axis + 1 :])) for axis in range(len(sides))]
        blocks = np.unravel_index(np.arange(int(np.prod(self.shape))), self.shape)
        corners = product(*[range(axis.nodes_per_block) for axis in self.axes])
        steps = [sum(corner * stride for corner, stride in zip(item, strides)) for item in corners]
        return sum(block * stride for block, stride in zip(blocks, strides)), torch.tensor(steps)

    def _thinned(self, thinning: Thinning) -> list[tuple[Tensor, Tensor]]:
        if thinning not in self._thin:
            self._thin[thinning] = self._group_profiles(thinning)
        return self._thin[thinning]

    def _group_profiles(self, thinning: Thinning) -> list[tuple[Tensor, Tensor]]:
        """Blocks (flat indices) with equal weights, and these weights (corners, voxels of a block)."""
        profiles = np.stack(np.meshgrid(*[axis.profile for axis in self.axes], indexing="ij"), -1)
        flat = profiles.reshape(-1, len(self.axes))
        found, inverse = np.unique(flat, axis=0, return_inverse=True)
        groups = []
        for number in range(len(found)):
            blocks = np.flatnonzero(inverse.reshape(-1) == number)
            first = np.unravel_index(blocks[0], self.shape)
            parts = [axis.weights[index][part] for axis, index, part in zip(self.axes, first, thinning.slices(self))]
            groups.append((torch.as_tensor(blocks), torch.as_tensor(_outer(parts), dtype=torch.float32)))
        return groups

    def voxels_of(self, position: int) -> tuple[slice, ...]:
        """The voxels of a block, by its flat index."""
        index = np.unravel_index(position, self.shape)
        return tuple(slice(int(axis.starts[b]), int(axis.starts[b + 1])) for axis, b in zip(self.axes, index))

    def flat_voxels(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Flat index of the first voxel (n,) of blocks of equal size, and the offsets (voxels of a block) from it."""
        strides = [int(np.prod(self.voxels[axis + 1 :])) for axis in range(len(self.voxels))]
        index = np.unravel_index(positions.numpy(), self.shape)
        first = sum(axis.starts[b] * stride for axis, b, stride in zip(self.axes, index, strides))
        sizes = [part.stop - part.start for part in self.voxels_of(int(positions[0]))]
        steps = [np.arange(size) * stride for size, stride in zip(sizes, strides)]
        return torch.as_tensor(first), torch.as_tensor(reduce(np.add.outer, steps).reshape(-1))

    def _nodes_of(self, cells: Tensor) -> Tensor:
        """(cells..., U) at the nodes of the blocks: (nodes..., U)."""
        result = cells.contiguous()
        for dimension, (nodes, axis) in enumerate(zip(self._nodes, self.axes)):
            if axis.nodes_per_block == 2:
                before, after = result.shape[:dimension], result.shape[dimension + 1 :]
                stretched = nodes @ result.reshape(int(np.prod(before)), result.shape[dimension], -1)
                result = stretched.reshape(*before, -1, *after)
        return result

    def _may_hold(self, above: np.ndarray) -> np.ndarray:
        """Blocks (blocks..., U) of which any node is above: no voxel lies above the highest node of its block."""
        result = above
        for dimension, axis in enumerate(self.axes):
            if axis.nodes_per_block == 2:
                first = result[(slice(None),) * dimension + (slice(None, -1),)]
                result = first | result[(slice(None),) * dimension + (slice(1, None),)]
        return result

    def sampled_count(self, thinning: Thinning) -> int:
        """Voxels that :meth:`hot` looks at."""
        slices = thinning.slices(self)
        return int(np.prod([sum(len(item[part]) for item in axis.weights) for axis, part in zip(self.axes, slices)]))

    def hot(self, activation: Tensor, thresholds: Tensor, thinning: Thinning = EVERY_VOXEL) -> Iterator[HotBlocks]:
        """Every block of a map (U, cells...) with a voxel that may be above its unit's threshold (U,).

        Blocks come in groups of equal weights; in each, those at one place come together.
        """
        awake = (activation.flatten(1).amax(1) > thresholds).nonzero().flatten()
        if not len(awake):
            return
        cells = activation.movedim(0, -1)
        shifted = self._nodes_of((cells if len(awake) == len(thresholds) else cells[..., awake]) - thresholds[awake])
        found = np.flatnonzero(self._may_hold((shifted > 0).numpy()))
        positions, columns = np.divmod(found, len(awake))
        start = torch.from_numpy(self._first_node[positions] * len(awake) + columns)
        positions, units = torch.from_numpy(positions), awake[torch.from_numpy(columns)]
        steps, flat = self._steps * len(awake), shifted.reshape(-1)
        group = self._group_of[positions]
        for number, (_, weights) in enumerate(self._thinned(thinning)):
            if not weights.shape[1]:
                continue
            rows = (group == number).nonzero().flatten()
            for chosen in rows.split(max(1, LARGEST_CHUNK // weights.shape[1])):
                if len(chosen):
                    corners = flat[start[chosen][:, None] + steps]
                    yield HotBlocks(units[chosen], positions[chosen], corners @ weights)


def _outer(parts: Sequence[np.ndarray]) -> np.ndarray:
    """(corners, voxels): products of per-axis weights (voxels of the axis, nodes)."""

    def join(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.einsum("vn,wm->vwnm", left, right).reshape(len(left) * len(right), left.shape[1] * right.shape[1])

    return np.ascontiguousarray(reduce(join, parts).T)
