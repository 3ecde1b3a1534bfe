"""Trains a generator step by step; what a step does follows from its number, so a resumed training goes on exactly."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...core.errors import XAIError
from ..generator.discriminator import Discriminator
from ..generator.encoder import Encoder
from ..generator.generator import Generator, GeneratorSettings
from ..generator.latent_space import LatentSpace, LatentStatistics
from .adversarial import AdversarialObjective
from .augmentation import Augmentation
from .images import TrainingImages
from .joint import JointObjective, ScoreTarget
from .settings import TrainingSettings

_WARM_UP = 100
_LEAST_RATE = 0.02
_RAMP, _LEAD = 0.08, 0.025
_ENCODED = 8192
_BATCH = 64


class DivergedError(XAIError):
    """The losses are no numbers any more."""

    kind = "diverged"


class GeneratorTrainer:
    """Generator, discriminator and, in joint training, encoder, with their optimisers and averaged weights."""

    def __init__(
        self,
        shape: GeneratorSettings,
        settings: TrainingSettings,
        images: TrainingImages,
        target: ScoreTarget | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape, self.settings, self.images, self.device = shape, settings, images, torch.device(device)
        torch.manual_seed(settings.seed)
        self.generator = Generator(shape).to(self.device)
        self.discriminator = Discriminator(shape, 1 if target is not None else 0).to(self.device)
        self.encoder = Encoder(shape).to(self.device) if settings.encoder else None
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.average_encoder = copy.deepcopy(self.encoder).requires_grad_(False) if self.encoder else None
        if settings.low_precision:
            self.generator.dtype = torch.bfloat16
        self.augmentation = Augmentation(
            settings.augmentation_probability if settings.augmentation == "fixed" else 0.0,
            settings.augmentation_target,
            settings.augmentation_images,
            settings.mirror,
        )
        self.objective: JointObjective | AdversarialObjective
        if self.encoder is not None:
            self.objective = JointObjective(
                self.generator, self.encoder, self.discriminator, target, self.augmentation, settings
            )
        else:
            self.objective = AdversarialObjective(self.generator, self.discriminator, self.augmentation, settings)
        self.step_number = 0
        self._make_optimisers()

    def _make_optimisers(self) -> None:
        s = self.settings
        groups = [{"params": list(self.generator.parameters()), "lr": s.generator_rate, "full": s.generator_rate}]
        if self.encoder is not None:
            groups.append({"params": list(self.encoder.parameters()), "lr": s.encoder_rate, "full": s.encoder_rate})
        inertia = 0.9 if self.encoder is not None else 0.0
        self.optimiser = torch.optim.Adam(groups, betas=(inertia, 0.99))
        critic = [{"params": list(self.discriminator.parameters()), "full": s.discriminator_rate}]
        self.critic_optimiser = torch.optim.Adam(critic, s.discriminator_rate, betas=(0.0, 0.99))

    @property
    def part(self) -> float:
        """Part of the training that is done."""
        return self.step_number / self.settings.steps

    @property
    def seen(self) -> int:
        """Images seen so far."""
        return self.step_number * self.settings.batch

    def step(self) -> dict[str, float]:
        """One step; returns its losses.

        Raises:
            DivergedError: a loss is not a number. Nothing was changed by it.
        """
        s = self.settings
        torch.manual_seed(s.seed * 1_000_003 + self.step_number)
        self._set_rates()
        images = self.images.batch(self.step_number, s.batch, s.seed).to(self.device)
        with self._precision():
            loss, parts, made = self.objective.generator_loss(images, self._adversarial())
        figures = {name: float(value.detach()) for name, value in parts.items()}
        self._update(self.optimiser, loss)
        if isinstance(self.objective, AdversarialObjective) and s.path_length:
            if self.step_number % s.path_length_every == 0:
                figures["path_length"] = self._shorten_paths()
        if self._critic_learns():
            figures.update(self._critic_step(images, made))
        self._average()
        self.step_number += 1
        return figures

    def _adversarial(self) -> float:
        start = self.settings.adversarial_from
        if self.part < start:
            return 0.0
        ramp = min(1.0, (self.part - start) / _RAMP) if start else 1.0
        return self.settings.adversarial * ramp

    def _critic_learns(self) -> bool:
        return self.settings.adversarial > 0 and self.part >= self.settings.adversarial_from - _LEAD

    def _critic_step(self, images: torch.Tensor, made: Any) -> dict[str, float]:
        s = self.settings
        with self._precision():
            loss, real = self.objective.discriminator_loss(images, made)
        self._update(self.critic_optimiser, loss)
        figures = {"discriminator": float(loss.detach()), "augmentation": self.augmentation.probability}
        if s.augmentation == "adaptive":
            figures["recognized"] = self.augmentation.adapt(real)
        if s.r1 and self.step_number % s.r1_every == 0:
            penalty = self.objective.gradient_penalty(images[: max(2, len(images) // 2)])
            self._update(self.critic_optimiser, s.r1 * s.r1_every * penalty)
            figures["r1"] = float(penalty.detach())
        return figures

    def _shorten_paths(self) -> float:
        penalty = self.objective.path_length_penalty(max(2, self.settings.batch // 2), self.device)
        self._update(self.optimiser, self.settings.path_length * self.settings.path_length_every * penalty)
        return float(penalty.detach())

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.low_precision)

    def _update(self, optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        if not bool(torch.isfinite(loss.detach())):
            raise DivergedError(
                f"The training diverged: a loss was {float(loss.detach())} at step {self.step_number}.",
                "The last good state was kept. Train with lower rates, or without low precision.",
            )
        for network in (self.generator, self.discriminator, self.encoder):
            if network is not None:
                network.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    def _set_rates(self) -> None:
        share = min(1.0, (self.step_number + 1) / _WARM_UP)
        falling = max(_LEAST_RATE, 0.5 * (1 + math.cos(math.pi * self.part))) if self.settings.cosine else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = group["full"] * share * falling

    def _average(self) -> None:
        half_life = self.settings.average_images / self.settings.batch
        kept = min(0.5 ** (1 / half_life), (self.step_number + 1) / (self.step_number + 10))
        update_average(self.average, self.generator, kept)
        if self.encoder is not None:
            update_average(self.average_encoder, self.encoder, kept)

    @torch.no_grad()
    def latent_space(self) -> LatentSpace:
        """The latent space of the averaged weights as they are now."""
        generator = copy.deepcopy(self.average)
        encoder = copy.deepcopy(self.average_encoder) if self.average_encoder is not None else None
        space = LatentSpace(generator, encoder)
        if encoder is None:
            return space
        numbers = torch.linspace(0, len(self.images) - 1, min(_ENCODED, len(self.images))).round().long().numpy()
        parts = [self.images.chosen(numbers[i : i + _BATCH]) for i in range(0, len(numbers), _BATCH)]
        latents = torch.cat([space.encode(part.to(self.device)).cpu() for part in parts])
        generator.mean_w.copy_(latents[:, : self.shape.latent_size].mean(0))
        return LatentSpace(generator, encoder, LatentStatistics.of(latents).to(self.device))

    def networks(self) -> dict[str, nn.Module]:
        """The networks whose weights a checkpoint holds."""
        found = {"generator": self.generator, "discriminator": self.discriminator, "average": self.average}
        if self.encoder is not None:
            found |= {"encoder": self.encoder, "average_encoder": self.average_encoder}
        return found

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, as tensors and numbers."""
        state: dict[str, Any] = {name: network.state_dict() for name, network in self.networks().items()}
        state["optimiser"] = self.optimiser.state_dict()
        state["critic_optimiser"] = self.critic_optimiser.state_dict()
        state["step"] = self.step_number
        state["augmentation"] = self.augmentation.probability
        if isinstance(self.objective, AdversarialObjective):
            state["mean_length"] = self.objective.mean_length
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`."""
        for name, network in self.networks().items():
            network.load_state_dict(state[name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.critic_optimiser.load_state_dict(state["critic_optimiser"])
        self.step_number = int(state["step"])
        self.augmentation.probability = float(state["augmentation"])
        if isinstance(self.objective, AdversarialObjective):
            self.objective.mean_length = state["mean_length"].to(self.device)


def update_average(average: nn.Module, current: nn.Module, share: float) -> None:
    """Move the averaged weights toward the current ones: ``share`` of the old stays."""
    with torch.no_grad():
        for old, new in zip(average.parameters(), current.parameters()):
            old.lerp_(new, 1 - share)
        for old, new in zip(average.buffers(), current.buffers()):
            old.copy_(new)
