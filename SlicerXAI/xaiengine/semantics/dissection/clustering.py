"""Concepts without masks: units that respond to the same places, found by factorisation or clustering, unnamed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...core.errors import InputError

ClusterMethod = Literal["factorisation", "kmeans"]
MOST_PLACES = 8192
ITERATIONS = 200
SMALLEST_PART = 1e-6


def sampled_places(activations: Iterable[Tensor], count: int, seed: int) -> Tensor:
    """A matrix (U, places) of activations (U, cells...) of ``count`` samples at random cells, at most 8192 in all."""
    generator = torch.Generator().manual_seed(seed)
    each = max(1, MOST_PLACES // max(1, count))
    parts = []
    for activation in activations:
        flat = activation.flatten(1)
        chosen = torch.randperm(flat.shape[1], generator=generator)[:each]
        parts.append(flat[:, chosen])
    return torch.cat(parts, dim=1)


def cluster_units(
    places: Tensor, clusters: int, method: ClusterMethod = "factorisation", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The cluster (U,) of each unit, -1 for silent ones, and how much it belongs to each, (U, clusters), sums 1.

    ``places`` (U, M): activations at M places. Each unit is measured from its lowest value and scaled to a mean square
    of 1, so that loud units do not outweigh others.

    - factorisation: non-negative V ≈ W H (Lee and Seung 2001), a unit belongs where its row of W is largest;
    - kmeans: Lloyd's algorithm on the units' profiles over places, from k-means++ seeds, by cosine.

    Raises InputError when there are fewer responding units than clusters.
    """
    lifted = (places - places.amin(1, keepdim=True)).double()
    scale = lifted.square().mean(1, keepdim=True).sqrt()
    responding = (scale[:, 0] > SMALLEST_PART * float(scale.max())).nonzero().flatten()
    if len(responding) < clusters:
        raise InputError(
            f"Only {len(responding)} units respond; {clusters} clusters of them were asked for.",
            "Ask for fewer clusters, or choose another layer.",
        )
    profiles = lifted[responding] / scale[responding]
    generator = torch.Generator().manual_seed(seed)
    belongs = (_factorised if method == "factorisation" else _k_means)(profiles, clusters, generator)
    share = np.zeros((len(places), clusters))
    share[responding.numpy()] = belongs.numpy()
    label = np.where(share.sum(1) > 0, share.argmax(1), -1)
    return _largest_first(label, share)


def _factorised(profiles: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    units, places = profiles.shape
    level = float(profiles.mean() / clusters) ** 0.5
    left = torch.rand(units, clusters, generator=generator, dtype=torch.float64) * level + 1e-3 * level
    right = torch.rand(clusters, places, generator=generator, dtype=torch.float64) * level + 1e-3 * level
    for _ in range(ITERATIONS):
        right *= (left.t() @ profiles) / (left.t() @ left @ right).clamp_min(1e-30)
        left *= (profiles @ right.t()) / (left @ (right @ right.t())).clamp_min(1e-30)
    weights = left * right.square().mean(1).sqrt()
    return weights / weights.sum(1, keepdim=True).clamp_min(1e-30)


def _k_means(profiles: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    directions = profiles - profiles.mean(1, keepdim=True)
    directions = directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-30)
    centers = directions[torch.randint(len(directions), (1,), generator=generator)]
    while len(centers) < clusters:
        distance = (1 - (directions @ centers.t()).amax(1)).clamp_min(1e-12)
        chosen = torch.multinomial(distance.square(), 1, generator=generator)
        centers = torch.cat([centers, directions[chosen]])
    for _ in range(ITERATIONS):
        label = (directions @ centers.t()).argmax(1)
        moved = torch.zeros_like(centers).index_add_(0, label, directions)
        norm = moved.norm(dim=1, keepdim=True)
        moved = torch.where(norm > 0, moved / norm.clamp_min(1e-30), centers)
        if torch.allclose(moved, centers):
            break
        centers = moved
    return torch.nn.functional.one_hot((directions @ centers.t()).argmax(1), clusters).double()


def _largest_first(label: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clusters numbered by the number of their units."""
    sizes = np.bincount(label[label >= 0], minlength=share.shape[1])
    order = np.argsort(-sizes, kind="stable")
    rank = np.argsort(order)
    return np.where(label >= 0, rank[label], -1), share[:, order]


def pattern_names(clusters: int) -> tuple[str, ...]:
    return tuple(f"pattern {number + 1}" for number in range(clusters))
