"""A generator, an encoder and a model by formulas, whose counterfactuals are known in closed form.

The generator adds weighted pictures: image = background + Σ z_i picture_i, with z normal of a given, very uneven
covariance. The first picture is a disk (the finding); the model's log-odds are the disk's brightness, so that
f(G(z)) = gain · z_0 + constant.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from monai.transforms import EnsureChannelFirst, ScaleIntensityRange
from torch import nn
from xaiengine.counterfactual.explained_images import ImageAnswer
from xaiengine.counterfactual.scalar_output import Answer
from xaiengine.models.explained_model import ExplainedModel, Inferer
from xaiengine.targets.targets import BinaryTarget, RegressionTarget

SIZE = 32
DIMENSION = 12
WINDOW = (0.0, 255.0)
SPREADS = torch.logspace(0, -2, DIMENSION)
"""SDs of the latents before they are mixed: from 1 to a hundredth."""


def disk(row: int = 12, column: int = 18, radius: float = 5.0) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2).float()


class LinearSpace:
    """A latent space as ``LatentSpace`` offers it; W+ is the mean over its layers."""

    def __init__(self, seed: int = 0, mixed: bool = True) -> None:
        random = torch.Generator().manual_seed(seed)
        waves = torch.linspace(0, 3.0, SIZE)
        pictures = [disk()]
        for number in range(1, DIMENSION):
            wave = torch.outer(torch.cos(waves * number), torch.sin(waves * (DIMENSION - number) + number))
            wave = wave * (1 - disk(radius=6.5))  # nothing but the first picture changes the disk
            pictures.append(wave)
        self.pictures = torch.stack(pictures) * 0.15
        self.background = -0.3 + 0.2 * torch.cos(waves)[:, None] * torch.cos(waves)[None]
        mixing = torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, generator=random))[0] if mixed else None
        covariance = torch.diag(SPREADS.square())
        if mixing is not None:
            covariance = mixing @ covariance @ mixing.T
        self.covariance_root = torch.linalg.cholesky(covariance.double() + 1e-9 * torch.eye(DIMENSION)).float()
        self.mean = 0.1 * torch.randn(DIMENSION, generator=random)
        self.dimension = DIMENSION
        self.generator = None
        self.settings = SimpleNamespace(size=SIZE, channels=1, latent_size=DIMENSION, code_channels=0)
        self.encoder = self.encode
        self.device = torch.device("cpu")

    @property
    def covariance(self) -> torch.Tensor:
        return self.covariance_root @ self.covariance_root.T

    @property
    def std(self) -> torch.Tensor:
        return self.covariance.diagonal().sqrt()

    def sample(self, count: int, seed: int = 0) -> torch.Tensor:
        drawn = torch.randn(count, DIMENSION, generator=torch.Generator().manual_seed(seed))
        return self.mean + drawn @ self.covariance_root.T

    def split(self, latents: torch.Tensor) -> tuple[torch.Tensor, None]:
        return latents, None

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return (self.background + torch.einsum("nd,dhw->nhw", latents, self.pictures))[:, None]

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        flat = self.pictures.flatten(1)
        values = (images[:, 0] - self.background).flatten(1)
        return torch.linalg.lstsq(flat.T, values.T).solution.T

    def expand(self, latents: torch.Tensor) -> tuple[torch.Tensor, None]:
        return latents[:, None].expand(-1, 4, -1).clone(), None

    def decode_plus(self, w_plus: torch.Tensor, code: None = None) -> torch.Tensor:
        return self.decode(w_plus.mean(1))


class DiskBrightness(nn.Module):
    """One output for images (n, 1, H, W): gain times the mean brightness in the disk, plus a constant."""

    def __init__(self, gain: float = 40.0, constant: float = 12.0, outputs: int = 1) -> None:
        super().__init__()
        mask = disk()
        self.register_buffer("mask", mask / mask.sum())
        self.gain = nn.Parameter(torch.tensor(gain))
        self.constant = nn.Parameter(torch.tensor(constant))
        self.outputs = outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = self.gain * (images[:, 0] * self.mask).sum((1, 2)) + self.constant
        return value[:, None] if self.outputs == 1 else torch.stack([-value / 2, value / 2], 1)


def image_model(network: nn.Module | None = None, task: str = "classification", **more: object) -> ExplainedModel:
    """A model of axial slices whose preprocessing maps the window to -1..1."""
    settings = {
        "labels": ("clear", "opaque") if task != "regression" else ("brightness",),
        "activation": "sigmoid" if task != "regression" else "none",
        "preprocessing": lambda: [EnsureChannelFirst(), ScaleIntensityRange(*WINDOW, -1.0, 1.0, clip=False)],
        "example_shape": (1, 1, SIZE, SIZE),
        **more,
    }
    return ExplainedModel(
        name="disk brightness",
        network=(network or DiskBrightness()).eval(),
        task=task,
        digest="1" * 64,
        source=Path("memory"),
        format="memory",
        spatial_dims=2,
        inferer=Inferer("slices"),
        **settings,
    )


class DirectAnswer(ImageAnswer):
    """The answer of a network to images as they are, without a model's preprocessing around it."""

    def __init__(self, network: nn.Module | None = None, is_class: bool = True, differentiable: bool = True) -> None:
        network = network or DiskBrightness()
        target = BinaryTarget(True, "opaque") if is_class else RegressionTarget(0, "brightness")
        capabilities = SimpleNamespace(require=lambda need, method: None)
        predictor = SimpleNamespace(
            model=SimpleNamespace(name="disk brightness", capabilities=capabilities),
            differentiable=differentiable,
            outputs=lambda images: network(images) if images.requires_grad else network(images).detach(),
        )
        super().__init__(predictor, Answer(target, is_class, 0.5 if is_class else None))


def slope_of(space: LinearSpace, network: DiskBrightness | None = None) -> torch.Tensor:
    """b (D,) with f(G(z)) = bᵀz + c."""
    network = network or DiskBrightness()
    weight = (network.gain * network.mask).detach()
    return torch.einsum("dhw,hw->d", space.pictures, weight)


def angle_cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first, second, 0))


def to_unit() -> ScaleIntensityRange:
    return ScaleIntensityRange(*WINDOW, -1.0, 1.0)


def pixels(image: torch.Tensor) -> np.ndarray:
    """An image (1, I, J) in [-1, 1] as the values (I, J, 1) of a scan in the window."""
    low, high = WINDOW
    return ((image[0].numpy() + 1) / 2 * (high - low) + low)[..., None].astype(np.float32)


def stored(space: LinearSpace, **described: object) -> SimpleNamespace:
    """The space as a generator that was loaded from a folder."""
    description = {
        "name": "disks",
        "window": WINDOW,
        "spacing": (0.0, 0.0),
        "plane": "",
        "training": {},
        "explained_model": "",
        "target": "",
        **described,
    }
    return SimpleNamespace(
        space=space, description=SimpleNamespace(**description), digest="2" * 64, source=Path("memory")
    )
