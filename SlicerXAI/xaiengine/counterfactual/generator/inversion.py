"""The latent of a real image: the encoder's, then refined so that image and prediction both come back.

A reconstruction of which the explained model says something else does not explain what the model says of the
image. So the loss holds the model's answer beside the pixels (where the model can be differentiated), and the
gap that is left is always reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from ...core.errors import OptionError
from ..series.similarity import absolute_difference, mean_similarity
from ..training.joint import SCORE_LATENT

if TYPE_CHECKING:
    from ..explained_images import ImageAnswer
    from .latent_geometry import LatentGeometry
    from .latent_space import LatentSpace

Refinement = Literal["latent", "plus", "none"]
"""Where the encoder's latent is refined: in the flat latents (W and spatial code), in W+, or not at all.

The flat latent is the default. In W+ a reconstruction gets nearer, but moving along a direction from there
changes more of what should stay: on drawn chest slices 0.67 of the change lay outside the region of the
finding, against 0.30 from W.
"""
RATE = 0.05
WARM_UP = 10
SCALES = 3
ANSWER_WEIGHT = 0.05
"""Of the answer's error, in SDs of the answers over the generator's images, beside an L1 in the images' unit."""
TYPICAL_WEIGHT = 5e-4


@dataclass(frozen=True, eq=False)
class Inversion:
    """Latents (n, D) of images (n, C, S, S), their reconstructions, and what was lost.

    ``refined`` holds W+ and codes where they were refined. ``l1`` (n,) is in the images' unit (their range is
    2), ``similarity`` is SSIM; ``encoded_l1`` is that of the encoder alone. ``values`` (n,) are the moved
    answers to the images as the generator's input shows them, ``reconstructed_values`` those to the
    reconstructions.
    """

    latents: torch.Tensor
    reconstructions: torch.Tensor
    l1: torch.Tensor
    similarity: torch.Tensor
    encoded_l1: torch.Tensor
    values: torch.Tensor
    reconstructed_values: torch.Tensor
    answer_in_loss: bool
    steps: int
    refined: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def refined_of(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """W+ (1, layers, latent) and code (1, ...) of one image; None where flat latents were refined."""
        if self.refined is None:
            return None
        w_plus, code = self.refined
        return w_plus[number : number + 1], None if code is None else code[number : number + 1]


def invert(
    space: LatentSpace,
    answer: ImageAnswer,
    geometry: LatentGeometry,
    images: torch.Tensor,
    *,
    steps: int = 60,
    refine: Refinement = "latent",
    values_spread: float = 1.0,
    values: torch.Tensor | None = None,
    score_latents: torch.Tensor | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Inversion:
    """Latents of images (n, C, S, S) in [-1, 1].

    ``values`` (n,) are the moved answers that the reconstructions shall get: the model's to the images if None.
    ``values_spread``: SD of the answers over the generator's images. ``score_latents`` (n,): what the latent that
    carries the model's answer is for these images; the encoder's guess of it if None.

    Raises:
        OptionError: an unknown refinement.
    """
    if refine not in ("latent", "plus", "none"):
        raise OptionError(f"The refinement {refine!r} is not known.", "Use latent, plus or none.")
    with torch.no_grad():
        wanted = answer(images) if values is None else values
        encoded = space.encode(images)
        if score_latents is not None:
            encoded = torch.cat([score_latents[:, None].to(encoded), encoded[:, SCORE_LATENT + 1 :]], 1)
        encoded_l1 = absolute_difference(space.decode(encoded), images)
    in_loss = answer.differentiable
    scale = max(values_spread, 1e-6)

    def loss(reconstruction: torch.Tensor) -> torch.Tensor:
        result = pyramid_l1(reconstruction, images)
        if in_loss:
            result = result + ANSWER_WEIGHT * (answer(reconstruction) - wanted).abs() / scale
        return result

    refined = None
    if refine == "plus" and steps:
        refined = _refine_plus(space, geometry, encoded, loss, steps, on_step)
        latents = encoded
        reconstructions = space.decode_plus(*refined)
    else:
        latents = _refine_latents(space, geometry, encoded, loss, steps, on_step) if refine == "latent" else encoded
        with torch.no_grad():
            reconstructions = space.decode(latents)
    return Inversion(
        latents=latents,
        reconstructions=reconstructions,
        l1=absolute_difference(reconstructions, images),
        similarity=mean_similarity(reconstructions, images),
        encoded_l1=encoded_l1,
        values=wanted,
        reconstructed_values=answer(reconstructions),
        answer_in_loss=in_loss,
        steps=0 if refine == "none" else steps,
        refined=refined,
    )


def pyramid_l1(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference (n,), summed over the images and three halvings of them."""
    total = absolute_difference(first, second)
    for _ in range(SCALES):
        first, second = functional.avg_pool2d(first, 2), functional.avg_pool2d(second, 2)
        total = total + absolute_difference(first, second)
    return total


def _refine_latents(
    space: LatentSpace,
    geometry: LatentGeometry,
    encoded: torch.Tensor,
    loss: Callable[[torch.Tensor], torch.Tensor],
    steps: int,
    on_step: Callable[[], None],
) -> torch.Tensor:
    """In whitened coordinates, so that latents move where they vary."""
    white = geometry.whiten(encoded)

    def total(free: list[torch.Tensor]) -> torch.Tensor:
        return loss(space.decode(geometry.colored(free[0]))) + TYPICAL_WEIGHT * free[0].square().mean(1)

    (best,) = _descend([white], total, steps, on_step)
    return geometry.colored(best)


def _refine_plus(
    space: LatentSpace,
    geometry: LatentGeometry,
    encoded: torch.Tensor,
    loss: Callable[[torch.Tensor], torch.Tensor],
    steps: int,
    on_step: Callable[[], None],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """W+ and code, each in units of its own SD."""
    w_plus, code = space.expand(encoded)
    scale_w, scale_code = space.split(space.std[None])
    parts = [w_plus / scale_w[:, None]] + ([] if code is None or scale_code is None else [code / scale_code])

    def rebuilt(free: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        return free[0] * scale_w[:, None], None if code is None or scale_code is None else free[1] * scale_code

    def total(free: list[torch.Tensor]) -> torch.Tensor:
        apart = (free[0] - free[0].mean(1, keepdim=True)).square().mean((1, 2))
        return loss(space.decode_plus(*rebuilt(free))) + TYPICAL_WEIGHT * apart

    return rebuilt(_descend(parts, total, steps, on_step))


def _descend(
    start: list[torch.Tensor],
    total: Callable[[list[torch.Tensor]], torch.Tensor],
    steps: int,
    on_step: Callable[[], None],
) -> list[torch.Tensor]:
    """Adam with warm-up and cosine decay; of each sample the best values seen are kept."""
    if steps == 0:
        return start
    with torch.enable_grad():
        free = [part.detach().clone().requires_grad_() for part in start]
        optimiser = torch.optim.Adam(free, RATE)
        best = [part.detach().clone() for part in start]
        lowest = torch.full((len(start[0]),), math.inf, device=start[0].device)
        for step in range(steps + 1):
            losses = total(free)
            better = losses.detach() < lowest
            lowest = torch.where(better, losses.detach(), lowest)
            for kept, part in zip(best, free):
                kept[better] = part.detach()[better]
            if step == steps:
                break
            rate = RATE * min(1.0, (step + 1) / WARM_UP) * max(0.05, 0.5 * (1 + math.cos(math.pi * step / steps)))
            optimiser.param_groups[0]["lr"] = rate
            optimiser.zero_grad()
            losses.sum().backward()
            optimiser.step()
            on_step()
    return best
