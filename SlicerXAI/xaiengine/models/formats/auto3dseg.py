"""SegResNet bundles of Auto3DSeg, whose preprocessing lies in their scripts and is described by parameters.

Reproduced from the parameters of ``configs/hyper_parameters.yaml``, without the scripts: orientation, crop to the
foreground with a margin of 10 voxels, resampling, normalization, and a Gaussian sliding window with overlap 0.625.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError
from ..explained_model import Inferer
from ..transforms import Preprocessing, TransformSpec
from ..trust.safe_config import SafeConfig

if TYPE_CHECKING:
    import torch

FOREGROUND_MARGIN = 10
OVERLAP = 0.625


def is_auto3dseg(config: SafeConfig) -> bool:
    """Whether the configuration is one of Auto3DSeg's SegResNet template."""
    return "normalize_mode" in config and "roi_size" in config and "network" in config


def auto3dseg_inferer(config: SafeConfig) -> Inferer:
    """The sliding window of the template."""
    roi = tuple(int(size) for size in config.resolve("roi_size"))
    return Inferer("sliding_window", roi_size=roi, overlap=OVERLAP, blending="gaussian")


def auto3dseg_labels(config: SafeConfig, outputs: int) -> tuple[str, ...]:
    """Class names with the background that the template leaves out; empty when they do not fit."""
    names = config.get("class_names")
    if not isinstance(names, list):
        return ()
    named = [str(item["name"]) if isinstance(item, Mapping) and "name" in item else str(item) for item in names]
    labels = tuple(named) if config.get("sigmoid") else ("background", *named)
    return labels if len(labels) == outputs else ()


def auto3dseg_preprocessing(config: SafeConfig) -> Preprocessing:
    """The template's steps for the image.

    Raises:
        ModelError: a normalization that is not known, or several modalities with different ones.
    """
    if config.get("extra_modalities"):
        raise ModelError(
            "The Auto3DSeg model mixes modalities (extra_modalities), which is not supported.",
            "Write a bundle whose preprocessing names the steps.",
        )
    specs: list[Any] = []
    if config.get("orientation_ras", False):
        specs.append(TransformSpec("Orientation", {"axcodes": "RAS"}))
    if config.get("crop_foreground", True):
        specs.append(TransformSpec("CropForeground", {"margin": FOREGROUND_MARGIN, "allow_smaller": True}))
    if config.get("resample", False):
        pixdim = [float(size) for size in config.resolve("resample_resolution")]
        limits = {"min_pixdim": [size * 0.75 for size in pixdim], "max_pixdim": [size * 1.25 for size in pixdim]}
        specs.append(TransformSpec("Spacing", {"pixdim": pixdim, "mode": "bilinear", **limits}))
    return Preprocessing((*specs, *_normalization(config)))


def _normalization(config: SafeConfig) -> list[Any]:
    mode = str(config.resolve("normalize_mode"))
    if mode in ("range", "ct"):
        low, high = config.get("intensity_bounds") or (-250, 250)
        scaled = {"a_min": float(low), "a_max": float(high), "b_min": -1.0, "b_max": 1.0, "clip": False}
        return [TransformSpec("ScaleIntensityRange", scaled), CurveSpec("sigmoid")]
    normalized = TransformSpec("NormalizeIntensity", {"nonzero": True, "channel_wise": True})
    if mode in ("meanstd", "mri"):
        return [normalized]
    if mode == "meanstdtanh":
        return [normalized, CurveSpec("tanh")]
    if mode == "pet":
        return [CurveSpec("pet")]
    if mode == "none":
        return []
    raise ModelError(f"The normalization {mode!r} of the Auto3DSeg model is not known.", "Known: ct, mri, pet, none.")


@dataclass(frozen=True)
class CurveSpec:
    """One of the template's pointwise curves, as a step that can be built again."""

    kind: str

    def build(self) -> IntensityCurve:
        return IntensityCurve(self.kind)


class IntensityCurve:
    """Intensities through a curve: ``sigmoid`` x, ``tanh`` 3 tanh(x/3), ``pet`` sigmoid((x - min) / SD)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        import torch

        if self.kind == "sigmoid":
            return torch.sigmoid(image)
        if self.kind == "tanh":
            return 3 * torch.tanh(image / 3)
        return torch.sigmoid((image - image.min()) / image.std())
