"""deepbet's brain segmentation (PyPI ``deepbet``, MIT): its TorchScript file, and an eager twin with layers.

TorchScript shows no layers. The twin has the same weights by the same names and gives the same numbers, so that
methods at layers can be used too; it ends in logits instead of a softmax.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from torch import nn

WEIGHTS = "data/models/bbox_model.pt"
SIZE = 128
PREPROCESSING = [
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {"_target_": "Resized", "keys": "image", "spatial_size": [SIZE] * 3, "mode": "nearest-exact"},
    {
        "_target_": "ScaleIntensityRangePercentilesd",
        "keys": "image",
        "lower": 0.5,
        "upper": 99.5,
        "b_min": 0.0,
        "b_max": 1.0,
        "clip": True,
    },
    # (x - mean) / SD · 0.226 + 0.449, as in training
    {"_target_": "NormalizeIntensityd", "keys": "image"},
    {"_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": -0.449 / 0.226, "divisor": 1 / 0.226},
]


def weights_file() -> Path:
    """deepbet's file for whole heads at 128³, as its wheel installs it. Raises FileNotFoundError."""
    import importlib.util

    spec = importlib.util.find_spec("deepbet")
    path = Path(next(iter(spec.submodule_search_locations))).parent / WEIGHTS if spec else Path(WEIGHTS)
    if not path.is_file():
        raise FileNotFoundError("deepbet is not installed; run: pip install --no-deps deepbet==1.0.2")
    return path


def torchscript_model(folder: Path) -> Path:
    """deepbet's TorchScript with the small JSON file that says what it takes; returns the model's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "deepbet.pt"
    shutil.copyfile(weights_file(), path)
    description = {
        "name": "deepbet",
        "task": "segmentation",
        "labels": ["background", "brain"],
        "target": "brain",
        "activation": "none",
        "spatial_dims": 3,
        "in_channels": 1,
        "input_size": [SIZE] * 3,
        "preprocessing": PREPROCESSING,
        "notes": ["deepbet 1.0.2 (Fisch et al., MIT), its network for whole heads."],
    }
    path.with_suffix(".json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return path


def eager_twin() -> LinkNet3d:
    """The eager network with deepbet's weights, loaded strictly."""
    network = LinkNet3d()
    scripted = torch.jit.load(str(weights_file()), map_location="cpu")
    network.load_state_dict(scripted.state_dict(), strict=True)
    return network.eval()


def _unit(convolution: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.InstanceNorm3d(channels), nn.ReLU())


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv3d(inside, outside, 3, stride, 1, bias=False),
            nn.InstanceNorm3d(outside),
            nn.ReLU(),
            nn.Conv3d(outside, outside, 3, 1, 1, bias=False),
            nn.InstanceNorm3d(outside),
        )
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv3d(inside, outside, 1, stride, bias=False), nn.InstanceNorm3d(outside)
            )
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        beside = self.downsample(x) if hasattr(self, "downsample") else x
        return self.act(self.double_conv(x) + beside)


class _Down(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.block1 = _Block(inside, outside, stride)
        self.block2 = _Block(outside, outside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block2(self.block1(x))


class _Up(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        middle = inside // 4
        self.conv1 = _unit(nn.Conv3d(inside, middle, 1, bias=False), middle)
        transposed = nn.ConvTranspose3d(middle, middle, 3, stride, 1, output_padding=stride - 1, bias=False)
        self.tp_conv = _unit(transposed, middle)
        self.conv2 = _unit(nn.Conv3d(middle, outside, 1, bias=False), outside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.tp_conv(self.conv1(x)))


class LinkNet3d(nn.Module):
    """(N, 1, D, H, W) to logits (N, 2, D, H, W); sizes divisible by 32. Chaurasia and Culurciello 2017, in 3D."""

    def __init__(self) -> None:
        super().__init__()
        self.init = nn.Sequential(
            nn.Conv3d(1, 16, 7, 2, 3, bias=False), nn.InstanceNorm3d(16), nn.ReLU(), nn.MaxPool3d(3, 2, 1)
        )
        self.down0, self.down1 = _Down(16, 16, 1), _Down(16, 32, 2)
        self.down2, self.down3 = _Down(32, 64, 2), _Down(64, 128, 2)
        self.up0, self.up1 = _Up(128, 64, 2), _Up(64, 32, 2)
        self.up2, self.up3 = _Up(32, 16, 2), _Up(16, 16, 1)
        self.tp_conv1 = _unit(nn.ConvTranspose3d(16, 8, 3, 2, 1, output_padding=1), 8)
        self.conv = _unit(nn.Conv3d(8, 8, 3, 1, 1), 8)
        self.tp_conv2 = nn.ConvTranspose3d(8, 2, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.init(x)
        d0 = self.down0(first)
        d1 = self.down1(d0)
        d2 = self.down2(d1)
        x = self.up0(self.down3(d2)) + d2
        x = self.up1(x) + d1
        x = self.up2(x) + d0
        x = self.up3(x) + first
        return self.tp_conv2(self.conv(self.tp_conv1(x)))
