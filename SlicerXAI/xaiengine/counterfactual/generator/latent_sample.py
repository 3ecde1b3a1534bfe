"""Latents with the explained model's answers to their images: what directions are found and judged on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...core.errors import ModelError
from ...core.progress import Progress

if TYPE_CHECKING:
    from ..explained_images import ImageAnswer
    from .latent_space import LatentSpace

BATCH = 64
HELD_OUT = 0.2
CONSTANT = 1e-6
PAIR_SHIFT = 0.7
"""SD of a pair's distance from its middle, in SDs of each latent: together they vary little more than in use."""


@dataclass(frozen=True, eq=False)
class LatentSample:
    """Latents (n, D) and the moved answers (n,) to their images.

    ``paired``: samples i and i + n/2 share all latents but the first ``paired`` ones. What the shared ones do
    to the answer, and in a generator with a spatial code that is most of it, is then gone from the difference
    within a pair.
    """

    latents: torch.Tensor
    values: torch.Tensor
    paired: int = 0

    @property
    def spread(self) -> float:
        """SD of the answers."""
        return float(self.values.std())

    def divided(self) -> tuple[LatentSample, LatentSample]:
        """The part to fit on and the part to judge on; samples are in random order already."""
        sizes = list(sample_sizes(len(self.values), bool(self.paired)))
        if not self.paired:
            places = torch.arange(len(self.values)).split(sizes)
        else:
            half = len(self.values) // 2
            places = [torch.cat([part, part + half]) for part in torch.arange(half).split([n // 2 for n in sizes])]
        first, second = (LatentSample(self.latents[part], self.values[part], self.paired) for part in places)
        return first, second

    def centered(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents and answers without their mean: that of each pair, or of all samples."""
        if not self.paired:
            return self.latents - self.latents.mean(0), self.values - self.values.mean()

        def within(values: torch.Tensor) -> torch.Tensor:
            first, second = values.tensor_split(2)
            return torch.cat([first - second, second - first]) / 2

        return within(self.latents), within(self.values)


def sample_sizes(count: int, paired: bool) -> tuple[int, int]:
    """How many latents are fitted on, and how many judged on, of those that are drawn for ``count``."""
    drawn = 2 * ((count + 1) // 2) if paired else count
    held_out = max(2, round(HELD_OUT * drawn))
    held_out -= held_out % 2 if paired else 0
    return drawn - held_out, held_out


def draw_sample(
    space: LatentSpace,
    answer: ImageAnswer,
    count: int,
    *,
    seed: int = 0,
    leading: int = 0,
    progress: Progress | None = None,
    timed: Callable[[float], None] = lambda seconds: None,
) -> LatentSample:
    """Draw latents, make their images and ask the model for each, in batches; in pairs if only ``leading``
    move. ``timed`` is told what an image takes after two batches, of which the first also prepares.

    Raises:
        ModelError: the model says the same of every image, so that there is no direction to be found, or gives
        values
            that are not numbers.
    """
    paired = leading if 0 < leading < space.dimension else 0
    latents = _pairs(space, (count + 1) // 2, paired, seed) if paired else space.sample(count, seed)
    values: list[torch.Tensor] = []
    seconds: list[float] = []
    parts = latents.split(BATCH)
    with torch.no_grad():
        for part in parts:
            start = time.perf_counter()
            values.append(answer(space.decode(part)))
            if len(seconds) < 2:
                float(values[-1].sum())  # on a GPU: wait until it is done
                seconds.append((time.perf_counter() - start) / len(part))
                if len(seconds) == min(2, len(parts)):
                    timed(min(seconds))
            if progress is not None:
                progress.advance(len(part))
    sample = LatentSample(latents, torch.cat(values), paired)
    check_answers(sample, answer)
    return sample


def _pairs(space: LatentSpace, count: int, leading: int, seed: int) -> torch.Tensor:
    """``count`` latents up, then the same down, by independent parts of the SD of each of the leading ones."""
    start = space.sample(count, seed)
    drawn = torch.randn(count, leading, generator=torch.Generator().manual_seed(seed + 1)).to(start)
    shift = torch.zeros_like(start)
    shift[:, :leading] = PAIR_SHIFT * drawn * space.std[:leading]
    return torch.cat([start + shift, start - shift])


def check_answers(sample: LatentSample, answer: ImageAnswer) -> None:
    """Refuse answers among which no direction exists. Raises ModelError."""
    name, values = answer.predictor.model.name, sample.values
    if not bool(torch.isfinite(values).all()):
        raise ModelError(
            f"{name} gives values that are not numbers for images of this generator.",
            "Check that the generator was trained on the model's kind of images.",
        )
    span = float(values.max() - values.min())
    if span <= CONSTANT * max(1.0, float(values.abs().max())):
        shown = float(answer.answer.shown(values[:1]))
        raise ModelError(
            f"{name} says the same of all {len(values)} images of the generator ({answer.answer.name} "
            f"{shown:.4g}): no direction changes its answer.",
            "Choose another target, or a generator trained on images of which the model says different things.",
        )
