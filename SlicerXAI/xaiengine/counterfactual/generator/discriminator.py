"""The critic of the generator: StyleGAN2's residual discriminator, which may be told the model's prediction."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from .generator import SMALLEST, GeneratorSettings
from .modulated import EqualConv, EqualLinear, activate

_GROUP = 4


class ResidualBlock(nn.Module):
    """Halves the size: a convolution and a strided one, beside the mean of 2 x 2 pixels and a 1 x 1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualConv(inputs, inputs, 3)
        self.second = EqualConv(inputs, outputs, 4, stride=2)
        self.skip = EqualConv(inputs, outputs, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        main = activate(self.second(activate(self.first(features))))
        return (main + self.skip(functional.avg_pool2d(features, 2))) / math.sqrt(2)


class Discriminator(nn.Module):
    """Images (N, C, S, S) to one logit each: how real they look.

    The first convolution halves the size: at full size the layers would cost more than all others together.
    With ``conditions`` > 0 a prediction (N, conditions) is given as well, and the logit says how real the image
    looks for that prediction (projection, Miyato and Koyama, ICLR 2018).
    """

    def __init__(self, settings: GeneratorSettings, conditions: int = 0) -> None:
        super().__init__()
        self.conditions = conditions
        widths = [settings.width_at(size) for size in settings.resolutions[-2::-1]]
        self.entry = EqualConv(settings.channels, widths[0], 4, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in zip(widths, widths[1:]))
        last = widths[-1]
        self.final = EqualConv(last + 1, last, 3)
        self.hidden = EqualLinear(last * SMALLEST**2, last)
        self.output = EqualLinear(last, 1)
        if conditions:
            self.condition = nn.ModuleList([EqualLinear(conditions, last), EqualLinear(last, last)])

    def forward(
        self, images: torch.Tensor, prediction: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits (N,) and the features of each size, fine to coarse (for comparing images)."""
        if images.device.type != "cuda":
            images = images.contiguous(memory_format=torch.channels_last)
        features = activate(self.entry(images))
        collected = []
        for block in self.blocks:
            features = block(features)
            collected.append(features)
        features = activate(self.final(torch.cat([features, _spread(features)], 1)))
        hidden = activate(self.hidden(features.flatten(1)))
        logits = self.output(hidden)[:, 0].float()
        if self.conditions and prediction is not None:
            embedded = self.condition[1](activate(self.condition[0](prediction.to(hidden.dtype))))
            logits = logits + (embedded.float() * hidden.float()).sum(1) / math.sqrt(hidden.shape[1])
        return logits, collected


def _spread(features: torch.Tensor) -> torch.Tensor:
    """Mean deviation over groups of samples as one more channel: tells a generator that repeats itself."""
    samples = features.shape[0]
    group = next(size for size in range(min(_GROUP, samples), 0, -1) if samples % size == 0)
    grouped = features.float().reshape(group, samples // group, *features.shape[1:])
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(-1, 1, *features.shape[2:]).to(features.dtype)
