"""Joint training of generator and encoder with the explained model's prediction in the loss.

An image is encoded and made again; the discriminator and the pixels say how like the original it is, and the
explained model shall say the same of both. The first style latent carries the model's score (StylEx conditions its
generator on it: Lang et al., ICCV 2021), so half of each batch is also made with another score: the model shall then
say that score, the discriminator, which is told the score, shall find the image real, and little shall change.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from .discriminator import Discriminator
from .encoder import Encoder
from .generator import Generator
from .training_losses import discriminator_loss, feature_loss, generator_loss, reconstruction_loss
from .training_settings import TrainingSettings

Score = Callable[[torch.Tensor], torch.Tensor]
"""Images (n, C, S, S) in [-1, 1] to the explained model's scores (n,): log-odds, or standardised values."""

SCORE_LATENT = 0
SCORE_SCALE = 2.0
"""The first style latent is the score divided by this, so that it varies about as much as the others."""
_PROBE_NOISE = 0.04


class JointStep:
    """One step of the joint training; see the module."""

    def __init__(
        self,
        generator: Generator,
        encoder: Encoder,
        discriminator: Discriminator,
        score: Score,
        scores: tuple[float, float],
        settings: TrainingSettings,
    ) -> None:
        self.generator, self.encoder, self.discriminator = generator, encoder, discriminator
        self.score, self.scores, self.settings = score, scores, settings

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        size = self.generator.settings.latent_size
        return self.generator.synthesis(latents[:, :size], latents[:, size:], "none")

    def generator_step(self, images: torch.Tensor, adversarial: float) -> tuple[torch.Tensor, dict, tuple]:
        """The loss of generator and encoder, its parts, and what the discriminator's step needs."""
        s = self.settings
        with torch.no_grad():
            told = self.score(images)
        latents = self.encoder(images)
        noisy = latents + s.latent_noise * torch.randn_like(latents)
        half = len(images) // 2
        asked = torch.empty(half, device=images.device).uniform_(*self.scores)
        steered = noisy[:half].clone()
        steered[:, SCORE_LATENT] = asked / SCORE_SCALE
        made = self.decode(torch.cat([noisy, steered]))
        again, other = made[: len(images)], made[len(images) :]
        parts = {
            "reconstruction": reconstruction_loss(again, images),
            "score_latent": 0.1 * functional.mse_loss(latents[:, SCORE_LATENT], told / SCORE_SCALE),
            "latents": s.latent_penalty * latents.square().mean(),
            "preservation": s.preservation * (other - again[:half].detach()).abs().mean(),
        }
        probed = torch.cat([again, other + _PROBE_NOISE * torch.randn_like(other)])
        said = self.score(probed)
        parts["prediction"] = s.prediction * functional.smooth_l1_loss(said[: len(images)], told, beta=0.5)
        parts["steering"] = s.steering * functional.smooth_l1_loss(said[len(images) :], asked, beta=0.5)
        if s.cycle:
            found = self.encoder(other.detach())
            parts["cycle"] = s.cycle * functional.mse_loss(found, steered.detach())
        if adversarial:
            wanted = torch.cat([told, asked])[:, None] / SCORE_SCALE
            fake, features = self.discriminator(made, wanted)
            with torch.no_grad():
                _, real = self.discriminator(images, wanted[: len(images)])
            likeness = generator_loss(fake[: len(images)]) + generator_loss(fake[len(images) :])
            parts["adversarial"] = adversarial * likeness
            parts["features"] = s.features * feature_loss([f[: len(images)] for f in features], real)
        loss = torch.stack([part.float() for part in parts.values()]).sum()
        return loss, parts, (again.detach(), other.detach(), told, asked)

    def discriminator_step(self, images: torch.Tensor, made: tuple) -> torch.Tensor:
        again, other, told, asked = made
        half = len(other)
        fakes = torch.cat([again[half:], other])
        wanted = torch.cat([told[half:], asked])[:, None] / SCORE_SCALE
        real, _ = self.discriminator(images, told[:, None] / SCORE_SCALE)
        fake, _ = self.discriminator(fakes, wanted)
        return discriminator_loss(real, fake)

    def gradient_penalty(self, images: torch.Tensor) -> torch.Tensor:
        """R1: half the mean squared gradient of the logits at real images (Mescheder 2018)."""
        images = images.detach().requires_grad_(True)
        with torch.no_grad():
            told = self.score(images)
        real, _ = self.discriminator(images, told[:, None] / SCORE_SCALE)
        (gradient,) = torch.autograd.grad(real.sum(), images, create_graph=True)
        return 0.5 * gradient.square().sum((1, 2, 3)).mean()


def update_average(average: nn.Module, current: nn.Module, share: float) -> None:
    """Move the averaged weights towards the current ones: ``share`` of the old stays."""
    with torch.no_grad():
        for old, new in zip(average.parameters(), current.parameters()):
            old.lerp_(new, 1 - share)
        for old, new in zip(average.buffers(), current.buffers()):
            old.copy_(new)
