"""Write the trained classifier as a MONAI bundle, with what SlicerXAI needs to explain it.

Besides the weights: reference statistics of the bottleneck's layer and, for each method of locating lesions, the map
values that healthy lung hardly ever reaches. Both come from lesion-free slices of the training anatomies.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from xaiengine.attribution.statistics import StatisticsAccumulator
from xaiengine.grid import Grid
from xaiengine.lesions.pipeline import restore_density
from xaiengine.lesions.settings import LesionSettings
from xaiengine.lesions.slice_maps import add_activations, explain_slices, predict_slices, slices_of
from xaiengine.models.explained_model import ExplainedModel
from xaiengine.preprocessing import preprocess
from xaiengine.volume import Volume

from cohort import Anatomy

NAME = "lung_lesion_slice_classifier"
LABELS = ("no lesion", "lesion")
TARGET = 1
REFERENCE = "models/reference_statistics.safetensors"
SHARES = (0.0003, 0.001, 0.003, 0.01, 0.03)
LUNG_SLICE_MM2 = 3000.0


def volume_of(hu: np.ndarray, spacing: Sequence[float], name: str = "") -> Volume:
    """A volume with RAS axes from HU (I, J, K)."""
    return Volume(hu.astype(np.int16), Grid.from_directions(hu.shape, spacing), name, "HU")


def inference_config(network: dict[str, Any], pixel_mm: float, window: tuple[float, float]) -> dict[str, Any]:
    keys = {"keys": "image"}
    return {
        "network_def": network,
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", **keys},
                {"_target_": "EnsureChannelFirstd", **keys},
                {"_target_": "Orientationd", **keys, "axcodes": "RAS"},
                {"_target_": "Spacingd", **keys, "pixdim": [pixel_mm, pixel_mm, -1.0], "mode": "bilinear"},
                {
                    "_target_": "ScaleIntensityRanged",
                    **keys,
                    "a_min": window[0],
                    "a_max": window[1],
                    "b_min": 0.0,
                    "b_max": 1.0,
                    "clip": True,
                },
            ],
        },
    }


def explanation_config(layer: str, defaults: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    return {
        "name": NAME,
        "task": "classification",
        "labels": list(LABELS),
        "target": LABELS[TARGET],
        "activation": "softmax",
        "inference": {"kind": "slices", "plane": "axial"},
        "layers": [layer],
        "reference": REFERENCE,
        "defaults": {"quantify-lesions": defaults},
        "notes": list(notes),
    }


def metadata_config(pixel_mm: float, window: tuple[float, float], version: str, versions: dict[str, str]) -> dict[str, Any]:
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": version,
        "changelog": {version: "first version"},
        **versions,
        "name": NAME,
        "task": "Classification of axial chest CT slices: lesion present or not",
        "description": "Small demo classifier trained on slice labels of CT anatomies with planted lesions. Research only.",
        "authors": "SlicerXAI",
        "copyright": "Apache-2.0; see docs/README.md for the data's licences",
        "intended_use": "Demonstration and tests of explanation methods. Not for diagnosis.",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "hounsfield",
                    "modality": "CT",
                    "num_channels": 1,
                    "spatial_shape": ["8*n", "8*n"],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {"0": f"CT, {window[0]:g} to {window[1]:g} HU scaled to 0..1, {pixel_mm:g} mm pixels"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classification",
                    "num_channels": len(LABELS),
                    "spatial_shape": [1],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {str(index): label for index, label in enumerate(LABELS)},
                }
            },
        },
    }


def write_configs(folder: Path, **contents: dict[str, Any]) -> None:
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / "configs" / f"{name}.json").write_text(text, encoding="utf-8", newline="\n")


def write_weights(folder: Path, model: torch.nn.Module) -> None:
    """The weights as float32 safetensors, without the batch counters."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    save_file(state, folder / "models" / "model.safetensors")


def healthy_rows(anatomy: Anatomy, count: int) -> np.ndarray:
    """Up to ``count`` slices, evenly spread, that show lung and no lesion."""
    area = anatomy.lungs.sum((0, 1)) * anatomy.spacing[0] * anatomy.spacing[1]
    rows = np.flatnonzero(anatomy.healthy & (area > LUNG_SLICE_MM2))
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]


def fit_reference(model: ExplainedModel, layer: str, anatomies: Sequence[Anatomy], path: Path, rows: int = 40) -> None:
    """Statistics per channel of the layer over healthy slices."""
    found = StatisticsAccumulator("channel")
    lowest = float("inf")
    for anatomy in anatomies:
        prepared = preprocess(volume_of(anatomy.hu, anatomy.spacing), model.preprocessing())
        slices, _ = slices_of(prepared, "axial")
        chosen = healthy_rows(anatomy, rows)
        lowest = min(lowest, add_activations(found, model, layer, slices[chosen]))
    names = ", ".join(anatomy.name for anatomy in anatomies)
    statistics = found.finish(after_relu=lowest >= 0, activity_threshold=0.001)
    statistics.with_metadata(layer=layer, scans=names).save(path)


def calibrate(
    model: ExplainedModel, settings: LesionSettings, anatomies: Sequence[Anatomy], statistics: Any, rows: int = 25
) -> dict[str, float]:
    """Map density that the given shares of healthy lung exceed; the slices are explained whatever their probability."""
    values = []
    for anatomy in anatomies:
        volume = volume_of(anatomy.hu, anatomy.spacing)
        prepared = preprocess(volume, model.preprocessing())
        slices, _ = slices_of(prepared, "axial")
        chosen = healthy_rows(anatomy, rows)
        probability = predict_slices(model, slices, TARGET)
        maps = explain_slices(
            model, prepared, settings, TARGET, probability=probability, statistics=statistics, rows=chosen.tolist()
        )
        density = restore_density(maps, volume.grid)[:, :, chosen]
        values.append(density[anatomy.lungs[:, :, chosen]])
    together = np.concatenate(values)
    return {f"{share:g}": float(np.quantile(together, 1 - share)) for share in SHARES}
