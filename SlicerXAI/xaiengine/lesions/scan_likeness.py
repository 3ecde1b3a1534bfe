"""Is this scan like the scans that the model was trained on? If not, its burden is not to be trusted, and says so.

Two kinds of evidence. Plain numbers of the scan that a reader can check: noise, slice distance, lung volume, share of
dense lung. And what the model itself sees: the mean response of every channel of the explained layer, slice by slice,
measured in standard deviations over the training slices. Cropped fields of view, leaking lungs, contrast agent and
kernels that were never seen show there at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..core.number_text import significant
from ..io.grid import Grid
from ..network.layers import find_layer
from .lungs.lungs import Lungs

if TYPE_CHECKING:
    from ..models.explained_model import ExplainedModel

MEASURES = {
    "noise_hu": ("noise of the aerated lung", "HU"),
    "slice_mm": ("distance of slices", "mm"),
    "lung_ml": ("volume of the lungs", "mL"),
    "dense_percent": ("share of the lungs above -500 HU", "%"),
    "feature_distance": ("distance of what the model sees from its training slices", "SD"),
}
AERATED_HU = -600.0
DENSE_HU = -500.0
LUNG_SLICE_MM2 = 3000.0
SMALLEST_SPREAD = 0.2
"""Channels that hardly vary over the training slices count with at least this share of the mean spread."""

TENSORS = ("training_mean", "training_sd")
ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class ScanLikeness:
    """``values`` of the scan and the ``ranges`` (low, high) of the training scans, by name of the measure."""

    values: Mapping[str, float]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def unlike(self) -> tuple[str, ...]:
        """Measures outside the training scans' range."""
        return tuple(
            name
            for name, (low, high) in self.ranges.items()
            if name in self.values and not low <= self.values[name] <= high
        )

    @property
    def warning(self) -> str:
        """One sentence for the reader of the burden; empty for a scan like the training scans."""
        if not self.unlike:
            return ""
        parts = []
        for name in self.unlike:
            words, unit = MEASURES[name]
            low, high = (significant(value) for value in self.ranges[name])
            parts.append(f"{words} ({significant(self.values[name])} {unit}; training scans {low} to {high})")
        return f"This scan is unlike the training scans in {', '.join(parts)}: do not trust the burden."

    def rows(self) -> list[dict[str, Any]]:
        """One row per measure: value, range, whether it fits."""
        found = []
        for name, value in self.values.items():
            words, unit = MEASURES[name]
            low, high = self.ranges.get(name, (float("nan"), float("nan")))
            known = name in self.ranges
            fits = ("no" if name in self.unlike else "yes") if known else "not known"
            found.append(
                {
                    "measure": words,
                    "this scan": value,
                    "unit": unit,
                    "training from": low if known else None,
                    "training to": high if known else None,
                    "like the training scans": fits,
                }
            )
        return found


def scan_measures(hu: np.ndarray, lungs: Lungs, grid: Grid, slice_axis: int) -> dict[str, float]:
    """Noise, slice distance, lung volume and dense share, by the names of :data:`MEASURES`.

    The noise is the robust SD of differences of neighbors within a slice, in aerated lung, over the root of 2.
    ``hu`` (I, J, K) in Hounsfield units on ``grid``.
    """
    combined = lungs.combined
    inside = combined & (hu < AERATED_HU)
    differences = []
    for axis in range(3):
        if axis == slice_axis:
            continue
        pair = [slice(None)] * 3
        pair[axis] = slice(1, None)
        other = [slice(None)] * 3
        other[axis] = slice(None, -1)
        first, second = tuple(pair), tuple(other)
        both = inside[first] & inside[second]
        differences.append(hu[first][both].astype(np.float32) - hu[second][both])
    together = np.concatenate(differences)
    spread = float(np.median(np.abs(together - np.median(together)))) if together.size else float("nan")
    return {
        "noise_hu": 1.4826 * spread / np.sqrt(2.0),
        "slice_mm": float(grid.spacing[slice_axis]),
        "lung_ml": lungs.total_ml,
        "dense_percent": 100.0 * float((hu[combined] > DENSE_HU).mean()) if combined.any() else float("nan"),
    }


def slice_features(model: ExplainedModel, layer: str, slices: torch.Tensor) -> torch.Tensor:
    """Mean response (n, C) of every channel of a layer over each slice (n, C, a, b)."""
    found: list[torch.Tensor] = []
    hook = find_layer(model.network, layer).register_forward_hook(
        lambda module, inputs, output: found.append(output.detach().flatten(2).mean(2).float().cpu())
    )
    try:
        with torch.no_grad():
            for chunk in slices.split(ROWS_AT_ONCE):
                model.predict(chunk)
    finally:
        hook.remove()
    return torch.cat(found)


def feature_distance(features: torch.Tensor, mean: torch.Tensor, sd: torch.Tensor) -> float:
    """Median over slices of the root mean square, over channels, of (features - mean) / sd."""
    spread = sd.clamp_min(float(sd.mean()) * SMALLEST_SPREAD)
    return float((((features - mean) / spread) ** 2).mean(1).sqrt().median())


def compare_with_training(
    model: ExplainedModel,
    layer: str,
    slices: torch.Tensor,
    lung_area_mm2: np.ndarray,
    measures: Mapping[str, float],
    ranges: Mapping[str, tuple[float, float]],
) -> ScanLikeness:
    """The scan beside the training scans. ``lung_area_mm2`` (n,) of each slice: those with little lung say nothing.

    The training slices' features are the tensors ``training_mean`` and ``training_sd`` of the model's reference file;
    without them, and for layers that they do not belong to, the plain measures are compared alone.
    """
    values = dict(measures)
    brought = model.read_reference() if ranges else None
    rows = np.flatnonzero(lung_area_mm2 > LUNG_SLICE_MM2)
    if brought is not None and rows.size and all(name in brought[0] for name in TENSORS):
        tensors, metadata = brought
        if metadata.get("user.layer", layer) == layer:
            features = slice_features(model, layer, slices[rows])
            mean, sd = (tensors[name] for name in TENSORS)
            if features.shape[1] == mean.shape[0]:
                values["feature_distance"] = feature_distance(features, mean, sd)
    return ScanLikeness(values, dict(ranges))
