"""Where a concept's units saw what they contributed: one map per concept, whose sum is its contribution."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..attribution.placement import placed
from ..network.feature_grid import FeatureGrid


def cell_weights(grid: FeatureGrid, voxels: tuple[int, ...]) -> Tensor:
    """How many voxels each cell (cells...) stands for when a map is interpolated over ``voxels``."""
    weight = torch.ones(())
    for size, count, scale, offset in zip(voxels, grid.cells, grid.scale, grid.offset):
        axis = FeatureGrid((count,), (scale,), (offset,), grid.measured)
        shares = placed(torch.eye(count), axis, (size,)).sum(1)
        weight = weight[..., None] * shares
    return weight


def concept_maps(
    activation: Tensor,
    contributions: np.ndarray,
    groups: list[np.ndarray],
    grid: FeatureGrid,
    voxels: tuple[int, ...],
) -> np.ndarray:
    """Maps (n, len(groups), voxels...) of n samples, in units of f per voxel.

    Each unit's contribution (n, U) is spread over the voxels in proportion to its activation (n, U, cells...) where
    that is positive (above its lowest value where it never is), and summed over the units of each group, so that a
    map sums to the contribution of its concept.
    """
    spread = activation.clamp_min(0)
    never = spread.flatten(2).amax(2) <= 0
    lifted = activation - activation.flatten(2).amin(2).reshape(*activation.shape[:2], *[1] * (activation.ndim - 2))
    ones = torch.ones_like(activation)
    flat = lifted.flatten(2).amax(2) <= 0
    shape = (*never.shape, *[1] * (activation.ndim - 2))
    spread = torch.where(never.reshape(shape), torch.where(flat.reshape(shape), ones, lifted), spread)
    weights = cell_weights(grid, voxels).to(spread)
    total = (spread * weights).flatten(2).sum(2)
    amount = torch.as_tensor(contributions, device=spread.device).to(spread) / total
    scaled = spread * amount.reshape(shape)
    maps = torch.stack([scaled[:, torch.as_tensor(units, dtype=torch.long)].sum(1) for units in groups], dim=1)
    flat_maps = placed(maps.flatten(0, 1), grid, voxels)
    return flat_maps.reshape(len(activation), len(groups), *voxels).cpu().numpy()
