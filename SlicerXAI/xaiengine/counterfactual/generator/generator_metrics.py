"""How close made images come to real ones: Fréchet distance, precision and recall, on features of a network.

No network is downloaded: the features are those of the explained model, or of a small fixed network of random weights.
Distances on different features cannot be compared with each other, nor with published ones on Inception.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import linalg
from torch import nn

Features = Callable[[torch.Tensor], torch.Tensor]
"""Images (n, C, S, S) in [-1, 1] to features (n, F)."""

NEIGHBOURS = 3
_BATCH = 64


@dataclass(frozen=True)
class Likeness:
    """Fréchet distance; precision: share of made images that look real; recall: share of real ones covered."""

    frechet: float
    precision: float
    recall: float


class RandomFeatures:
    """Features of a fixed network of random weights: means and deviations of its four layers, for any size."""

    name = "fixed random network"

    def __init__(self, channels: int, seed: int = 0) -> None:
        random = torch.Generator().manual_seed(seed)
        self.layers = []
        for before, after in ((channels, 16), (16, 32), (32, 64), (64, 64)):
            layer = nn.Conv2d(before, after, 3, 2, 1)
            bound = (2 / (9 * before)) ** 0.5
            with torch.no_grad():
                layer.weight.copy_(bound * torch.randn(layer.weight.shape, generator=random))
                layer.bias.copy_(0.1 * torch.randn(after, generator=random))
            self.layers.append(layer.requires_grad_(False))

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        values, found = images.detach().cpu().float(), []
        for layer in self.layers:
            values = nn.functional.leaky_relu(layer(values), 0.2)
            found += [values.mean((2, 3)), values.std((2, 3))]
        return torch.cat(found[-4:], 1)


class LayerFeatures:
    """Features of one layer of a network, averaged over its positions; ``run`` sends images through the network."""

    def __init__(self, run: Callable[[torch.Tensor], object], layer: nn.Module, name: str) -> None:
        self.run, self.layer, self.name = run, layer, name

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        found: list[torch.Tensor] = []
        hook = self.layer.register_forward_hook(lambda module, inputs, output: found.append(output))
        try:
            self.run(images)
        finally:
            hook.remove()
        values = torch.cat(found)
        return (values.flatten(2).mean(2) if values.ndim > 2 else values).cpu().float()


def likeness(features: Features, real: torch.Tensor, made: torch.Tensor) -> Likeness:
    """Of made images to real ones, each (n, C, S, S)."""
    real_features, made_features = (
        torch.cat([features(part) for part in images.split(_BATCH)]) for images in (real, made)
    )
    precision, recall = precision_recall(real_features, made_features)
    return Likeness(frechet_distance(real_features, made_features), precision, recall)


def frechet_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Between normal distributions fitted to features (n, F) and (m, F) (Heusel et al. 2017).

    |μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½); the trace of the root is taken from the eigenvalues of Σ1 Σ2.
    """
    a, b = (values.double().numpy() for values in (first, second))
    covariances = [np.atleast_2d(np.cov(values, rowvar=False)) for values in (a, b)]
    eigenvalues = linalg.eigvals(covariances[0] @ covariances[1])
    root_trace = np.sqrt(np.clip(eigenvalues.real, 0, None)).sum()
    distance = np.square(a.mean(0) - b.mean(0)).sum() + sum(np.trace(c) for c in covariances) - 2 * root_trace
    return float(max(distance, 0.0))


def precision_recall(real: torch.Tensor, made: torch.Tensor, neighbors: int = NEIGHBOURS) -> tuple[float, float]:
    """Improved precision and recall of features (n, F) and (m, F) (Kynkäänniemi et al. 2019).

    An image is covered if it lies within the distance of any image of the other set to its k-th neighbor there.
    """
    return _covered(made, real, neighbors), _covered(real, made, neighbors)


def _covered(points: torch.Tensor, manifold: torch.Tensor, neighbors: int) -> float:
    k = min(neighbors, len(manifold) - 1)
    radii = torch.cdist(manifold, manifold).kthvalue(k + 1, dim=1).values
    inside = torch.cdist(points, manifold) <= radii
    return float(inside.any(1).float().mean())
