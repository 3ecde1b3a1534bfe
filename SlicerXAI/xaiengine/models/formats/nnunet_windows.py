"""Where nnU-Net puts its sliding windows and how it weights them (as nnunetv2's predictor does)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

SIGMA = 1 / 8
"""SD of the weights in window lengths."""


def window_starts(image_size: Sequence[int], window: Sequence[int], step: float = 0.5) -> list[tuple[int, ...]]:
    """Windows spread evenly from edge to edge, at most ``step`` window lengths apart; in nnU-Net's order."""
    per_axis = []
    for size, length in zip(image_size, window):
        if length == 1:  # the axis across the slices of a 2D network
            per_axis.append(list(range(size)))
            continue
        count = math.ceil((size - length) / (length * step)) + 1
        distance = (size - length) / (count - 1) if count > 1 else 0.0
        per_axis.append([int(np.round(distance * number)) for number in range(count)])
    return list(itertools.product(*per_axis))


def window_weights(window: Sequence[int]) -> torch.Tensor:
    """A Gaussian around the middle voxel, 1 there; where it underflows, the smallest weight above zero."""
    impulse = np.zeros(tuple(window))
    impulse[tuple(length // 2 for length in window)] = 1
    weights = ndimage.gaussian_filter(impulse, [length * SIGMA for length in window], mode="constant")
    weights = (weights / weights.max()).astype(np.float32)
    weights[weights == 0] = weights[weights > 0].min()
    return torch.from_numpy(weights)
