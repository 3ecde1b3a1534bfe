"""From bits per cell of a layer to bits per voxel of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ...core.errors import ModelError

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def bits_per_voxel(cells: Tensor, voxel_shape: Sequence[int]) -> Tensor:
    """(N, *cells) bits per cell to (N, *voxel_shape) bits per voxel, by linear interpolation.

    Each map's sum stays its total of bits: no map is scaled to its own range, so a healthy image stays dark.
    Raises ModelError when the cells have another number of axes than the voxels.
    """
    axes = cells.ndim - 1
    if axes != len(voxel_shape) or axes not in _LINEAR:
        raise ModelError(
            f"A map of {axes} axes cannot be spread over voxels of shape {tuple(voxel_shape)}.",
            "Give the grid of the tokens for layers that keep no spatial axes.",
        )
    factor = math.prod(cells.shape[1:]) / math.prod(voxel_shape)
    voxels = F.interpolate(cells.unsqueeze(1).float(), tuple(voxel_shape), mode=_LINEAR[axes]).squeeze(1) * factor
    total, found = (part.flatten(1).sum(1).view(-1, *[1] * axes) for part in (cells.float(), voxels))
    return voxels * (total / found.clamp_min(1e-30))
