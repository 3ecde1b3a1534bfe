"""Tiny networks with known structure, in 2D and 3D, for the tests of attribution and faithfulness."""

from __future__ import annotations

import torch
from torch import nn

CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOLING = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


class SmallClassifier(nn.Module):
    """Three convolutions, halved twice, then global average pooling and one linear layer."""

    def __init__(self, spatial_dims: int = 2, outputs: int = 3, channels: int = 1, width: int = 6) -> None:
        super().__init__()
        convolution, pooling = CONVOLUTION[spatial_dims], POOLING[spatial_dims]
        self.early = nn.Sequential(convolution(channels, width, 3, padding=1), nn.ReLU(), pooling(2))
        self.middle = nn.Sequential(convolution(width, width, 3, padding=1), nn.ReLU(), pooling(2))
        self.late = nn.Sequential(convolution(width, 2 * width, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(2 * width, outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.late(self.middle(self.early(inputs))).flatten(2).mean(-1))


class InPlaceClassifier(nn.Module):
    """The layer to explain is followed by an activation that overwrites its output."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1)
        self.activation = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.activation(self.layer(inputs)).flatten(2).mean(-1))


class LinearModel(nn.Module):
    """Output = weight · input: attributions, Shapley values and occlusions are known in closed form."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        value = (inputs * self.weight).flatten(1).sum(1, keepdim=True)
        return torch.cat([value, -value], 1)


def seeded(network_class: type, *arguments: object, seed: int = 0, **options: object) -> nn.Module:
    """A network with reproducible weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return network_class(*arguments, **options).eval()


def images(shape: tuple[int, ...], seed: int = 1) -> torch.Tensor:
    """Random images, (N, C, spatial...)."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
