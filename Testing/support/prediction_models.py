"""Models in memory whose answer has a known cause: a bright ball, wherever it lies. For the explanation tasks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from monai.transforms import EnsureChannelFirst, Orientation, ScaleIntensityRange, Spacing
from torch import nn
from xaiengine.models.explained_model import ExplainedModel, Inferer

BRIGHT = 300
"""HU of the ball; soft tissue has 40."""


class BrightBall(nn.Module):
    """Counts smoothed voxels brighter than soft tissue; the last layer turns the count into ``outputs`` numbers."""

    def __init__(self, spatial_dims: int, head: torch.Tensor) -> None:
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
        pooling = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[spatial_dims]
        self.bright = nn.Sequential(convolution(1, 2, 3, padding=1), nn.ReLU())
        self.pooled = pooling(2)
        self.late = nn.Sequential(convolution(2, 2, 1), nn.ReLU())
        self.head = nn.Linear(2, len(head))
        with torch.no_grad():
            self.bright[0].weight.fill_(1 / 3**spatial_dims)
            self.bright[0].bias.copy_(torch.tensor([-0.78, -0.85]))
            self.late[0].weight.copy_(torch.eye(2).reshape(2, 2, *[1] * spatial_dims))
            self.late[0].bias.zero_()
            self.head.weight.copy_(head[:, None].expand(-1, 2))
            self.head.bias.zero_()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.late(self.pooled(self.bright(inputs)))
        return self.head(features.flatten(2).sum(-1))


def transforms(spacing: float | None) -> list:
    """HU -1000..400 to 0..1; optionally axes turned to RAS and resampled."""
    moved = [Orientation("RAS"), Spacing((spacing,) * 3, mode="bilinear")] if spacing else []
    return [EnsureChannelFirst(), *moved, ScaleIntensityRange(-1000, 400, 0.0, 1.0, clip=True)]


def model_of(
    task: str = "classification",
    spatial_dims: int = 3,
    *,
    head: tuple[float, ...] = (-0.05, 0.05),
    labels: tuple[str, ...] = ("healthy", "ball"),
    activation: str = "softmax",
    spacing: float | None = 3.0,
    **more: object,
) -> ExplainedModel:
    network = BrightBall(spatial_dims, torch.tensor(head)).eval()
    return ExplainedModel(
        name="bright ball",
        network=network,
        task=task,
        labels=labels,
        digest="0" * 64,
        source=Path("memory"),
        format="memory",
        spatial_dims=spatial_dims,
        activation=activation,
        preprocessing=lambda: transforms(spacing),
        inferer=Inferer("whole" if spatial_dims == 3 else "slices"),
        **more,
    )


def session_with(model: ExplainedModel) -> SimpleNamespace:
    """A session that gives this model whatever is asked for."""
    return SimpleNamespace(model=lambda name, device, trust=False: model)
