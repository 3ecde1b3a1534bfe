"""Directions from samples of latents and predictions alone: the explained model stays a black box.

Linear models w -> f(G(w)) as in Schutte et al. 2021 (arXiv 2101.07563). Their coefficients b are read-outs, not
directions: plain ridge coefficients point where latents hardly vary, because there a small step tells much, and
a step of natural size along them changes next to nothing in the image. What changes with the prediction is the
pattern Σ b (Haufe et al. 2014, doi 10.1016/j.neuroimage.2013.10.067). Here every model is fitted in whitened
coordinates u, and the direction is L u = Σ b.
"""

from __future__ import annotations

import torch

from ..generator.latent_geometry import LatentGeometry

RIDGE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
FOLDS = 5
LOGISTIC_PENALTY = 1e-2
NEWTON_STEPS = 30


def covariance_direction(geometry: LatentGeometry, centered: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Cov(z, f) (D,) of centered latents (n, D) and answers (n,): what goes with the answer."""
    return geometry.unit(centered.T @ values.to(centered) / len(centered))


def ridge_direction(geometry: LatentGeometry, centered: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Σ b (D,) of ridge regression of centered answers on centered latents; the penalty by cross-validation."""
    white, values = geometry.whiten(geometry.mean + centered), values.to(centered)
    errors = [_validation_error(white, values, penalty) for penalty in RIDGE_PENALTIES]
    best = RIDGE_PENALTIES[min(range(len(errors)), key=errors.__getitem__)]
    return geometry.unit(ridge_coefficients(white, values, best) @ geometry.root.T)


def logistic_direction(geometry: LatentGeometry, centered: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
    """Σ b (D,) of logistic regression of ``above`` (n,) bool on centered latents (n, D), by Newton's method."""
    white = geometry.whiten(geometry.mean + centered).double()
    truth = above.to(white)
    inputs = torch.cat([white, torch.ones_like(white[:, :1])], 1)
    penalty = torch.full((inputs.shape[1],), LOGISTIC_PENALTY, dtype=inputs.dtype, device=inputs.device)
    penalty[-1] = 0.0
    weights = torch.zeros_like(penalty)
    for _ in range(NEWTON_STEPS):
        probability = (inputs @ weights).sigmoid()
        gradient = inputs.T @ (probability - truth) / len(inputs) + penalty * weights
        curvature = (probability * (1 - probability)).clamp_min(1e-6)
        hessian = (inputs * curvature[:, None]).T @ inputs / len(inputs) + torch.diag(penalty + 1e-9)
        step = torch.linalg.solve(hessian, gradient)
        weights = weights - step
        if float(step.abs().max()) < 1e-7:
            break
    return geometry.unit(weights[:-1].to(centered) @ geometry.root.T)


def ridge_coefficients(inputs: torch.Tensor, values: torch.Tensor, penalty: float) -> torch.Tensor:
    """(XᵀX + penalty n 1)⁻¹ Xᵀ y (D,), for centered inputs (n, D) and values (n,)."""
    gram = inputs.T @ inputs
    gram.diagonal().add_(penalty * len(inputs))
    return torch.linalg.solve(gram, inputs.T @ values)


def _validation_error(inputs: torch.Tensor, values: torch.Tensor, penalty: float) -> float:
    fold = torch.arange(len(inputs), device=inputs.device) % FOLDS
    total = 0.0
    for number in range(FOLDS):
        kept, left = fold != number, fold == number
        weights = ridge_coefficients(inputs[kept], values[kept], penalty)
        total += float((inputs[left] @ weights - values[left]).square().sum())
    return total / len(inputs)
