"""Joint training of generator and encoder with the explained model's prediction in the loss.

An image is encoded and made again; the discriminator and the pixels say how like the original it is, and the
explained model shall say the same of both. The first style latent carries the model's score (StylEx conditions its
generator on it: Lang et al., ICCV 2021), so half of each batch is also made with another score: the model shall then
say that score, the discriminator, which is told the score, shall find the image real, and little shall change.
Without an explained model the rest is trained: encoding, reconstruction, and the discriminator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional

from ..generator.discriminator import Discriminator
from ..generator.encoder import Encoder
from ..generator.generator import Generator
from .adversarial import squared_gradient
from .augmentation import Augmentation
from .losses import discriminator_loss, feature_loss, generator_loss, reconstruction_loss
from .settings import TrainingSettings

SCORE_LATENT = 0
SCORE_SCALE = 2.0
"""The first style latent is the score divided by this, so that it varies about as much as the others."""
_SCORE_WEIGHT = 0.3
_PROBE_NOISE = 0.04
_TOLERANCE = 0.5
_NEARBY, _NEARBY_TOLERANCE = 1.5, 0.1
_BEYOND = 0.1
"""Scores are asked for to this part of their range beyond its ends, so that the ends themselves are learned well."""
_TRACE, _CLEAR = 0.08, 0.2
"""Change of an image, averaged over a neighbourhood, below which there is no finding, and from which it is clear."""


@dataclass(frozen=True)
class ScoreTarget:
    """The explained model as the training sees it.

    ``score`` takes images (n, C, S, S) in [-1, 1] to scores (n,), differentiable: log-odds, or values of a regression
    standardized over the training images. ``low`` and ``high`` bound the scores that are asked for.
    """

    score: Callable[[torch.Tensor], torch.Tensor]
    low: float
    high: float


class MadeAgain(NamedTuple):
    """Reconstructions (n, ...), half as many images made for another score, the scores of both (None without)."""

    again: torch.Tensor
    other: torch.Tensor | None
    told: torch.Tensor | None
    asked: torch.Tensor | None


class JointObjective:
    """Losses of one step of the joint training; see the module."""

    def __init__(
        self,
        generator: Generator,
        encoder: Encoder,
        discriminator: Discriminator,
        target: ScoreTarget | None,
        augmentation: Augmentation,
        settings: TrainingSettings,
    ) -> None:
        self.generator, self.encoder, self.discriminator = generator, encoder, discriminator
        self.target, self.augmentation, self.settings = target, augmentation, settings

    @property
    def _known_target(self) -> ScoreTarget:
        """The target, in what is only done with one."""
        assert self.target is not None
        return self.target

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        size = self.generator.settings.latent_size
        code = latents[:, size:] if self.generator.settings.code_channels else None
        return self.generator.synthesis(latents[:, :size], code, "fixed")

    def generator_loss(
        self, images: torch.Tensor, adversarial: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], MadeAgain]:
        """The loss of generator and encoder, its parts, and what the discriminator's step needs."""
        s, n = self.settings, len(images)
        latents = self.encoder(images)
        noisy = latents + s.latent_noise * torch.randn_like(latents)
        parts = {"latents": s.latent_penalty * latents.square().mean()}
        if self.target is None:
            again, other, told, asked = self.decode(noisy), None, None, None
        else:
            told = self._score(images)
            asked = self._asked(told[: n // 2])
            noisy, steered = _with_score(noisy, told), _with_score(noisy[: n // 2], asked)
            again, other = self.decode(torch.cat([noisy, steered])).split([n, n // 2])
            cost = self._cost_of_change(noisy[: n // 2], again[: n // 2], asked > told[: n // 2])
            parts.update(self._prediction_parts(latents, steered, again, other, told, asked, cost))
        parts["reconstruction"] = reconstruction_loss(again, images)
        if adversarial:
            parts.update(self._adversarial_parts(images, MadeAgain(again, other, told, asked), adversarial))
        loss = torch.stack([part.float() for part in parts.values()]).sum()
        return loss, parts, MadeAgain(again.detach(), None if other is None else other.detach(), told, asked)

    def _asked(self, told: torch.Tensor) -> torch.Tensor:
        """Other scores (m,) for images of scores ``told``: half of them nearby, half anywhere in the range."""
        beyond = _BEYOND * (self._known_target.high - self._known_target.low)
        low = torch.full_like(told, self._known_target.low - beyond)
        high = torch.full_like(told, self._known_target.high + beyond)
        anywhere = torch.lerp(low, high, torch.rand_like(told))
        nearest = (told - _NEARBY).clamp(low, high), (told + _NEARBY).clamp(low, high)
        nearby = torch.lerp(*nearest, torch.rand_like(told))
        return torch.where(self._near(told), nearby, anywhere)

    @staticmethod
    def _near(told: torch.Tensor) -> torch.Tensor:
        return torch.arange(len(told), device=told.device) % 2 == 0

    @torch.no_grad()
    def _score(self, images: torch.Tensor) -> torch.Tensor:
        return self._known_target.score(images)

    @torch.no_grad()
    def _cost_of_change(self, latents: torch.Tensor, again: torch.Tensor, rising: torch.Tensor) -> torch.Tensor:
        """What a change costs at each pixel (n, 1, S, S): a finding shall grow where it is.

        Where the finding is shows in what the generator takes away for the lowest score. If that is clear, a rise of
        the score costs four times as much elsewhere, and half as much there.
        """
        lowest = latents.clone()
        lowest[:, SCORE_LATENT] = self._known_target.low / SCORE_SCALE
        taken = (again - self.decode(lowest)).abs().mean(1, keepdim=True)
        reach = taken.shape[-1] // 8 + 1
        taken = functional.avg_pool2d(taken, reach, 1, reach // 2)
        most = taken.amax((2, 3), keepdim=True)
        clear = ((most - _TRACE) / (_CLEAR - _TRACE)).clamp(0, 1) * rising[:, None, None, None]
        return 1 + clear * torch.where(taken > most / 4, -0.5, 3.0)

    def _prediction_parts(
        self,
        latents: torch.Tensor,
        steered: torch.Tensor,
        again: torch.Tensor,
        other: torch.Tensor,
        told: torch.Tensor,
        asked: torch.Tensor,
        cost: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        s = self.settings
        change = (other - again[: len(other)].detach()).abs()
        near = self._near(asked)
        # noise: the model's answer shall move for what can be seen, not for a faint pattern; nearby, where the answer
        # is compared with that to the reconstruction, both are shown as they are
        noise = _PROBE_NOISE * torch.randn_like(other) * ~near[:, None, None, None]
        said = self._known_target.score(torch.cat([again, other + noise]))
        same, moved = said.split([len(again), len(other)])
        rise = (moved - same[: len(moved)])[near] - (asked - told[: len(asked)])[near]
        return {
            "score_latent": _SCORE_WEIGHT * functional.mse_loss(latents[:, SCORE_LATENT], told / SCORE_SCALE),
            "prediction": s.prediction * functional.smooth_l1_loss(same, told, beta=_TOLERANCE),
            "steering": s.steering * functional.smooth_l1_loss(moved, asked, beta=_TOLERANCE),
            "slope": s.slope * functional.smooth_l1_loss(rise, torch.zeros_like(rise), beta=_NEARBY_TOLERANCE),
            "preservation": s.preservation * (cost * change).mean(),
            "cycle": s.cycle * functional.mse_loss(self.encoder(other.detach()), steered.detach()),
        }

    def _adversarial_parts(self, images: torch.Tensor, made: MadeAgain, adversarial: float) -> dict[str, torch.Tensor]:
        n = len(images)
        both = made.again if made.other is None else torch.cat([made.again, made.other])
        wanted = None if made.told is None or made.asked is None else torch.cat([made.told, made.asked])
        fake, features = self.discriminator(self.augmentation(both), _condition(wanted))
        likeness = generator_loss(fake[:n])
        if made.other is not None:
            likeness = likeness + generator_loss(fake[n:])
        parts = {"adversarial": adversarial * likeness}
        if self.settings.features and self.augmentation.probability == 0:
            with torch.no_grad():
                _, real = self.discriminator(images, _condition(made.told))
            parts["features"] = self.settings.features * feature_loss([part[:n] for part in features], real)
        return parts

    def discriminator_loss(self, images: torch.Tensor, made: MadeAgain) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the logits (n,) of the real images."""
        fakes, wanted = made.again, made.told
        if made.other is not None and made.told is not None and made.asked is not None:
            half = len(made.other)
            fakes = torch.cat([made.again[half:], made.other])
            wanted = torch.cat([made.told[half:], made.asked])
        real, _ = self.discriminator(self.augmentation(images), _condition(made.told))
        fake, _ = self.discriminator(self.augmentation(fakes), _condition(wanted))
        return discriminator_loss(real, fake), real

    def gradient_penalty(self, images: torch.Tensor) -> torch.Tensor:
        told = None if self.target is None else self._score(images)
        images = images.detach().requires_grad_(True)
        real, _ = self.discriminator(self.augmentation(images), _condition(told))
        return squared_gradient(real, images)


def _with_score(latents: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Latents whose score latent is exactly that of ``scores``.

    The encoder's own is a little off. A generator that is to say the image's score in spite of it reads the score
    from the other latents, and then small changes of the score latent do nothing.
    """
    return torch.cat([scores[:, None].to(latents) / SCORE_SCALE, latents[:, SCORE_LATENT + 1 :]], 1)


def _condition(scores: torch.Tensor | None) -> torch.Tensor | None:
    return None if scores is None else scores[:, None] / SCORE_SCALE
