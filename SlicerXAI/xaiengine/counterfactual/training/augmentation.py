"""Adaptive augmentation of what the discriminator sees, for small cohorts.

Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020: real and made images pass
the same random changes, each applied with probability p, so that the discriminator cannot learn the images by heart
and the generator does not learn the changes. p follows how sure the discriminator is of real images.
"""

from __future__ import annotations

import torch
from torch.nn import functional

_CHANGES = 6
_SHIFT, _TURN, _ZOOM = 0.125, 0.26, 0.15
_HOLE = 0.25


class Augmentation:
    """Random changes with probability ``probability``; :meth:`adapt` moves it by the discriminator's answers."""

    def __init__(
        self, probability: float = 0.0, target: float = 0.6, images: float = 500_000.0, mirror: bool = False
    ) -> None:
        self.probability, self.target, self.images, self.mirror = probability, target, images, mirror

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, C, S, S), each changed by its own draw: place, then brightness, then a hole; differentiable."""
        if self.probability <= 0:
            return images
        n, device = len(images), images.device
        chosen = torch.rand(_CHANGES, n, device=device) < self.probability
        if self.mirror:
            images = torch.where(chosen[0][:, None, None, None], images.flip(2), images)
        images = _moved(images, chosen[1], chosen[2])
        contrast = torch.where(chosen[3], (0.2 * torch.randn(n, device=device)).exp(), 1.0)
        brightness = torch.where(chosen[4], 0.2 * torch.randn(n, device=device), 0.0)
        images = images * contrast[:, None, None, None] + brightness[:, None, None, None]
        return images * _holes(images, chosen[5])

    def adapt(self, real_logits: torch.Tensor) -> float:
        """Move the probability: up if more than the target share of real images is recognized; returns that share.

        The share is r = E[sign(D(real))]; from 0 to 1 takes ``images`` images at least.
        """
        share = float(real_logits.detach().sign().mean())
        step = len(real_logits) / self.images
        self.probability = min(1.0, max(0.0, self.probability + (step if share > self.target else -step)))
        return share


def _moved(images: torch.Tensor, shifted: torch.Tensor, turned: torch.Tensor) -> torch.Tensor:
    """Shifted by up to an eighth of the image; turned by up to 15 degrees and zoomed; the border is mirrored."""
    n, device = len(images), images.device
    if not bool((shifted | turned).any()):
        return images
    angle = torch.where(turned, (torch.rand(n, device=device) * 2 - 1) * _TURN, 0.0)
    zoom = torch.where(turned, (_ZOOM * torch.randn(n, device=device)).exp(), 1.0)
    shift = torch.where(shifted[:, None], (torch.rand(n, 2, device=device) * 2 - 1) * 2 * _SHIFT, 0.0)
    rows = torch.stack(
        [zoom * angle.cos(), -zoom * angle.sin(), shift[:, 0], zoom * angle.sin(), zoom * angle.cos(), shift[:, 1]], 1
    )
    grid = functional.affine_grid(rows.reshape(n, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid.to(images.dtype), padding_mode="reflection", align_corners=False)


def _holes(images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Masks (n, 1, S, S): 0 in a square of half the image's size at a random place of the chosen images."""
    n, size, device = len(images), images.shape[-1], images.device
    centers = torch.rand(n, 2, 1, device=device)
    places = (torch.arange(size, device=device) + 0.5) / size
    inside = (places - centers).abs() < _HOLE
    hole = inside[:, 0, :, None] & inside[:, 1, None, :] & chosen[:, None, None]
    return (~hole)[:, None].to(images.dtype)
