"""A small segmentation network of an organ, as weights with a description."""

import json

import torch
from monai.networks.nets import UNet

UNET = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8, 16], "strides": [2, 2]}


def organ_weights(folder):
    torch.manual_seed(0)
    torch.save(UNet(**UNET).state_dict(), folder / "organ.pth")
    return folder / "organ.pth"


def describe_organ(weights):
    content = {
        "network": {"_target_": "UNet", **UNET},
        "task": "segmentation",
        "labels": ["background", "organ"],
        "target": "organ",
        "inference": {"kind": "sliding_window", "roi_size": [32, 32, 32]},
        "preprocessing": [
            {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 2.0], "mode": "bilinear"},
            {"_target_": "ScaleIntensityd", "keys": "image"},
        ],
    }
    weights.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
    return weights
