"""Small segmentation bundles and scans for tests, with known causes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import UNet
from safetensors.torch import save_file
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume

OBLIQUE = np.array([[1.4, 0.35, 0.1, -31.0], [-0.3, 1.6, 0.25, 12.0], [0.02, -0.2, -2.1, 40.0], [0.0, 0.0, 0.0, 1.0]])
"""Oblique, left-handed and anisotropic."""

SMALL_UNET = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "INSTANCE",
}


def write_bundle(
    folder: Path,
    network: torch.nn.Module,
    definition: dict,
    *,
    transforms: list[dict] | None = None,
    inferer: dict | None = None,
    explanation: dict | None = None,
) -> Path:
    """A MONAI bundle of a network, in ``folder``."""
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    config: dict = {"network_def": definition}
    if transforms:
        config["preprocessing"] = {"_target_": "Compose", "transforms": transforms}
    if inferer:
        config["inferer"] = {"_target_": "SlidingWindowInferer", **inferer}
    (folder / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    settings = {"task": "segmentation", **(explanation or {})}
    (folder / "configs" / "explanation.json").write_text(json.dumps(settings), encoding="utf-8")
    state = {name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}
    save_file(state, str(folder / "models" / "model.safetensors"))
    return folder


def random_unet_bundle(folder: Path, **more) -> Path:
    torch.manual_seed(0)
    network = UNet(**SMALL_UNET).eval()
    return write_bundle(
        folder,
        network,
        {"_target_": "UNet", **SMALL_UNET},
        inferer={"roi_size": [16, 16, 16], "overlap": 0.5, "mode": "gaussian", "sw_batch_size": 2},
        **more,
    )


def bright_bundle(folder: Path, channels: int = 1, **more) -> Path:
    """Segments what is brighter than 1 in the first channel: logits are exactly linear in the scan."""
    definition = {"_target_": "torch.nn.Conv3d", "in_channels": channels, "out_channels": 2, "kernel_size": 1}
    network = torch.nn.Conv3d(channels, 2, 1)
    with torch.no_grad():
        network.weight.zero_()
        network.weight[1, 0] = 4.0
        network.bias.copy_(torch.tensor([0.0, -4.0]))
    return write_bundle(
        folder,
        network,
        definition,
        explanation={"labels": ["background", "bright"]},
        inferer={"roi_size": [12, 12, 12], "overlap": 0.5, "mode": "gaussian"},
        **more,
    )


def bright_scan(path: Path, affine: np.ndarray = OBLIQUE, size=(24, 20, 18), noise: float = 0.1) -> np.ndarray:
    """A scan with one bright block at voxels 8-12, 6-10, 5-9; returns the block's mask."""
    generator = np.random.default_rng(0)
    array = (noise * generator.standard_normal(size)).astype(np.float32)
    mask = np.zeros(size, bool)
    mask[8:13, 6:11, 5:10] = True
    array[mask] += 2.0
    write_volume(path, Volume(array, Grid(size, affine)))
    return mask
