"""What directions and counterfactual series take, said before: one pass is measured, all are counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..core.console import duration
from ..core.device import used_memory
from ..core.tensor_memory import TensorMemory
from ..counterfactual.directions.directions import FinderSettings, resolved
from ..counterfactual.expected_work import (
    JUDGED,
    Work,
    fitting_operations,
    gradient_path_work,
    new_directions_work,
    refinement_work,
    series_work,
)
from ..counterfactual.generator.latent_sample import BATCH

if TYPE_CHECKING:
    from ..counterfactual.explained_images import ImageAnswer
    from ..counterfactual.generator.latent_space import LatentSpace
    from ..counterfactual.generator_context import Setting
    from .explain_counterfactual.options import ExplainCounterfactualOptions
    from .task import Context

ROWS = 4
"""Images in the batch that is measured."""
PRODUCT, NEGLIGIBLE = 512, 1e9
"""Rows of the matrix that is measured; operations that are not worth it."""
WORKSPACE = 1.5
"""Memory of a pass, beside what its tensors take, as a multiple of them."""
WRITING_SECONDS, SECONDS_PER_FRAME, SECONDS_PER_VOXEL = 0.8, 0.03, 5e-8
"""Measured on one core: tables and pictures of a series, each of its frames, and the two volumes."""
BYTES_PER_VOXEL = 20
"""Of the scan: the difference, the changed copy, and what lives while they are written."""


@dataclass(frozen=True)
class PassCost:
    """What generator and explained model take together.

    A batch of n images takes ``call`` + n ``row`` seconds, and ``back`` times as long where the gradient to the
    latents is asked for; at the peak ``held`` and ``held_back`` bytes for each image.
    """

    call: float
    row: float
    back: float
    held: float
    held_back: float

    def seconds(self, work: Work) -> float:
        return sum(
            batch.times * (self.call + self.row * batch.rows) * (self.back if batch.back else 1.0)
            for batch in work.batches
        )

    def memory(self, work: Work) -> int:
        """Bytes at the peak, beside what is held already. Larger batches than usual are worked off in parts."""
        ahead, back = min(work.largest, BATCH), work.largest_back
        return int(WORKSPACE * max(self.held * ahead, self.held_back * back))


def measure_cost(space: LatentSpace, answer: ImageAnswer, gradients: bool, image_seconds: float = 0.0) -> PassCost:
    """Measured on single images and on a few at once; ``image_seconds``: what an image takes, where that is known.

    The model has no part in gradients where it cannot be differentiated.
    """
    few = space.sample(ROWS, seed=0)

    def ahead(latents: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return answer(space.decode(latents))

    def back(latents: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            leaf = latents.detach().requires_grad_()
            images = space.decode(leaf)
            loss = images.abs().mean() + (answer(images).sum() if answer.differentiable else 0.0)
            return torch.autograd.grad(loss, leaf)[0]

    together, held = _measured(ahead, few)
    if image_seconds:
        row, call = image_seconds, max(0.0, together - ROWS * image_seconds)
    else:
        single, _ = _measured(ahead, few[:1])
        row = max(0.0, together - single) / (ROWS - 1)
        call = max(0.0, single - row)
    if not gradients:
        return PassCost(call, row, 1.0, held / ROWS, 0.0)
    rows = ROWS if image_seconds else 1
    both, held_back = _measured(back, few[:rows])
    return PassCost(call, row, both / (call + row * rows), held / ROWS, held_back / rows)


def fitting_seconds(operations: float) -> float:
    """For so many floating-point operations of linear algebra, from the time that a product of matrices takes."""
    if operations < NEGLIGIBLE:
        return 0.0
    matrix = torch.ones(PRODUCT, PRODUCT, dtype=torch.float64)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return operations / (2 * PRODUCT**3) * min(seconds)


def _measured(run: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor) -> tuple[float, int]:
    """Seconds of the second of two runs, and the bytes at the peak of the first."""
    held = _held(run, latents)
    start = time.perf_counter()
    float(run(latents).sum())  # on a GPU: wait until it is done
    return time.perf_counter() - start, held


def _held(run: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor) -> int:
    with TensorMemory() as memory:
        float(run(latents).sum())
    return memory.peak


def estimate_work(
    work: Work, cost: PassCost, answer: ImageAnswer, context: Context, seconds: float = 0.0, memory: int = 0
) -> None:
    """Say what the work takes; ``seconds`` and ``memory`` (bytes) come on top of the passes."""
    model = answer.predictor.model
    seconds += cost.seconds(work)
    memory += cost.memory(work) + used_memory(context.device)
    gradients = f", {work.gradients} of them with gradients" if work.gradients else ""
    context.expect(
        f"About {work.images} generated images are shown to {model.name}{gradients}: {duration(max(1.0, seconds))}, "
        f"at most {memory / 2**30:.1f} GB.",
        seconds,
        memory,
    )


def estimate_counterfactual(
    setting: Setting,
    answer: ImageAnswer,
    voxels: int,
    options: ExplainCounterfactualOptions,
    context: Context,
    missing: bool,
) -> None:
    """Say what directions (if they are ``missing``), reconstruction and series take, in a scan of so many voxels."""
    answered, seconds = answer.answer, _writing_seconds(options.frames, voxels)
    work = refinement_work(options.steps, options.refine, answer.differentiable) + series_work(
        frames=options.frames,
        reach=options.reach,
        has_decision=answered.turning_point is not None,
        wanted=options.wanted is not None,
    )
    if options.method == "local" and not options.directions:
        work += gradient_path_work(options.reach)
    if missing:
        searched = FinderSettings(leading=setting.moving(options.subspace))
        method = resolved(options.method, answered.is_class)
        work += new_directions_work([method], setting.space, searched, options.samples, JUDGED)
        seconds += fitting_seconds(fitting_operations([method], setting.space, searched, options.samples))
    cost = measure_cost(setting.space, answer, work.largest_back > 0)
    estimate_work(work, cost, answer, context, seconds, BYTES_PER_VOXEL * voxels)


def _writing_seconds(frames: int, voxels: int) -> float:
    """For tables, pictures and volumes of a series of so many frames, in a scan of so many voxels."""
    return WRITING_SECONDS + SECONDS_PER_FRAME * frames + SECONDS_PER_VOXEL * voxels
