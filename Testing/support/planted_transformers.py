"""Small transformers that learned whether, or where, a bright cube lies in noise; their patches are 4 or 2 voxels."""

from __future__ import annotations

import torch
from monai.networks.nets import SwinUNETR, ViT
from torch import Tensor, nn
from torch.nn import functional

PATCH = 4
SIZES = {2: 32, 3: 16}


class FirstOutput(nn.Module):
    """A network without the hidden states that a vision transformer returns beside its answer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs)[0]


def cubes(dims: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 1, spatial...), whether a cube is there (N,), and where (N, 1, spatial...) bool."""
    size = SIZES[dims]
    images = 0.3 * torch.randn(count, 1, *[size] * dims, generator=generator)
    masks = torch.zeros_like(images, dtype=torch.bool)
    present = torch.rand(count, generator=generator) < 0.5
    for row in range(count):
        start = torch.randint(0, size - PATCH + 1, (dims,), generator=generator).tolist()
        if present[row]:
            masks[(row, 0, *[slice(first, first + PATCH) for first in start])] = True
        else:  # as much brightness, spread out
            places = torch.randperm(size**dims, generator=generator)[: PATCH**dims]
            images[row].view(-1)[places] += 1.0
    images[masks] += 1.0
    return images, present.long(), masks


def trained_vit(dims: int, steps: int = 150) -> nn.Module:
    """Two blocks and a class token: noise or cube."""
    torch.manual_seed(0)
    size = SIZES[dims]
    network = FirstOutput(
        ViT(
            in_channels=1,
            img_size=[size] * dims,
            patch_size=[PATCH] * dims,
            hidden_size=32,
            mlp_dim=64,
            num_layers=3,
            num_heads=4,
            classification=True,
            num_classes=2,
            spatial_dims=dims,
            post_activation="none",
        )
    )
    _train(network, dims, steps, 32, lambda output, label, mask: functional.cross_entropy(output, label))
    return network


def trained_swin(dims: int = 3, steps: int = 40) -> nn.Module:
    """A SwinUNETR of two classes: background and cube."""
    torch.manual_seed(0)
    network = SwinUNETR(
        in_channels=1,
        out_channels=2,
        feature_size=12,
        spatial_dims=dims,
        depths=(2, 2, 1, 1),
        num_heads=(2, 2, 2, 2),
        window_size=4,
    )

    def loss(output: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        return functional.cross_entropy(output, mask[:, 0].long(), weight=torch.tensor([1.0, 10.0]))

    _train(network, dims, steps, 4, loss, size=32)
    return network


def _train(network: nn.Module, dims: int, steps: int, batch: int, loss, size: int = 0) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(steps):
        images, labels, masks = cubes(dims, batch, generator)
        if size:
            images, masks = (_grown(item, size) for item in (images, masks))
        optimizer.zero_grad()
        value = loss(network(images), labels, masks)
        value.backward()
        optimizer.step()
    network.eval()


def _grown(images: Tensor, size: int) -> Tensor:
    """Repeated along each axis up to ``size`` voxels at least."""
    times = max(1, size // images.shape[2])
    return images.repeat(1, 1, *[times] * (images.ndim - 2))
