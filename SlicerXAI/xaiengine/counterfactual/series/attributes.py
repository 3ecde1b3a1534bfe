"""Several independent attributes that move one prediction, kept orthogonal: along one, the others' scores rest."""

from __future__ import annotations

import torch

from ..generator.latent_geometry import LatentGeometry, orthogonal

SLICES = 10


def sliced_inverse_regression(latents: torch.Tensor, values: torch.Tensor, count: int) -> torch.Tensor:
    """Directions (count, D) along which the mean latent moves as the prediction rises (Li 1991, JASA 86:316).

    Samples are ordered by prediction (n,) and cut into slices; the leading axes of the slices' mean latents are
    the directions, found with every latent in units of its own SD. (The published form whitens first, which
    drowns the means in the noise of hundreds of latents.) The model stays a black box. Each points to higher
    predictions.
    """
    spread = latents.std(0).clamp_min(1e-12)
    scaled = (latents - latents.mean(0)) / spread
    order = values.argsort()
    slices = max(count + 1, min(SLICES, len(order) // 2))
    means = torch.stack([scaled[part].mean(0) for part in order.tensor_split(slices)])
    _, _, axes = torch.linalg.svd(means - means.mean(0), full_matrices=False)
    centered = (values - values.mean()).to(scaled)
    rising = torch.where((scaled @ axes[:count].T).T @ centered < 0, -1.0, 1.0)
    return axes[:count] * rising[:, None] * spread


def active_subspace(geometry: LatentGeometry, gradients: torch.Tensor, count: int) -> torch.Tensor:
    """Directions (count, D) along which the prediction changes most over the sampled gradients (n, D).

    The leading eigenvectors of their mean outer product, in whitened coordinates (Constantine 2014). Each
    points to where the prediction rises on the whole.
    """
    white = gradients @ geometry.root
    _, _, axes = torch.linalg.svd(white, full_matrices=False)
    sign = torch.where((white @ axes[:count].T).mean(0) < 0, -1.0, 1.0)
    return (axes[:count] * sign[:, None]) @ geometry.root.T


def attributes(geometry: LatentGeometry, first: torch.Tensor, candidates: torch.Tensor, count: int) -> torch.Tensor:
    """``count`` directions (count, D): ``first`` and the best of the candidates (m, D) that do not repeat it."""
    chosen = [first]
    for candidate in candidates:
        if len(chosen) == count:
            break
        basis = orthogonal(geometry, torch.stack([*chosen, candidate]))
        if float(geometry.inner(geometry.unit(candidate), basis[-1]).abs()) > 0.1:
            chosen.append(basis[-1])
    return orthogonal(geometry, torch.stack(chosen))
