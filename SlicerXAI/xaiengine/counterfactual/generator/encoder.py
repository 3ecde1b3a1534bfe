"""Image to latent: style w and, where the generator takes one, the spatial code."""

from __future__ import annotations

import torch
from torch import nn

from .generator import GeneratorSettings

_SLOPE = 0.2
_COARSEST = 4


class Encoder(nn.Module):
    """Images (N, C, S, S) to flat latents (N, latent_size + code): w, then the flattened code.

    Strided convolutions down to 4 x 4; the code is read where the features have its size.
    """

    def __init__(self, settings: GeneratorSettings, width: int = 24, maximum_width: int = 96) -> None:
        super().__init__()
        self.settings = settings
        self.width, self.maximum_width = width, maximum_width
        self.blocks = nn.ModuleList()
        self.code_block = -1
        size, before, after = settings.size, settings.channels, width
        while size > _COARSEST:
            self.blocks.append(_block(before, after))
            size //= 2
            if settings.code_channels and size == settings.code_size:
                self.code_block = len(self.blocks) - 1
                self.code_head = nn.Conv2d(after, settings.code_channels, 1)
            before, after = after, min(maximum_width, after * 2)
        self.style_head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(before * _COARSEST**2, 2 * maximum_width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(2 * maximum_width, settings.latent_size),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = images
        if images.device.type != "cuda":
            features = images.contiguous(memory_format=torch.channels_last)
        code = None
        for number, block in enumerate(self.blocks):
            features = block(features)
            if number == self.code_block:
                code = self.code_head(features).flatten(1)
        w = self.style_head(features)
        return (w if code is None else torch.cat([w, code], 1)).float()


def _block(inputs: int, outputs: int) -> nn.Sequential:
    groups = next(size for size in (8, 4, 2, 1) if outputs % size == 0)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 4, 2, 1),
        nn.GroupNorm(groups, outputs),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(outputs, outputs, 3, 1, 1),
        nn.GroupNorm(groups, outputs),
        nn.LeakyReLU(_SLOPE),
    )
