"""Small networks, and what is written beside their files, for the tests of model formats."""

import json

import torch
from torch import nn

TRANSFORMS = [{"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 100, "b_min": 0, "b_max": 1}]
UNET = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
}


class SmallNetwork(nn.Module):
    """A classifier with a branch, a residual sum and a pooled head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU())
        self.third = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, batch):
        features = self.second(self.first(batch))
        features = features + self.third(features)
        return self.head(features.mean((2, 3)))


def small_network():
    torch.manual_seed(0)
    made = SmallNetwork()
    made.first[1].running_mean.normal_(0, 0.2)
    return made.eval()


def small_batch():
    return torch.randn((2, 1, 32, 32), generator=torch.Generator().manual_seed(1))


def describe(path, **content):
    path.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")


def relative(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())
