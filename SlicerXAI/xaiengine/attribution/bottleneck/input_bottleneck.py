"""InputIBA: the bottleneck carried from a layer back to the input, so that the map is as sharp as the image.

Zhang et al., NeurIPS 2021. A bottleneck at a layer gives the features Z* that suffice for the prediction. An input
mask λ_G is fitted so that the noisy image Z_G = λ_G x + (1-λ_G) ε gives features like Z*. The input bottleneck
Z_I = Λ x + (1-Λ) ε then pays for information beyond Λ Z_G + (1-Λ) ε, the divergence of two Gaussians: what the
layer's bottleneck lets through anyway is cheap.

Two things differ from the paper. Features are matched by their means and SDs over the noise, not by an adversarial
critic: nothing has to be trained, and the same seed gives the same map. And the map that is shown counts bits over
pure noise, as at any layer, so that the price of the prior does not darken the very voxels that it favours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ...network.layers import evaluation_mode, find_layer, frozen_parameters
from ..baselines import gaussian_blur
from ..feature_maps import recorded
from ..forward import Attribution
from .information import InformationRequest, information

EPSILON = 1e-4


@dataclass(frozen=True)
class InputBottleneckSettings:
    """``prior_steps`` fit λ_G, ``steps`` the input mask; ``copies`` noisy images per step. Smoothing in voxels."""

    prior_steps: int = 20
    steps: int = 40
    copies: int = 4
    beta: float = 5.0
    learning_rate: float = 0.5
    sigma: float = 1.0
    seed: int = 0


def input_information(
    request: InformationRequest,
    layer: str,
    inputs: torch.Tensor,
    settings: InputBottleneckSettings = InputBottleneckSettings(),
) -> Attribution:
    """Bits per voxel (N, 1, spatial...) at input resolution.

    Each sample is fitted by itself. ``convergence`` holds the model's loss with the final mask and without a mask.
    """
    feature_map = information(request, layer, inputs).map
    maps, losses, plain = [], [], []
    with evaluation_mode(request.network), frozen_parameters(request.network):
        for sample in range(len(inputs)):
            fit = _InputFit(request, layer, inputs[sample : sample + 1], settings)
            prior = fit.prior(feature_map[sample : sample + 1])
            bits, loss = fit.mask(prior, sample / len(inputs), 1 / len(inputs))
            maps.append(bits)
            losses.append(loss)
            plain.append(fit.plain_loss)
    return Attribution(
        torch.cat(maps),
        unit="bits/voxel",
        convergence={
            "total_bits": float(torch.cat(maps).flatten(1).sum(1).mean()),
            "loss": sum(losses) / len(losses),
            "loss_without_mask": sum(plain) / len(plain),
        },
    )


class _InputFit:
    def __init__(
        self, request: InformationRequest, layer: str, image: torch.Tensor, settings: InputBottleneckSettings
    ) -> None:
        self.request, self.image, self.settings = request, image, settings
        self.layer_name = layer
        self.layer = find_layer(request.network, layer)
        self.mean = image.mean()
        self.spread = image.std().clamp_min(1e-6)
        self.generator = torch.Generator(device=image.device).manual_seed(settings.seed)
        with torch.no_grad():
            output = request.select_output(request.network(image))
        self.objective = request.objective_for(output)
        rows = torch.zeros(1, dtype=torch.long, device=image.device)
        self.plain_loss = float(self.objective(output, rows)[0])

    def noisy(self, mask: torch.Tensor) -> torch.Tensor:
        """Antithetic noisy images (copies, C, spatial...) of a mask (1, 1, spatial...)."""
        half = self.settings.copies // 2
        drawn = torch.randn((half, *self.image.shape[1:]), generator=self.generator, device=self.image.device)
        noise = self.mean + self.spread * torch.cat([drawn, -drawn])
        return mask * self.image + (1 - mask) * noise

    def smooth(self, logits: torch.Tensor) -> torch.Tensor:
        mask = gaussian_blur(logits.sigmoid(), [self.settings.sigma] * (self.image.ndim - 2))
        return mask.clamp(EPSILON, 1 - EPSILON)

    def prior(self, feature_bits: torch.Tensor) -> torch.Tensor:
        """λ_G (1, 1, spatial...): the image mask whose noisy features are like those of the layer's bottleneck."""
        wanted_mean, wanted_spread = self._wanted_features(feature_bits)
        scale = wanted_mean.std().clamp_min(1e-6)
        logits = torch.full((1, 1, *self.image.shape[2:]), 2.0, device=self.image.device, requires_grad=True)
        optimiser = torch.optim.Adam([logits], lr=self.settings.learning_rate)
        for _ in range(self.settings.prior_steps):
            optimiser.zero_grad()
            features = self._features(self.noisy(self.smooth(logits)))
            error = ((features.mean(0) - wanted_mean) / scale).square().mean()
            error = error + ((features.std(0) - wanted_spread) / scale).square().mean()
            error.backward()
            optimiser.step()
        return self.smooth(logits).detach()

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        with recorded({self.layer_name: self.layer}) as activations:
            self.request.network(images)
        return activations[self.layer_name].float()

    @torch.no_grad()
    def _wanted_features(self, feature_bits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and SD of Z*: the layer's features where its bits are, its reference statistics elsewhere."""
        features = self._features(self.image)[0]
        statistics = self.request.statistics(self.layer_name)
        mean, spread, _ = statistics.broadcast(tuple(features.shape), features.device)
        cells = _POOLS[features.ndim - 1]
        level = cells(feature_bits, features.shape[1:])[0]
        keep = (level / level.amax().clamp_min(1e-30)).sqrt().clamp(0, 1)
        return keep * features + (1 - keep) * mean, ((1 - keep) * spread).expand_as(features)

    def mask(self, prior: torch.Tensor, start: float, share: float) -> tuple[torch.Tensor, float]:
        """Bits (1, 1, spatial...) of the optimal input mask over the prior, and the model's loss with it."""
        settings = self.settings
        scaled = (self.image - self.mean) / self.spread
        logits = torch.full_like(prior, 5.0).requires_grad_()
        optimiser = torch.optim.Adam([logits], lr=1.0)
        rows = torch.zeros(settings.copies, dtype=torch.long, device=self.image.device)
        loss = math.nan
        for step in range(settings.steps):
            optimiser.zero_grad()
            mask = self.smooth(logits)
            output = self.request.select_output(self.request.network(self.noisy(mask)))
            kept = self.objective(output, rows).mean()
            information = self._information(mask, prior, scaled)
            (kept + settings.beta * information.mean()).backward()
            optimiser.step()
            loss = float(kept.detach())
            self.request.report(start + share * (step + 1) / settings.steps)
        with torch.no_grad():
            nats = self._information(self.smooth(logits), torch.zeros_like(prior), scaled)
        return nats.sum(1, keepdim=True) / math.log(2), loss

    @staticmethod
    def _information(mask: torch.Tensor, prior: torch.Tensor, scaled: torch.Tensor) -> torch.Tensor:
        """KL of N(Λx, (1-Λ)²) from N(Λ λ_G x, (1-Λ λ_G)²), in nats per value, (1, C, spatial...)."""
        spread = 1 - mask * prior
        ratio = (1 - mask) / spread
        moved = (scaled * mask * (1 - prior) / spread).square()
        return 0.5 * (ratio.square() + moved - 1) - ratio.log()


_POOLS = {
    1: torch.nn.functional.adaptive_avg_pool1d,
    2: torch.nn.functional.adaptive_avg_pool2d,
    3: torch.nn.functional.adaptive_avg_pool3d,
}
