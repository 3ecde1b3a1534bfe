"""Write the trained classifier as a MONAI bundle, with what SlicerXAI needs to explain it.

Besides the weights: reference statistics of the bottleneck's layer and, for each method of locating lesions, the map
values that healthy lung hardly ever reaches. Both come from lesion-free slices of the training anatomies.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planting
import torch
from cohort import Anatomy
from safetensors.torch import save_file
from scipy import ndimage
from slices import OUTSIDE_HU
from xaiengine.attribution.bottleneck.statistics import ReferenceStatistics, StatisticsAccumulator
from xaiengine.inference.preprocessing import preprocess
from xaiengine.io.grid import Grid
from xaiengine.io.resample import resample
from xaiengine.io.tensor_file import read_tensors, write_tensors
from xaiengine.io.volume import Volume
from xaiengine.lesions.pipeline import restore_density
from xaiengine.lesions.scan_likeness import TENSORS, slice_features
from xaiengine.lesions.settings import LesionSettings
from xaiengine.lesions.slice_maps import explain_slices, predict_slices, slices_of
from xaiengine.models.explained_model import ExplainedModel
from xaiengine.models.loading import load
from xaiengine.network.feature_grid import feature_grid
from xaiengine.network.layers import find_layer

NAME = "lung_lesion_slice_classifier"
LABELS = ("no lesion", "lesion")
TARGET = 1
REFERENCE = "models/reference_statistics.safetensors"
SHARES = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
CALIBRATION = ((0.005, "mass"), (0.02, "consolidation"), (0.05, "ground_glass"), (0.2, "mixed"))
VERSIONS = {"monai_version": "1.6.0", "pytorch_version": "2.6.0", "numpy_version": "1.26.0"}
NOTES = ("Trained on a few CT anatomies with planted lesions: a demonstration, not a diagnostic tool.",)
DEFAULTS: dict[str, Any] = {
    "method": "inverse-iba",
    "beta": 0.3,
    "minimum_probability": 0.4,
    "outside_lungs": OUTSIDE_HU,
    "threshold_method": "calibrated",
    "minimum_volume": 1.0,
    "denser_than": -600.0,
    "growth": 4.0,
    "smoothing": 1.0,
    "closing": 2.0,
    "sure_probability": 0.75,
    "minimum_extent": 4.0,
    "relative_peak": 0.5,
    "training_scans": {
        "noise_hu": (3.0, 80.0),
        "slice_mm": (0.8, 10.5),
        "lung_ml": (1500.0, 9000.0),
        "dense_percent": (0.0, 50.0),
        "feature_distance": (0.0, 2.2),
    },
    "methods": {
        "inverse-iba": {"layer": "features.5", "healthy_fraction": 0.02},
        "iba": {"layer": "features.5", "healthy_fraction": 0.01},
        "grad-cam": {"layer": "features.6", "healthy_fraction": 0.003},
        "grad-cam++": {"layer": "features.5", "healthy_fraction": 0.005},
    },
}
"""The task's settings; each method at the layer and with the share that served it best on plantings
in the held-out chest with other seeds than the benchmark's."""
LUNG_SLICE_MM2 = 3000.0
BURDENS_SEEN = (*CALIBRATION, (0.5, "mixed"))


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


def metadata_config(
    pixel_mm: float, window: tuple[float, float], version: str, versions: dict[str, str]
) -> dict[str, Any]:
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": version,
        "changelog": {version: "first version"},
        **versions,
        "name": NAME,
        "task": "Classification of axial chest CT slices: lesion present or not",
        "description": "Small classifier trained on slice labels of CTs with planted lesions. Research only.",
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
                    "channel_def": {
                        "0": f"CT, {window[0]:g} to {window[1]:g} HU scaled to 0..1, {pixel_mm:g} mm pixels"
                    },
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
    state = {
        key: value.contiguous() for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")
    }
    path = folder / "models" / "model.safetensors"
    save_file(state, path)
    path.chmod(0o644)


def healthy_rows(anatomy: Anatomy, count: int) -> np.ndarray:
    """Up to ``count`` slices, evenly spread, that show lung and no lesion."""
    area = anatomy.lungs.sum((0, 1)) * anatomy.spacing[0] * anatomy.spacing[1]
    rows = np.flatnonzero(anatomy.healthy & (area > LUNG_SLICE_MM2))
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]


def lung_view(anatomy: Anatomy) -> Volume:
    """What the classifier sees of an anatomy: its lungs, and air around them."""
    return volume_of(np.where(anatomy.lungs, anatomy.hu, OUTSIDE_HU), anatomy.spacing, anatomy.name)


