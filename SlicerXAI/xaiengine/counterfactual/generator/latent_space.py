"""The latent space of a generator: images to flat latents and back, sampling, and its measured spread."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from .encoder import Encoder
from .generator import Generator

_BATCH = 32
_MAPPED = 10_000
_WHOLE, _FACTORS = 512, 128


@dataclass(frozen=True, eq=False)
class LatentStatistics:
    """Mean (D,) and covariance F Fᵀ + diag(residual) of latents in use: ``factors`` F (D, k), ``residual`` (D,)."""

    mean: torch.Tensor
    factors: torch.Tensor
    residual: torch.Tensor

    @classmethod
    def of(cls, latents: torch.Tensor) -> LatentStatistics:
        """From latents (n, D). Up to 512 latents keep their whole covariance, more of them its 128 leading factors.

        The variance of each latent is kept in any case, and is at least a ten-thousandth of the mean variance.
        """
        mean = latents.double().mean(0)
        centered = latents.double() - mean
        covariance = centered.T @ centered / max(1, len(latents) - 1)
        dimension = len(covariance)
        rank = dimension if dimension <= _WHOLE else _FACTORS
        values, vectors = torch.linalg.eigh(covariance)
        factors = vectors[:, -rank:] * values[-rank:].clamp(min=0).sqrt()
        least = 1e-4 * covariance.diagonal().mean() + 1e-12
        residual = (covariance.diagonal() - factors.square().sum(1)).clamp(min=least)
        return cls(mean.float(), factors.float(), residual.float())

    @cached_property
    def covariance_root(self) -> torch.Tensor:
        """R (D, D), lower triangular, with R Rᵀ the covariance."""
        factors = self.factors.double()
        root = torch.linalg.cholesky(factors @ factors.T + self.residual.double().diag())
        return root.float()

    def to(self, device: torch.device) -> LatentStatistics:
        return LatentStatistics(self.mean.to(device), self.factors.to(device), self.residual.to(device))


class LatentSpace:
    """Flat latents (n, D) of a generator: style w, then the flattened spatial code, if it has one.

    Without an encoder latents are sampled through the mapping network; with one, from a normal distribution of the
    mean and covariance of encoded training images. Everything runs without gradients except :meth:`decode` and
    :meth:`decode_plus`, which are differentiable in their latents.
    """

    def __init__(
        self, generator: Generator, encoder: Encoder | None = None, statistics: LatentStatistics | None = None
    ) -> None:
        self.generator = generator.eval().requires_grad_(False)
        self.encoder = encoder.eval().requires_grad_(False) if encoder is not None else None
        self.settings = generator.settings
        self.statistics = statistics if statistics is not None else self._mapped_statistics()

    @property
    def dimension(self) -> int:
        """D: length of a flat latent."""
        channels, height, width = self.settings.code_shape
        return self.settings.latent_size + channels * height * width

    @property
    def device(self) -> torch.device:
        return self.generator.constant.device

    @property
    def mean(self) -> torch.Tensor:
        """Mean latent (D,)."""
        return self.statistics.mean

    @property
    def covariance_root(self) -> torch.Tensor:
        """R (D, D) with R Rᵀ the covariance of latents in use."""
        return self.statistics.covariance_root

    @property
    def std(self) -> torch.Tensor:
        """Standard deviation of each latent (D,)."""
        return (self.statistics.factors.square().sum(1) + self.statistics.residual).sqrt()

    def to(self, device: torch.device) -> LatentSpace:
        """The same space with its networks on a device."""
        self.generator.to(device)
        if self.encoder is not None:
            self.encoder.to(device)
        self.statistics = self.statistics.to(device)
        return self

    @torch.no_grad()
    def sample(self, count: int, seed: int = 0) -> torch.Tensor:
        """Latents (count, D), the same for the same seed on every device."""
        random = torch.Generator().manual_seed(seed)
        if self.encoder is None and self.settings.mapping_layers and not self.settings.code_channels:
            z = torch.randn(count, self.settings.latent_size, generator=random)
            return self.generator.mapping(z.to(self.device))
        drawn = torch.randn(count, self.dimension, generator=random).to(self.device)
        return self.mean + drawn @ self.covariance_root.T

    @torch.no_grad()
    def _mapped_statistics(self) -> LatentStatistics:
        if self.settings.code_channels:  # nothing is known about codes that no encoder has made
            zero = torch.zeros(self.dimension)
            return LatentStatistics(zero, torch.zeros(self.dimension, 1), torch.ones(self.dimension)).to(self.device)
        z = torch.randn(_MAPPED, self.settings.latent_size, generator=torch.Generator().manual_seed(0))
        return LatentStatistics.of(self.generator.mapping(z.to(self.device)).cpu()).to(self.device)

    def split(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Style w (n, latent_size) and code (n, c, s, s), or None without one."""
        size = self.settings.latent_size
        if not self.settings.code_channels:
            return latents, None
        return latents[:, :size], latents[:, size:].reshape(-1, *self.settings.code_shape)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images (n, C, S, S) of latents (n, D), nominally in [-1, 1]."""
        return torch.cat([self._decode(part) for part in latents.split(_BATCH)])

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        w, code = self.split(latents)
        return self.generator.synthesis(w, code)

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latents (n, D) of images (n, C, S, S) in the generator's range; the mean latent without an encoder."""
        if self.encoder is None:
            return self.mean.expand(len(images), -1).clone()
        return torch.cat([self.encoder(part) for part in images.split(_BATCH)])

    def expand(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """W+ (n, layers, latent_size) and code (n, c, s, s): what :meth:`decode_plus` takes, free to be refined."""
        w, code = self.split(latents)
        return self.generator.extended(w).clone(), None if code is None else code.clone()

    def decode_plus(self, w_plus: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        """Images (n, C, S, S) of W+ (n, layers, latent_size) and codes."""
        return self.generator.synthesis(w_plus, code)
