"""Small residual networks and their training on planted scans: a classifier and a regressor, about a minute each."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .scans import PlantedScan, planted_batch, stacked

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
BURDEN_SCALE = 2.0
"""Percent of lesion voxels that make a regression output of 1."""


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, spatial_dims: int, channels: int, width: int, stride: int) -> None:
        super().__init__()
        convolution, norm = CONVOLUTION[spatial_dims], NORM[spatial_dims]
        self.first = nn.Sequential(convolution(channels, width, 3, stride, 1, bias=False), norm(width), nn.ReLU())
        self.second = nn.Sequential(convolution(width, width, 3, 1, 1, bias=False), norm(width))
        self.shortcut = nn.Sequential(convolution(channels, width, 1, stride, bias=False), norm(width))
        self.activation = nn.ReLU()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.activation(self.second(self.first(inputs)) + self.shortcut(inputs))


class PlantedNetwork(nn.Module):
    """Stem, three residual stages (each halves the image), global average pooling, one linear layer."""

    def __init__(self, spatial_dims: int, outputs: int, width: int = 12) -> None:
        super().__init__()
        convolution, norm = CONVOLUTION[spatial_dims], NORM[spatial_dims]
        self.stem = nn.Sequential(convolution(1, width, 3, 1, 1, bias=False), norm(width), nn.ReLU())
        self.layer1 = Residual(spatial_dims, width, width, 2)
        self.layer2 = Residual(spatial_dims, width, 2 * width, 2)
        self.layer3 = Residual(spatial_dims, 2 * width, 4 * width, 2)
        self.head = nn.Linear(4 * width, outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.layer3(self.layer2(self.layer1(self.stem(inputs))))
        return self.head(features.flatten(2).mean(-1))


def train(
    task: str, spatial_dims: int = 2, size: int = 64, steps: int = 250, batch: int = 24, seed: int = 0
) -> PlantedNetwork:
    """A trained ``classifier`` (2 logits: healthy, lesion) or ``regressor`` (burden / BURDEN_SCALE)."""
    generator = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PlantedNetwork(spatial_dims, 2 if task == "classifier" else 1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, total_steps=steps)
    network.train()
    for _ in range(steps):
        scans = _training_batch(task, batch, size, spatial_dims, generator)
        loss = _loss(task, network(stacked(scans)), scans)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def _training_batch(
    task: str, batch: int, size: int, spatial_dims: int, generator: np.random.Generator
) -> list[PlantedScan]:
    """One lesion, too, in training: each alone must suffice."""
    counts = generator.choice([0, 0, 1, 2], batch)
    return [planted_batch(1, size, spatial_dims, generator, int(count))[0] for count in counts]


def _loss(task: str, output: torch.Tensor, scans: list[PlantedScan]) -> torch.Tensor:
    if task == "classifier":
        labels = torch.tensor([int(scan.positive) for scan in scans])
        return functional.cross_entropy(output, labels)
    wanted = torch.tensor([scan.burden / BURDEN_SCALE for scan in scans])
    return functional.mse_loss(output[:, 0], wanted)


@torch.no_grad()
def quality(task: str, network: nn.Module, scans: list[PlantedScan]) -> float:
    """Accuracy of a classifier, R² of a regressor."""
    output = network(stacked(scans))
    if task == "classifier":
        labels = torch.tensor([int(scan.positive) for scan in scans])
        return float((output.argmax(1) == labels).float().mean())
    wanted = torch.tensor([scan.burden / BURDEN_SCALE for scan in scans])
    return 1 - float((output[:, 0] - wanted).square().mean() / wanted.var(unbiased=False))
