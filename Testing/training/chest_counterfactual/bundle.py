"""Write the demo's classifier as a MONAI bundle, with the reference statistics that its bottleneck needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from classifier import LABELS, NETWORK, TARGET
from safetensors.torch import save_file
from xaiengine.attribution.bottleneck.statistics import StatisticsAccumulator

NAME = "chest_xray_consolidation_classifier"
LAYER = "layer2"
REFERENCE = "models/reference_statistics.safetensors"
SOURCE = "chest X-rays of MedNIST (B. Erickson, Mayo Clinic), CC BY-SA 4.0, with planted consolidations"
_KEYS = {"keys": "image"}


def inference_config() -> dict[str, Any]:
    return {
        "network_def": {"_target_": "monai.networks.nets.ResNet", **NETWORK},
        "preprocessing": {
            "_target_": "monai.transforms.Compose",
            "transforms": [
                {"_target_": "LoadImaged", **_KEYS},
                {"_target_": "EnsureChannelFirstd", **_KEYS},
                {"_target_": "Resized", **_KEYS, "spatial_size": [64, 64, -1], "mode": "trilinear"},
                {
                    "_target_": "ScaleIntensityRanged",
                    **_KEYS,
                    "a_min": 0.0,
                    "a_max": 255.0,
                    "b_min": 0.0,
                    "b_max": 1.0,
                    "clip": True,
                },
            ],
        },
    }


def metadata_config() -> dict[str, Any]:
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "CR",
        "num_channels": 1,
        "spatial_shape": [64, 64],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {"0": "frontal chest X-ray, lungs dark, 0 to 255 scaled to 0..1"},
    }
    probabilities = {
        "type": "probabilities",
        "format": "classification",
        "num_channels": len(LABELS),
        "spatial_shape": [1],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(index): label for index, label in enumerate(LABELS)},
    }
    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": "first version"},
        "monai_version": "1.6.0",
        "pytorch_version": "2.6.0",
        "numpy_version": "1.26.0",
        "name": NAME,
        "task": "Classification of frontal chest X-rays: planted consolidation or not",
        "description": "Its probability follows the extent of planted consolidations. Research only.",
        "authors": "SlicerXAI",
        "copyright": "CC BY-SA 4.0",
        "data_source": SOURCE,
        "intended_use": "Demonstration and tests of explanation methods. Not for diagnosis.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": probabilities}},
    }


def explanation_config() -> dict[str, Any]:
    return {
        "name": NAME,
        "task": "classification",
        "labels": list(LABELS),
        "target": LABELS[TARGET],
        "activation": "softmax",
        "inference": {"kind": "slices", "plane": "axial"},
        "layers": [LAYER],
        "reference": REFERENCE,
        "notes": ["Learned planted consolidations in X-rays of 64 x 64 pixels: a demonstration, not for diagnosis."],
    }


def write_bundle(folder: Path, network: torch.nn.Module, images: torch.Tensor) -> None:
    """Weights, configurations, and the statistics of :data:`LAYER` over training images (n, 1, 64, 64) in 0..1."""
    for part in ("configs", "models", "docs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    configs = {"inference": inference_config(), "metadata": metadata_config(), "explanation": explanation_config()}
    for name, content in configs.items():
        write_json(folder / "configs" / f"{name}.json", content)
    state = {k: v.contiguous() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, folder / "models" / "model.safetensors")
    (folder / "models" / "model.safetensors").chmod(0o644)
    reference_statistics(network, images).save(folder / REFERENCE)


@torch.no_grad()
def reference_statistics(network: torch.nn.Module, images: torch.Tensor) -> Any:
    """Mean and deviation of each channel of the bottleneck's layer over images."""
    found = StatisticsAccumulator("channel")
    layer = network.get_submodule(LAYER)
    hook = layer.register_forward_hook(lambda module, inputs, output: found.add(output))
    try:
        for part in images.split(200):
            network(part)
    finally:
        hook.remove()
    return found.finish(after_relu=False).with_metadata(layer=LAYER, scans=SOURCE)


def write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
