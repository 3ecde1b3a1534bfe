"""Directions from gradients of the explained model through the generator, f(G(z))."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ...core.errors import ModelError
from ...core.progress import Progress
from ..generator.latent_geometry import LatentGeometry

if TYPE_CHECKING:
    from ..explained_images import ImageAnswer
    from ..generator.latent_space import LatentSpace

BATCH = 32


def answer_gradients(
    space: LatentSpace, answer: ImageAnswer, latents: torch.Tensor, progress: Progress | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients (n, D) of the moved answer with respect to latents (n, D), and the answers (n,).

    Raises:
        ModelError: the model cannot be differentiated.
    """
    require_gradients(answer, "The gradient of the answer")
    found, values = [], []
    for part in latents.split(BATCH):
        with torch.enable_grad():
            leaf = part.detach().requires_grad_()
            value = answer(space.decode(leaf))
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        found.append(gradient)
        values.append(value.detach())
        if progress is not None:
            progress.advance(len(part))
    return torch.cat(found), torch.cat(values)


def averaged_gradient_direction(geometry: LatentGeometry, gradients: torch.Tensor) -> torch.Tensor:
    """Σ ḡ (D,): the step of one SD along which f(G(z)) rises most on average over gradients (n, D).

    Each gradient counts by its direction alone, else the few latents next to the decision would make the mean.
    """
    lengths = geometry.length(geometry.steepest(gradients)).clamp_min(1e-12)
    return geometry.unit(geometry.steepest((gradients / lengths[:, None]).mean(0)))


def require_gradients(answer: ImageAnswer, what: str) -> None:
    """Raise ModelError when the model cannot be differentiated."""
    predictor = answer.predictor
    if predictor.differentiable:
        return
    predictor.model.capabilities.require("differentiable", what)
    raise ModelError(
        f"{what} is not to be had: the preprocessing of {predictor.model.name} cannot be differentiated.",
        "Use the methods covariance, logistic, ridge or style, for which the model is a black box.",
    )
