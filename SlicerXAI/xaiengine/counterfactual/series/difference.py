"""What a counterfactual changed: signed differences, the region that changed, and how the rest kept still."""

from __future__ import annotations

import torch
from torch.nn import functional

CHANGED = 0.1
"""A pixel belongs to the region that changed from this part of the largest difference on."""
WIDENED = 1
"""Pixels by which the region is widened."""


def changed_region(difference: torch.Tensor, part: float = CHANGED, widened: int = WIDENED) -> torch.Tensor:
    """Where differences (n, C, S, S) reach ``part`` of each one's largest smoothed amount, (n, S, S) bool."""
    amount = functional.avg_pool2d(difference.abs().mean(1, keepdim=True), 3, 1, 1)
    largest = amount.amax((1, 2, 3), keepdim=True)
    region = (amount >= part * largest) & (largest > 0)
    if widened:
        region = functional.max_pool2d(region.float(), 2 * widened + 1, 1, widened) > 0
    return region[:, 0]


def share_inside(difference: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """Part (n,) of the absolute difference (n, C, S, S) that lies in regions (n, S, S); 0 where nothing changed."""
    amount = difference.abs().mean(1)
    total = amount.sum((1, 2))
    return (amount * region).sum((1, 2)) / total.clamp_min(1e-12)


def blend_mask(difference: torch.Tensor) -> torch.Tensor:
    """A soft mask (n, 1, S, S), 1 in the region that changed and 0 away from it, with a rim of two pixels."""
    region = changed_region(difference, widened=2)[:, None].float()
    return functional.avg_pool2d(functional.pad(region, [2] * 4, mode="replicate"), 5, 1)


def window_of(difference: torch.Tensor) -> float:
    """The amount at which colors end: what the strongest two hundredth of the changed pixels exceeds."""
    amount = difference.abs().flatten()
    amount = amount[amount > 0]
    return float(amount.quantile(0.995)) if len(amount) else 1.0
