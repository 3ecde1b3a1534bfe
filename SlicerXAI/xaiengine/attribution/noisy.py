"""SmoothGrad, its squares and its variance, from the same noisy copies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .case import Case, joined
from .forward import Attribution
from .gradient import smooth_gradient


def noisy_gradients(case: Case, settings: Any, kind: str) -> Attribution:
    """The mean (smoothgrad), mean square or variance (vargrad) of the gradient over noisy copies.

    The copies are run once, whichever of the three is asked for first.
    """
    key = ("noisy gradients", settings.samples, settings.noise)
    if key not in case.memory:
        case.memory[key] = joined(
            [
                smooth_gradient(
                    piece.forward,
                    piece.inputs,
                    samples=settings.samples,
                    noise=settings.noise,
                    seed=case.seed,
                    batch_size=piece.batch_size,
                )
                for piece in case.pieces()
            ]
        )
    shared: Attribution = case.memory[key]
    mean, variance, count = shared.map, shared.extras["variance"], settings.samples
    squares = variance * (count - 1) / count + mean.square()
    chosen = {"smoothgrad": mean, "smoothgrad_squared": squares, "vargrad": variance}[kind]
    return replace(shared, map=chosen, unit=shared.unit if kind == "smoothgrad" else "squared change per input unit")
