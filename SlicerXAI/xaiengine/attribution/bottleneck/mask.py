"""The mask of the information bottleneck: noise put in, information left, and the step of the optimiser.

    lambda = G_sigma * sigmoid(alpha),   R' = (R - mean) / std
    keep:     Z = lambda R + (1 - lambda) eps,   destroy: Z = lambda eps + (1 - lambda) R,   eps ~ N(mean, std^2)
    KL = -1/2 (1 + log (1 - lambda)^2 - (lambda R')^2 - (1 - lambda)^2)        nats per neuron

(Schulz et al., ICLR 2020, arXiv 2001.00396; "destroy": Khakzar et al., MICCAI 2021, arXiv 2104.00411.)
The gradients are written out: only the model needs autograd.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gaussian import Smoothing
from .settings import BottleneckSettings

SMALLEST_NOISE = 1e-6
"""Floor of 1 - lambda: the logarithm of 0 is not a number of nats."""


def information(mask: Tensor, normalized: Tensor) -> Tensor:
    """KL divergence in nats per neuron, from lambda and R', of one shape."""
    noise = (1 - mask).clamp_min(SMALLEST_NOISE)
    variance = noise * noise
    return -0.5 * (1 + torch.log(variance) - (normalized * mask) ** 2 - variance)


def information_gradient(mask: Tensor, normalized: Tensor) -> Tensor:
    """d KL / d lambda; without the terms of 1 - lambda where that is at its floor."""
    noise = 1 - mask
    gradient = torch.where(noise > SMALLEST_NOISE, noise.clamp_min(SMALLEST_NOISE).reciprocal() - noise, 0.0)
    return gradient.addcmul_(mask, normalized.square())


class BottleneckMask:
    """Alpha and Adam's moments for n rows of activations (n, C, *cells); rows never meet."""

    def __init__(
        self,
        activation: Tensor,
        mean: Tensor,
        std: Tensor,
        active: Tensor,
        smoothing: Smoothing,
        settings: BottleneckSettings,
    ) -> None:
        self.activation = activation
        self.mean, self.std = mean, std
        self.active = None if bool(active.all()) else active
        self.smoothing, self.settings = smoothing, settings
        self.steps = 0
        self.bound: Tensor | None = None
        """Of the size of alpha, for each row (n, 1, ...); none where it is None."""
        self.alpha = torch.full_like(activation, settings.initial_alpha)
        self._first = torch.zeros_like(activation)
        self._second = torch.zeros_like(activation)
        self._sigmoid = self._mask = activation
        self.refresh()

    def refresh(self) -> None:
        self._sigmoid = torch.sigmoid(self.alpha)
        self._mask = self.smoothing(self._sigmoid)

    @property
    def _normalized(self) -> Tensor:
        return (self.activation - self.mean).div_(self.std)

    def bits_per_cell(self) -> Tensor:
        """(n, *cells): information summed over channels."""
        nats = information(self._mask, self._normalized)
        return self._of_active(nats).sum(1).div_(math.log(2))

    def noisy_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of Z given R."""
        keeps = self.settings.direction == "keep"
        location = (self.activation - self.mean).mul_(self._mask if keeps else 1 - self._mask).add_(self.mean)
        spread = (1 - self._mask if keeps else self._mask) * self.std
        return self._of_active(location), self._of_active(spread)

    def step(self, location_gradient: Tensor, spread_gradient: Tensor) -> None:
        """One step of Adam, given the gradients of the model's loss for ``noisy_moments``.

        The loss of a row is the model's plus beta times the mean information per neuron.
        """
        gradient = location_gradient.mul(self.activation - self.mean).addcmul_(spread_gradient, self.std, value=-1)
        if self.settings.direction == "destroy":
            gradient.neg_()
        neurons = self.activation[0].numel()
        gradient.add_(
            information_gradient(self._mask, self._normalized), alpha=self.settings.information_weight / neurons
        )
        gradient = self.smoothing.adjoint(self._of_active(gradient))
        gradient = gradient * self._sigmoid * (1 - self._sigmoid)
        self._adam(gradient)
        self.refresh()

    def _adam(self, gradient: Tensor) -> None:
        self.steps += 1
        first_decay, second_decay = self.settings.decays
        self._first.lerp_(gradient, 1 - first_decay)
        self._second.mul_(second_decay).addcmul_(gradient, gradient, value=1 - second_decay)
        root = (self._second / (1 - second_decay**self.steps)).sqrt_().add_(1e-8)
        rate = self.settings.rate_at(self.steps) / (1 - first_decay**self.steps)
        self.alpha.addcdiv_(self._first, root, value=-rate)
        if self.bound is not None:
            self.alpha.clamp_(-self.bound, self.bound)

    def forget(self, rows: Tensor) -> None:
        """Let Adam begin again in some rows (n,) bool: large gradients of before would hold small ones back."""
        kept = (~rows).to(self.alpha).reshape(-1, *[1] * (self.alpha.ndim - 1))
        self._first.mul_(kept)
        self._second.mul_(kept)

    def keep_rows(self, kept: Tensor) -> None:
        """Go on with some of the rows alone."""
        for name in ("activation", "alpha", "_first", "_second", "_sigmoid", "_mask", "bound"):
            if getattr(self, name) is not None:
                setattr(self, name, getattr(self, name).index_select(0, kept))

    def _of_active(self, values: Tensor) -> Tensor:
        return values if self.active is None else values * self.active
