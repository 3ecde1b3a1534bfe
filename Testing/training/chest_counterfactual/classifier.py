"""The explained model of the demo: a small network that says how surely an X-ray shows a consolidation."""

from __future__ import annotations

import math

import numpy as np
import torch
from monai.networks.nets import ResNet
from torch.nn import functional

NETWORK = {
    "block": "basic",
    "layers": [1, 1, 1, 1],
    "block_inplanes": [12, 24, 40, 56],
    "spatial_dims": 2,
    "n_input_channels": 1,
    "conv1_t_size": 5,
    "conv1_t_stride": 2,
    "no_max_pool": True,
    "num_classes": 2,
    "bias_downsample": False,
}
LABELS = ("clear", "consolidation")
TARGET = 1
BATCH = 64
RATE = 4e-3
STEPS = 3500


def as_input(images: np.ndarray) -> torch.Tensor:
    """(n, 64, 64) uint8, rows and columns, to the engine's order and range: (n, 1, I, J), 0..1."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 2, 1))).float().div(255)[:, None]


def augmented(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Other contrast and brightness, blur or noise: the network shall look at opacities, not at single pixels."""
    n = len(images)

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1, generator=random)

    images = images.clamp(1e-3, 1) ** torch.exp(uniform(-0.25, 0.25)) * uniform(0.9, 1.1)
    blurred = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), "replicate"), 3, 1)
    images = torch.lerp(images, blurred, uniform(-0.4, 1.0).clamp(min=0))
    noise = torch.randn(images.shape, generator=random) * uniform(0, 0.08).square() * 8
    return (images + noise).clamp(0, 1)


def train(images: torch.Tensor, probability: np.ndarray, steps: int = STEPS, seed: int = 0) -> ResNet:
    """Fit soft labels (n,), the probability of "consolidation", to images (n, 1, I, J) by cross-entropy."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    network = ResNet(**NETWORK).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-3)
    target = torch.from_numpy(probability).float()
    recent = []
    for step in range(steps):
        for group in optimiser.param_groups:
            falling = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps))
            group["lr"] = RATE * min(1, (step + 1) / 100) * falling
        chosen = torch.randint(len(images), (BATCH,), generator=random)
        logits = network(augmented(images[chosen], random))
        loss = functional.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], target[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        recent.append(float(loss.detach()))
        if (step + 1) % 100 == 0:
            print(f"classifier: step {step + 1}  loss {np.mean(recent[-100:]):.4f}", flush=True)
    return network.eval()


@torch.no_grad()
def probability_of(network: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """Probability (n,) of the target for inputs (n, 1, I, J)."""
    return torch.cat([network(part).softmax(1)[:, TARGET] for part in images.split(200)]).numpy()
