"""A prediction as a case: what is asked of it in plain values, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..attribution.baselines import BaselineKind, baseline_like
from ..attribution.bottleneck.information import own_statistics
from ..attribution.bottleneck.reference_store import find_examples, find_statistics
from ..attribution.bottleneck.statistics import ReferenceStatistics
from ..attribution.case_advice import advised
from ..attribution.feature_maps import default_layers, spatial_layers
from ..attribution.forward import RowByRow
from ..attribution.whole_case import WholeCase
from ..core.errors import ModelError, OptionError
from ..core.progress import Progress
from ..inference.preprocessing import preprocess
from ..inference.scan_view import ScanView
from ..io.resample import resample
from ..io.volume import Volume
from ..targets.targets import Target

MOST_REFERENCE_SLICES = 128
Warn = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class PredictionSettings:
    """How a prediction is explained. ``roi`` is a mask (I, J, K), ``regions`` are labels (I, J, K), both on the scan's
    own grid; ``baseline_scan`` serves the baseline ``scan``."""

    layers: tuple[str, ...] = ()
    baseline: BaselineKind = "auto"
    baseline_value: float = 0.0
    baseline_scan: Volume | None = None
    roi: np.ndarray | None = None
    regions: np.ndarray | None = None
    methods: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 0
    seed: int = 0


def prediction_case(
    view: ScanView,
    target: Target,
    rows: np.ndarray,
    settings: PredictionSettings,
    *,
    progress: Progress | None = None,
    warn: Warn = lambda text: None,
) -> WholeCase:
    """The case of the chosen samples, with layers, baseline, regions and statistics."""
    model, device = view.model, view.model.device
    inputs = view.samples[rows].to(device)
    layers, bottlenecks = chosen_layers(view, inputs[:1], settings.layers)
    network, select_output = model.network, model.select_output
    if not model.capabilities.free_batch:
        network, select_output = RowByRow(network, select_output), lambda output: output
    case = WholeCase(
        network=network,
        target=target,
        inputs=inputs,
        baseline=_baseline(view, rows, inputs, settings),
        spacing=view.spacing,
        layers=tuple(layers),
        bottleneck_layers=tuple(bottlenecks),
        statistics=StatisticsOfScan(view, warn),
        select_output=select_output,
        examples=lambda: find_examples(model),
        settings=settings.methods,
        roi=None if settings.roi is None else _roi(view, rows, settings.roi).to(device),
        segments=None if settings.regions is None else _rows(view, rows, settings.regions),
        seed=settings.seed,
        batch_size=settings.batch_size,
        progress=progress,
        capabilities=model.capabilities,
    )
    return advised(case, settings.baseline == "auto", warn)


def chosen_layers(view: ScanView, row: torch.Tensor, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Layers of CAMs and layer methods (deepest last), and of bottlenecks (earliest first)."""
    network, model = view.model.network, view.model
    if not model.capabilities.layers:
        return [], []

    def forward(inputs: torch.Tensor) -> Any:
        return model.select_output(network(inputs))

    if names:
        order = list(spatial_layers(forward, network, row))
        ordered = sorted(names, key=lambda name: order.index(name) if name in order else len(order))
        return ordered, ordered
    try:
        deepest = default_layers(forward, network, row)
        spread = default_layers(forward, network, row, 3)
    except ModelError:  # methods that need a layer will say so
        return [], []
    known = spatial_layers(forward, network, row)
    own = [name for name in model.layers if name in known]
    return deepest, [own[0], *[name for name in spread if name != own[0]][-2:]] if own else spread


class StatisticsOfScan:
    """Reference statistics by layer: fitted or shipped ones, else those of the scan's own samples."""

    def __init__(self, view: ScanView, warn: Warn) -> None:
        self._view, self._warn = view, warn
        self._known: dict[str, ReferenceStatistics] = {}

    def __call__(self, layer: str) -> ReferenceStatistics:
        if layer not in self._known:
            self._known[layer] = self._find(layer)
        return self._known[layer]

    def _find(self, layer: str) -> ReferenceStatistics:
        model = self._view.model
        found = find_statistics(model, layer)
        if found is not None:
            return found
        self._warn(
            f"There are no reference statistics for {layer} of {model.name}; the scan's own were used, so bits are "
            "not quantitative: they cannot be compared between scans. The task fit-reference makes them from a "
            "folder of healthy scans."
        )
        count = len(self._view.samples)
        chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_REFERENCE_SLICES)).round().astype(int))
        return own_statistics(model.network, layer, self._view.samples[chosen].to(model.device))


def brought_scan(other: Volume | None, scan: Volume, model: Any) -> torch.Tensor:
    """A baseline scan (C, I, J, K), at the scan's place in the patient and preprocessed as it.

    Raises OptionError when there is none.
    """
    if other is None:
        raise OptionError("The baseline is another scan, but none was given.", "Give the option baseline_scan.")
    moved = resample(other.channels_first().astype(np.float32), other.grid, scan.grid, "linear", "edge")
    return preprocess(scan.with_array(moved if len(moved) > 1 else moved[0]), model.preprocessing()).tensor


def _baseline(view: ScanView, rows: np.ndarray, inputs: torch.Tensor, settings: PredictionSettings) -> torch.Tensor:
    if settings.baseline != "scan":
        return baseline_like(inputs, settings.baseline, constant=settings.baseline_value)
    tensor = brought_scan(settings.baseline_scan, view.volume, view.model)
    samples = tensor[None] if view.axis is None else tensor.movedim(view.axis + 1, 0)[rows]
    return baseline_like(inputs, "scan", scan=samples.to(inputs))


def _rows(view: ScanView, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Labels of the scan's grid on the samples."""
    return view.rows_of(view.brought(values, view.volume.grid, nearest=True), rows)


def _roi(view: ScanView, rows: np.ndarray, mask: np.ndarray) -> torch.Tensor:
    chosen = _rows(view, rows, mask.astype(np.uint8)) > 0
    if not chosen.any():
        raise OptionError(
            "The region of interest does not touch the explained part of the scan.", "Choose another region."
        )
    return torch.as_tensor(np.ascontiguousarray(chosen))
