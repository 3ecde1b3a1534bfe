"""Training of the generator alone: StyleGAN2's losses with the explained model left out.

Karras et al., CVPR 2020: non-saturating loss, style mixing, path length regularisation; R1 (Mescheder 2018).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from ..generator.discriminator import Discriminator
from ..generator.generator import Generator
from .augmentation import Augmentation
from .losses import discriminator_loss, generator_loss
from .settings import TrainingSettings

_LENGTH_MEMORY = 0.01
_MEAN_MEMORY = 0.995


class MadeFromNoise(NamedTuple):
    images: torch.Tensor


class AdversarialObjective:
    """Losses of one step; ``mean_length`` is the running mean of path lengths."""

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        augmentation: Augmentation,
        settings: TrainingSettings,
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.augmentation, self.settings = augmentation, settings
        self.mean_length = torch.zeros(())

    def made(self, count: int, device: torch.device) -> torch.Tensor:
        """Images (count, C, S, S) from noise, some of them with two latents, one for the coarse layers."""
        generator = self.generator
        size = generator.settings.latent_size
        w = generator.mapping(torch.randn(2 * count, size, device=device))
        with torch.no_grad():
            generator.mean_w.lerp_(w.detach().float().mean(0), 1 - _MEAN_MEMORY)
        first, second = (generator.extended(part) for part in w.chunk(2))
        layers = generator.settings.layers
        cut = torch.randint(1, layers, (count,), device=device)
        mixed = torch.rand(count, device=device) < self.settings.style_mixing
        coarse = torch.arange(layers, device=device) < torch.where(mixed, cut, layers)[:, None]
        return generator.synthesis(torch.where(coarse[:, :, None], first, second), None, "random")

    def generator_loss(
        self, images: torch.Tensor, adversarial: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], MadeFromNoise]:
        made = self.made(len(images), images.device)
        fake, _ = self.discriminator(self.augmentation(made))
        loss = adversarial * generator_loss(fake)
        return loss, {"adversarial": loss}, MadeFromNoise(made.detach())

    def discriminator_loss(self, images: torch.Tensor, made: MadeFromNoise) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the logits (n,) of the real images."""
        real, _ = self.discriminator(self.augmentation(images))
        fake, _ = self.discriminator(self.augmentation(made.images))
        return discriminator_loss(real, fake), real

    def gradient_penalty(self, images: torch.Tensor) -> torch.Tensor:
        images = images.detach().requires_grad_(True)
        real, _ = self.discriminator(self.augmentation(images))
        return squared_gradient(real, images)

    def path_length_penalty(self, count: int, device: torch.device) -> torch.Tensor:
        """Squared deviation of |Jᵀ y| from its running mean (StyleGAN2, section 3.2); y is a random image."""
        generator = self.generator
        w = generator.mapping(torch.randn(count, generator.settings.latent_size, device=device))
        latents = generator.extended(w).contiguous()
        images = generator.synthesis(latents, None, "random")
        direction = torch.randn_like(images) / math.sqrt(images.shape[-1] * images.shape[-2])
        (gradient,) = torch.autograd.grad((images * direction).sum(), latents, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        self.mean_length = torch.lerp(self.mean_length.to(device), lengths.detach().mean(), _LENGTH_MEMORY)
        return (lengths - self.mean_length).square().mean()


def squared_gradient(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """R1: half the mean squared gradient (n, C, S, S) of the logits (n,) at real images."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.5 * gradient.float().square().sum((1, 2, 3)).mean()
