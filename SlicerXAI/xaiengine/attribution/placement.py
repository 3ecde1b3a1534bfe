"""Maps on a layer's cells, put where the cells look in the network's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..network.feature_grid import FeatureGrid


def placed(cells: torch.Tensor, grid: FeatureGrid, shape: Sequence[int]) -> torch.Tensor:
    """(N, cells...) interpolated linearly to voxels (N, spatial...); beyond the outermost cells they continue.

    Cell c lies at input index ``scale · c + offset``, which is not where stretching edge to edge would put it.
    """
    result = cells.float()
    for axis, (size, scale, offset) in enumerate(zip(shape, grid.scale, grid.offset), start=1):
        count = result.shape[axis]
        if count == size and scale == 1 and offset == 0:
            continue
        place = ((torch.arange(size, device=cells.device, dtype=torch.float32) - offset) / scale).clamp(0, count - 1)
        lower = place.floor().long().clamp_max(max(count - 2, 0))
        weight = (place - lower).reshape([-1 if dimension == axis else 1 for dimension in range(result.ndim)])
        below = result.index_select(axis, lower)
        above = result.index_select(axis, (lower + 1).clamp_max(count - 1))
        result = below + (above - below) * weight
    return result


def placed_sum(cells: torch.Tensor, grid: FeatureGrid, shape: Sequence[int]) -> torch.Tensor:
    """The same for amounts: each sample's sum over voxels is its sum over cells (bits stay bits)."""
    voxels = placed(cells, grid, shape)
    ones = [1] * (voxels.ndim - 1)
    wanted = cells.float().flatten(1).sum(1).reshape(-1, *ones)
    found = voxels.flatten(1).sum(1).reshape(-1, *ones)
    return voxels * (wanted / torch.where(found.abs() > 1e-30, found, torch.ones_like(found)))