def fit_reference(
    model: ExplainedModel, layer: str, anatomies: Sequence[Anatomy], rows: int = 40, after_relu: bool = True
) -> ReferenceStatistics:
    """Statistics per channel of the layer over the cells of healthy slices that lie in the lungs."""
    found = StatisticsAccumulator("channel")
    for anatomy in anatomies:
        prepared = preprocess(lung_view(anatomy), model.preprocessing())
        slices, _ = slices_of(prepared, "axial")
        chosen = healthy_rows(anatomy, rows)
        cells = feature_grid(model.network, layer, slices[:1])
        grid = Grid((*cells.cells, len(slices)), cells.affine(prepared.grid.affine, (0, 1)))
        lung = volume_of(anatomy.lungs, anatomy.spacing)
        inside = resample(lung.array.astype(np.float32), lung.grid, grid, "linear", outside=0.0) > 0.9
        for row in chosen:
            activation = _activation(model, layer, slices[row : row + 1])
            picked = activation[0][:, torch.from_numpy(inside[:, :, row])]
            if picked.shape[1]:
                found.add(picked.T.contiguous())
    names = ", ".join(anatomy.name for anatomy in anatomies)
    return found.finish(after_relu=after_relu, activity_threshold=0.0005).with_metadata(layer=layer, scans=names)


def training_features(
    model: ExplainedModel, layer: str, anatomies: Sequence[Anatomy], seed: int
) -> dict[str, torch.Tensor]:
    """Mean and standard deviation over the training slices, plain and with lesions, of the layer's mean responses."""
    rng = np.random.default_rng(seed)
    found = []
    for anatomy in anatomies:
        area = anatomy.lungs.sum((0, 1)) * anatomy.spacing[0] * anatomy.spacing[1]
        rows = np.flatnonzero((area > LUNG_SLICE_MM2) & anatomy.usable)
        seen = [anatomy.hu]
        for burden, kind in BURDENS_SEEN:
            seen.append(planting.plant(anatomy.hu, anatomy.lungs, anatomy.spacing, rng, kind=kind, burden=burden).hu)
        for hu in seen:
            slices, _ = slices_of(preprocess(lung_view(replace(anatomy, hu=hu)), model.preprocessing()), "axial")
            found.append(slice_features(model, layer, slices[rows]))
    together = torch.cat(found)
    return dict(zip(TENSORS, (together.mean(0), together.std(0))))


def _activation(model: ExplainedModel, layer: str, batch: torch.Tensor) -> torch.Tensor:
    recorded: list[torch.Tensor] = []
    hook = find_layer(model.network, layer).register_forward_hook(lambda *call: recorded.append(call[2].clone()))
    try:
        model.predict(batch)
    finally:
        hook.remove()
    return recorded[0]


def calibrate(
    model: ExplainedModel,
    settings: LesionSettings,
    anatomies: Sequence[Anatomy],
    statistics: ReferenceStatistics | None,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Map density that the given shares of healthy lung exceed, in slices that the model calls lesion.

    The scans are training anatomies with planted lesions; healthy is the lung more than 8 mm away from them. (A slice
    without lesions is not explained, so its map is empty.)
    """
    values = []
    for anatomy in anatomies:
        for burden, kind in CALIBRATION:
            planted = planting.plant(anatomy.hu, anatomy.lungs, anatomy.spacing, rng, kind=kind, burden=burden)
            volume = lung_view(replace(anatomy, hu=planted.hu))
            prepared = preprocess(volume, model.preprocessing())
            slices, _ = slices_of(prepared, "axial")
            probability = predict_slices(model, slices, TARGET)
            rows = np.flatnonzero((probability >= settings.minimum_probability) & anatomy.usable)
            rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(12, len(rows))).round().astype(int))]
            maps = explain_slices(
                model, prepared, settings, TARGET, probability=probability, statistics=statistics, rows=rows.tolist()
            )
            density = restore_density(maps, volume.grid)[:, :, rows]
            distance = ndimage.distance_transform_edt(~planted.lesions, sampling=anatomy.spacing)[:, :, rows]
            values.append(density[anatomy.lungs[:, :, rows] & (distance > 8.0)])
    together = np.concatenate(values)
    return {f"{share:g}": float(f"{np.quantile(together, 1 - share):.5g}") for share in SHARES}


def complete(
    folder: Path,
    network: torch.nn.Module,
    architecture: dict[str, Any],
    pixel_mm: float,
    window: tuple[float, float],
    anatomies: Sequence[Anatomy],
    seed: int,
) -> None:
    """Write the whole bundle: weights, configurations, reference statistics, calibration."""
    write_weights(folder, network)
    inference = inference_config(architecture, pixel_mm, window)
    metadata = metadata_config(pixel_mm, window, "1.0.0", VERSIONS)
    settings = {key: value for key, value in DEFAULTS.items() if key != "methods"}
    layer = DEFAULTS["methods"][DEFAULTS["method"]]["layer"]
    write_configs(folder, inference=inference, metadata=metadata, explanation=explanation_config(layer, {}, NOTES))
    model = load(folder)
    statistics = fit_reference(model, layer, anatomies)
    statistics.save(folder / REFERENCE)
    tensors, metadata = read_tensors(folder / REFERENCE)
    write_tensors(folder / REFERENCE, {**tensors, **training_features(model, layer, anatomies, seed)}, metadata)
    methods = {}
    for name, method in DEFAULTS["methods"].items():
        chosen = LesionSettings.model_validate({**settings, "method": name, "methods": {name: method}})
        healthy = calibrate(model, chosen, anatomies, statistics, np.random.default_rng(seed))
        methods[name] = {**method, "healthy": healthy}
        print(f"{name} at {method['layer']}: {healthy}", flush=True)
    write_configs(folder, explanation=explanation_config(layer, {**settings, "methods": methods}, NOTES))
