"""Small trained networks that detect a bright spot, in one, two and three dimensions."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import nn
from xaiengine.attribution.bottleneck.statistics import StatisticsAccumulator
from xaiengine.network.tail.tail import Tail

CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZE = {1: 32, 2: 16, 3: 8}
CPU = torch.device("cpu")


class Detector(nn.Module):
    """Class 1 if something bright is anywhere: the strongest of the filtered responses decides."""

    def __init__(self, axes, outputs=2):
        super().__init__()
        convolution = CONVOLUTION[axes]
        self.stem, self.layer = convolution(1, 4, 3, padding=1), convolution(4, 6, 3, padding=1, stride=2)
        self.act, self.head = nn.ReLU(inplace=True), nn.Linear(6, outputs)

    def forward(self, x):
        x = self.act(self.layer(torch.tanh(self.stem(x))))
        return self.head(x.flatten(2).amax(-1) + x.flatten(2).mean(-1))


def bright_spots(count, axes, generator):
    """Images and labels; the spot of class 1 always lies in the first quarter of the last axis."""
    size = SIZE[axes]
    images = torch.randn(count, 1, *(size,) * axes, generator=generator) * 0.3
    labels = torch.arange(count) % 2
    middle = (slice(size // 2, size // 2 + 2),) * (axes - 1)
    for row in range(count):
        if labels[row]:
            images[(row, 0, *middle, slice(size // 8, size // 8 + 2))] += 4.0
    return images, labels


@cache
def trained(axes, outputs=2, relu_layer=False):
    torch.manual_seed(axes)
    model, generator = Detector(axes, outputs), torch.Generator().manual_seed(axes)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(80):
        images, labels = bright_spots(16, axes, generator)
        output = model(images)
        loss = F.cross_entropy(output, labels) if outputs > 1 else F.mse_loss(output[:, 0], labels * 2.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    optimiser.zero_grad()
    model.eval()
    images, _ = bright_spots(40, axes, generator)
    layer = "act" if relu_layer else "layer"
    accumulator = StatisticsAccumulator()
    accumulator.add(Tail(model, layer).record(images).activation)
    return model, accumulator.finish(after_relu=relu_layer), bright_spots(6, axes, generator)


def relative(found, expected):
    return float((found - expected).abs().sum() / expected.abs().sum())
