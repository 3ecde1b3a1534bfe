"""Losses of the generator, the encoder and the discriminator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

_LEVELS = 4


def generator_loss(fake: torch.Tensor) -> torch.Tensor:
    """Non-saturating loss of the discriminator's logits (n,) of made images (Goodfellow 2014)."""
    return functional.softplus(-fake).mean()


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Logistic loss of the discriminator's logits (n,) of real and made images."""
    return functional.softplus(fake).mean() + functional.softplus(-real).mean()


def reconstruction_loss(made: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of images (n, C, S, S) and of their edges, at the full and at three coarser sizes."""
    loss = _difference(made, images) + _difference(*(values.diff(dim=2) for values in (made, images)))
    loss = loss + _difference(*(values.diff(dim=3) for values in (made, images)))
    for _ in range(_LEVELS - 1):
        made, images = functional.avg_pool2d(made, 2), functional.avg_pool2d(images, 2)
        loss = loss + _difference(made, images)
    return loss


def feature_loss(made: Sequence[torch.Tensor], images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean absolute difference of the discriminator's features (Larsen 2016), averaged over its sizes."""
    parts = [_difference(a.float(), b.detach().float()) for a, b in zip(made, images)]
    return torch.stack(parts).mean()


def _difference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).abs().mean()
