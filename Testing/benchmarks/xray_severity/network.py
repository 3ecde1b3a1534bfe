"""A small regressor of the sum of the zones' scores: trained on planted haze, then on the cases of a fold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from planted.networks import Residual
from scipy import ndimage
from torch import nn

from .cases import MOST, ZONES, Cases, mixed, varied, zones_of_lungs

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training" / "chest_counterfactual"))

from cohort import read_xrays
from planting import lung_fields

LAYERS = ("layer1", "layer2", "layer3")
SIZE = 128
Draw = Callable[[], tuple[np.ndarray, np.ndarray]]
"""An image (128, 128) and the points of its zones (6,)."""
SCALE = MOST / 3
"""Points that make a regression output of 1."""


class SeverityNetwork(nn.Module):
    """Stem, three residual stages (16, 8 and 4 pixels a cell at the end), global average pooling, one linear layer."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layer1 = Residual(2, width, width, 2)
        self.layer2 = Residual(2, width, 2 * width, 2)
        self.layer3 = Residual(2, 2 * width, 4 * width, 2)
        self.head = nn.Linear(4 * width, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.layer3(self.layer2(self.layer1(self.stem(inputs))))
        return self.head(features.flatten(2).mean(-1))


def as_inputs(images: np.ndarray) -> torch.Tensor:
    """(n, 1, rows, columns) as the network takes them, from images (n, rows, columns) in 0..1."""
    return torch.as_tensor((images - 0.5) / 0.25, dtype=torch.float32)[:, None]


def clear_xrays(path: Path, most: int) -> tuple[np.ndarray, np.ndarray]:
    """X-rays (n, 128, 128) of ``path`` whose lungs stand out, cropped to the lungs and 8 %, and their zones."""
    images, zones = [], []
    for image in read_xrays(path):
        if len(images) == most:
            break
        fields = lung_fields(image / 255.0)
        if fields is not None:
            cropped = _cropped(image / 255.0, fields)
            images.append(cropped[0])
            zones.append(zones_of_lungs(cropped[1:] > 0.5))
    return np.stack(images).astype(np.float32), np.stack(zones)


def _cropped(image: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """Image and lung fields (3, 128, 128), cropped to the fields and 8 % and stretched to 1..99 %."""
    places = np.argwhere(fields.any(0))
    low, high = places.min(0), places.max(0) + 1
    margin = 0.08 * (high - low)
    axes = [np.linspace(a, b, SIZE) for a, b in zip(low - margin, high + margin - 1)]
    grid = np.meshgrid(*axes, indexing="ij")
    parts = [
        ndimage.map_coordinates(part.astype(np.float32), grid, order=1, mode="nearest") for part in (image, *fields)
    ]
    dark, bright = np.percentile(parts[0], (1, 99))
    return np.stack([np.clip((parts[0] - dark) / (bright - dark), 0, 1), *parts[1:]])


def hazed(image: np.ndarray, zones: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An X-ray with planted haze, and the points of each zone: three where it is hidden altogether."""
    wanted = random.choice(4, ZONES, p=(0.4, 0.2, 0.2, 0.2)) if random.random() < 0.8 else np.zeros(ZONES, int)
    soft = ndimage.gaussian_filter(zones.any(0).astype(float), 2.0)
    noise = ndimage.gaussian_filter(random.standard_normal(image.shape), random.uniform(3, 9))
    noise = noise / noise.std()
    opacity = np.zeros_like(image)
    for zone, points in zip(zones, wanted):
        if points and zone.any():
            level = np.quantile(noise[zone], 1 - points / 3.3)
            blob = 1 / (1 + np.exp(-(noise - level) / 0.15))
            opacity += ndimage.gaussian_filter(zone.astype(float), 1.5) * blob * random.uniform(0.35, 0.85)
    texture = ndimage.gaussian_filter(random.standard_normal(image.shape), random.uniform(0.7, 2.0))
    opacity = np.clip(opacity * (1 + 0.1 * texture / texture.std()), 0, 1) * np.clip(1.2 * soft, 0, 1)
    bright = np.quantile(image, 0.9) * random.uniform(0.8, 1.0)
    return (image + opacity * np.maximum(bright - image, 0)).astype(np.float32), wanted


def train_on_haze(xrays: tuple[np.ndarray, np.ndarray], steps: int, batch: int = 16, seed: int = 0) -> SeverityNetwork:
    """A network that has learned haze planted into X-rays (n, 128, 128) with zones (n, 6, 128, 128)."""
    random = np.random.default_rng(seed)
    network = new_network(seed)

    def planted() -> tuple[np.ndarray, np.ndarray]:
        number = int(random.integers(len(xrays[0])))
        return varied(*hazed(xrays[0][number], xrays[1][number], random), random)

    _fit(network, planted, steps, batch, 4e-3)
    return network


def new_network(seed: int = 0) -> SeverityNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SeverityNetwork()


def tune(network: nn.Module, cases: Cases, steps: int, rate: float, batch: int = 16, seed: int = 0) -> None:
    """Train on cases whose zones are mixed: some come from other patients, and bring their points with them."""
    random = np.random.default_rng(seed)

    def real() -> tuple[np.ndarray, np.ndarray]:
        return varied(*mixed(cases, int(random.integers(len(cases))), random), random)

    _fit(network, real, steps, batch, rate)


def _fit(network: nn.Module, draw: Draw, steps: int, batch: int, rate: float) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.2)
    network.train()
    for _ in range(steps):
        images, scores = zip(*(draw() for _ in range(batch)))
        wanted = torch.as_tensor(np.stack(scores).sum(1) / SCALE, dtype=torch.float32)
        loss = nn.functional.smooth_l1_loss(network(as_inputs(np.stack(images)))[:, 0], wanted, beta=0.5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()


@torch.no_grad()
def predicted(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Points (n,) of images (n, 128, 128)."""
    return np.concatenate([SCALE * network(part)[:, 0].numpy() for part in as_inputs(images).split(64)])
