"""How well a direction does on latents that it was not found on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import rankdata

from ...core.progress import Progress
from ...core.similarity import spearman
from ..series.span import usual_shifts

if TYPE_CHECKING:
    from ..explained_images import ImageAnswer
    from ..generator.latent_geometry import LatentGeometry
    from ..generator.latent_sample import LatentSample
    from ..generator.latent_space import LatentSpace
    from .directions import Direction

BATCH = 64
SHIFTS = (1 / 6, 1 / 3, 2 / 3, 1.0)
"""Parts of the reach, on either side, at which shifted latents are looked at."""


def score_direction(
    direction: Direction,
    space: LatentSpace,
    answer: ImageAnswer,
    geometry: LatentGeometry,
    held_out: LatentSample,
    *,
    images: int,
    reach: float,
    values_range: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Figures of one direction.

    ``pair_accuracy``: of two latents that share their spatial code, how often the surrogate tells which gets
    the higher answer. ``auc`` (classes) or ``r2``: of the linear surrogate, on all held-out latents; not to be
    had for styles. ``flip_rate``, ``up``, ``down``: of ``images`` held-out latents, the part whose answer
    passes the decision within ``reach`` SDs in the direction that it has to go; regressions without a decision
    must pass the sample's median. ``spearman``: mean rank correlation of shift and answer, of all shifts or, where
    ``values_range`` bounds the usual answers, of those at which the surrogate expects one of them.
    """
    turning = answer.answer.turning_point
    turning = float(held_out.values.median()) if turning is None else turning
    figures: dict[str, Any] = {}
    if direction.space == "latent":
        leading = direction.leading or geometry.dimension
        part, vector = geometry.moving(leading), direction.vector[:leading]
        scores = part.score(vector, held_out.latents[:, :leading])
        if held_out.paired:
            latents, values = held_out.centered()
            agrees = (part.score(vector, part.mean + latents[:, :leading]) > 0) == (values > 0)
            figures["pair_accuracy"] = float(agrees.float().mean())
        if answer.answer.is_class:
            figures["auc"] = area_under_curve(scores.cpu().numpy(), (held_out.values > turning).cpu().numpy())
        expected = direction.intercept + direction.slope * scores
        left = (held_out.values - expected).square().sum()
        figures["r2"] = 1 - float(left / (held_out.values - held_out.values.mean()).square().sum().clamp_min(1e-12))
    shifts = torch.tensor([-part for part in reversed(SHIFTS)] + list(SHIFTS)) * reach
    start, latents = held_out.values[:images], held_out.latents[:images]
    moved = _shifted(direction, space, answer, latents, shifts, progress)
    rises = start <= turning
    passed = torch.where(rises, (moved > turning).any(1), (moved <= turning).any(1))
    with_start = torch.cat([moved[:, : len(SHIFTS)], start[:, None], moved[:, len(SHIFTS) :]], 1).cpu().numpy()
    places = np.array([*shifts[: len(SHIFTS)].tolist(), 0.0, *shifts[len(SHIFTS) :].tolist()])
    ranks = [_steadiness(places, row, direction.slope, values_range) for row in with_start]
    figures |= {
        "flip_rate": float(passed.float().mean()),
        "up": _part(passed, rises),
        "down": _part(passed, ~rises),
        "spearman": float(np.nanmean(ranks)) if np.isfinite(ranks).any() else None,
        "images": len(latents),
    }
    return figures


def _steadiness(shifts: np.ndarray, values: np.ndarray, slope: float, usual: tuple[float, float] | None) -> float:
    """Rank correlation of ascending shifts and answers (n,) within what is usual; NaN of fewer than three."""
    start = float(values[len(values) // 2])
    low, high = usual_shifts(start, slope, usual)
    inside = (shifts >= low - 1e-9) & (shifts <= high + 1e-9)
    return spearman(shifts[inside], values[inside]) if inside.sum() > 2 else float("nan")


def area_under_curve(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """Probability that a true case has the higher score, ties counted half; None with one class only."""
    positive = int(truth.sum())
    negative = len(truth) - positive
    if not positive or not negative:
        return None
    return float((rankdata(scores)[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _shifted(
    direction: Direction,
    space: LatentSpace,
    answer: ImageAnswer,
    latents: torch.Tensor,
    shifts: torch.Tensor,
    progress: Progress | None,
) -> torch.Tensor:
    """Answers (n, m) to latents (n, D) at shifts (m,); several latents share a batch."""
    values = []
    for part in latents.split(max(1, BATCH // len(shifts))):
        images = (
            [direction.path(space, latent).images(shifts) for latent in part]
            if direction.space == "style"
            else [space.decode((part[:, None] + shifts.to(part)[:, None] * direction.vector.to(part)).flatten(0, 1))]
        )
        values.append(answer(torch.cat(images)))
        if progress is not None:
            progress.advance(len(part) * len(shifts))
    return torch.cat(values).reshape(len(latents), len(shifts))


def _part(passed: torch.Tensor, among: torch.Tensor) -> float | None:
    return float(passed[among].float().mean()) if bool(among.any()) else None
