"""Small networks trained in under a minute on made-up images, for maps that must mean something.

An image is smooth noise. Class 1 holds one to three round, bright blobs, class 2 as many rings, class 0 neither.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from xaiengine.network.layers import evaluation_mode

CLASSES = 3


def blob_images(count: int, size: int, axes: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images (count, 1, size, ...), classes (count,), and what decides the class (count, size, ...) as bool."""
    shape = (size,) * axes
    coarse = torch.randn(count, 1, *(size // 4,) * axes, generator=generator)
    images = F.interpolate(coarse, shape, mode={2: "bilinear", 3: "trilinear"}[axes]) * 0.5
    images += torch.randn(count, 1, *shape, generator=generator) * 0.2
    classes = torch.randint(0, CLASSES, (count,), generator=generator)
    grid = torch.stack(torch.meshgrid(*[torch.arange(size).float()] * axes, indexing="ij"))
    truth = torch.zeros(count, *shape, dtype=torch.bool)
    for row, kind in enumerate(classes.tolist()):
        for _ in range(int(torch.randint(1, 4, (1,), generator=generator)) if kind else 0):
            center = torch.rand(axes, generator=generator) * size * 0.7 + size * 0.15
            radius = size * (0.05 + 0.04 * float(torch.rand(1, generator=generator)))
            distance = (grid - center.view(-1, *[1] * axes)).square().sum(0).sqrt()
            inside = distance < radius if kind == 1 else (distance - 1.5 * radius).abs() < radius * 0.4
            images[row, 0][inside] += 2.0
            truth[row] |= inside
    return images, classes, truth


def train(network: nn.Module, size: int, axes: int, steps: int, seed: int = 0, batch: int = 24) -> float:
    """Train on blob images; returns the accuracy on 120 others. Leaves the network in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    network.train()
    for _ in range(steps):
        images, classes, _ = blob_images(batch, size, axes, generator)
        loss = F.cross_entropy(network(images), classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()
    images, classes, _ = blob_images(120, size, axes, generator)
    with torch.no_grad(), evaluation_mode(network):
        return float((network(images).argmax(1) == classes).float().mean())


def narrow_resnet(axes: int, deep: bool = True) -> nn.Module:
    from monai.networks.nets import ResNet

    return ResNet(
        "basic",
        [2, 2, 2, 2] if deep else [1, 1, 1, 1],
        [16, 32, 64, 128],
        spatial_dims=axes,
        n_input_channels=1,
        num_classes=CLASSES,
        conv1_t_size=3,
        conv1_t_stride=1 if axes == 2 else 2,
        no_max_pool=axes == 3,
    )


def narrow_densenet() -> nn.Module:
    from monai.networks.nets import DenseNet

    return DenseNet(2, 1, CLASSES, init_features=16, growth_rate=8, block_config=(6, 12, 24, 16))
