"""Style channels as directions: the search AttFind of StylEx (Lang et al. 2021, arXiv 2104.13369).

Every channel of every modulated layer is shifted up and down by some SDs on a few images; the channels that
move the explained model's answer most are the attributes. The model is a black box. The published search asks
for one side at a time; a channel often moves the answer one way only, and both ways are kept here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...core.progress import Progress

if TYPE_CHECKING:
    from ..explained_images import ImageAnswer
    from ..generator.generator import Generator
    from ..generator.latent_space import LatentSpace

BATCH = 64
SHIFT = 2.0
"""SDs by which a channel is moved in the search."""


@dataclass(frozen=True, eq=False)
class StyleSpread:
    """Where the channels of all styles, laid end to end (K,), begin, and their SD (K,) over latents in use."""

    sizes: tuple[int, ...]
    spread: torch.Tensor

    @classmethod
    def of(cls, space: LatentSpace, latents: torch.Tensor) -> StyleSpread:
        styles = styles_of(space, latents)
        return cls(tuple(style.shape[1] for style in styles), torch.cat([style.std(0) for style in styles]))

    def parts(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Channels laid end to end (..., K) as one tensor per layer."""
        return list(flat.split(self.sizes, -1))


def styles_of(space: LatentSpace, latents: torch.Tensor) -> list[torch.Tensor]:
    """Styles (n, channels) of each layer for latents (n, D)."""
    with torch.no_grad():
        return space.generator.styles(space.split(latents)[0])


def style_channels(space: LatentSpace) -> int:
    """K: the channels of all styles together."""
    return sum(style.shape[1] for style in styles_of(space, space.mean[None]))


def shifted_images(
    space: LatentSpace, latents: torch.Tensor, shift: torch.Tensor, sizes: tuple[int, ...]
) -> torch.Tensor:
    """Images of latents (n, D) whose styles are moved by ``shift`` (n, K); the spatial code stays."""
    generator: Generator = space.generator
    w, code = space.split(latents)
    styles = [style + part for style, part in zip(generator.styles(w), shift.split(sizes, -1))]
    return generator.synthesis_from_styles(styles, code)


def channel_effects(
    space: LatentSpace,
    answer: ImageAnswer,
    latents: torch.Tensor,
    styles: StyleSpread,
    progress: Progress | None = None,
) -> torch.Tensor:
    """Mean change (2, K) of the moved answer when each channel goes down, and up, by two SDs; over latents (n, D)."""
    count = len(styles.spread)
    with torch.no_grad():
        start = answer(space.decode(latents))
        effects = torch.zeros(2, count, device=latents.device)
        for channel in range(count):
            shift = torch.zeros(2, len(latents), count, device=latents.device)
            shift[0, :, channel] = -SHIFT * styles.spread[channel]
            shift[1, :, channel] = SHIFT * styles.spread[channel]
            images = shifted_images(space, latents.repeat(2, 1), shift.flatten(0, 1), styles.sizes)
            effects[:, channel] = (answer(images).reshape(2, -1) - start).mean(1)
            if progress is not None:
                progress.advance(2 * len(latents))
    return effects


def style_directions(effects: torch.Tensor, spread: torch.Tensor, channels: int, count: int) -> torch.Tensor:
    """Directions (count, K) in style space, each of ``channels`` channels, the strongest first and none used
    twice.

    A step of 1 moves each channel by its SD divided by the root of the number of channels, to where the answer
    rises.
    """
    rise = (effects[1] - effects[0]) / 2
    order = rise.abs().argsort(descending=True)
    found = torch.zeros(count, len(spread), device=spread.device)
    for number in range(count):
        chosen = order[number * channels : (number + 1) * channels]
        found[number, chosen] = rise[chosen].sign() * spread[chosen] / max(1, len(chosen)) ** 0.5
    return found
