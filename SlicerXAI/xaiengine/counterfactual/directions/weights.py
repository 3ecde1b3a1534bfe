"""Directions from the generator's weights alone: EigenFind/SeFa (Shen and Zhou 2021, arXiv 2007.06600).

The right singular vectors of the style layers' weights are the moves of w that change the styles most. They
know nothing of the explained model; which of them moves its answer is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ..generator.latent_geometry import LatentGeometry
    from ..generator.latent_space import LatentSpace


def weight_directions(space: LatentSpace, count: int) -> torch.Tensor:
    """The ``count`` moves (count, D) of w that change the styles most; the spatial code stays."""
    generator = space.generator
    modules = [generator.style_module(kind, number) for kind, number, _ in generator.style_layers()]
    weights = torch.cat([module.style.weight * module.style.scale for module in modules])
    _, _, axes = torch.linalg.svd(weights, full_matrices=False)
    found = torch.zeros(min(count, len(axes)), space.dimension, device=weights.device)
    found[:, : axes.shape[1]] = axes[: len(found)]
    return found


def most_related(
    geometry: LatentGeometry, candidates: torch.Tensor, latents: torch.Tensor, values: torch.Tensor, count: int
) -> torch.Tensor:
    """The ``count`` candidates (of m, D) whose scores correlate most with the answers, turned to rise with them."""
    units = torch.stack([geometry.unit(candidate) for candidate in candidates])
    scores = torch.stack([geometry.score(unit, latents) for unit in units])
    centered = scores - scores.mean(1, keepdim=True)
    values = values - values.mean()
    correlation = centered @ values / (centered.norm(dim=1) * values.norm()).clamp_min(1e-12)
    order = correlation.abs().argsort(descending=True)[:count]
    return units[order] * torch.where(correlation[order] < 0, -1.0, 1.0)[:, None]
