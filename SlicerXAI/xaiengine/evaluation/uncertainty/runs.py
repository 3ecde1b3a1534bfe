"""The runs over which uncertainty is measured: which there are, and each as a changed case that explains again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from ...attribution.estimate import Estimate
from ...attribution.explanation import Explanation
from ...attribution.forward import Attribution
from ...attribution.registry import AttributionMethod
from ...attribution.results import whole_explanation, window_explanations
from ...attribution.runner import Finished, run_methods
from ...attribution.whole_case import WholeCase
from ...attribution.window_case import WindowCase
from ...core.errors import ModelError, OptionError
from ...core.progress import Progress
from ...inference.scan_view import ScanView
from ...inference.segmentation_preparation import PredictedScan
from ...inference.window_output import WindowNetwork
from ...inference.windows import WindowedModel
from ...models.formats.averaging import fold_of
from ...targets.segmentation_targets import predicted_masks, voxel_scores
from ...targets.targets import predicted_probabilities
from .subnetworks import dropout_layers, dropped_units, fold_count, layer_in_fold

Source = Literal["flips", "dropout", "folds", "seeds"]
SOURCES: tuple[str, ...] = get_args(Source)
TITLES = {
    "flips": "flips of the scan",
    "dropout": "Monte-Carlo dropout",
    "folds": "folds of the ensemble",
    "seeds": "random seeds of the method",
}
KEEPS_FIRST = ("flips", "seeds")
"""Sources for which the reported map is one of the runs; dropped units and single folds are other networks."""
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Variation:
    """One run: ``axes`` (0 to 2 of a sample) are flipped, units are dropped, one fold answers, or the seed differs."""

    source: str
    number: int
    axes: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        if self.source == "flips":
            return "flipped along axis " + " and ".join(str(axis + 1) for axis in self.axes)
        return f"{self.source.removesuffix('s')} {self.number}"

    @contextmanager
    def on(self, network: nn.Module) -> Iterator[None]:
        """The network of this run, inside the block."""
        if self.source == "dropout":
            with dropped_units(network, self.number):
                yield
        else:
            yield


@dataclass(frozen=True, eq=False)
class Run:
    """What one run gave: maps in the patient's coordinates, the explained numbers, and the prediction.

    ``prediction`` are probabilities or volumes in mL by label; ``probability`` (I, J, K) is that of the explained
    class on the network's grid, of segmentations.
    """

    title: str
    maps: tuple[Explanation, ...]
    values: tuple[float, ...]
    prediction: dict[str, float]
    probability: np.ndarray | None = None


def variations(source: str, runs: int, network: nn.Module, axes: Sequence[int]) -> list[Variation]:
    """The runs that a source has, at most ``runs`` of them; ``axes`` can be flipped.

    Raises OptionError for an unknown source, ModelError where the model has nothing to vary.
    """
    if source not in SOURCES:
        raise OptionError(f"There is no uncertainty over {source!r}.", f"Choose from {', '.join(SOURCES)}.")
    if source == "flips":
        combined = [c for count in range(1, len(axes) + 1) for c in itertools.combinations(axes, count)]
        return [Variation(source, number, chosen) for number, chosen in enumerate(combined[:runs], start=1)]
    if source == "dropout" and not dropout_layers(network):
        raise ModelError(
            "The network has no dropout layer, so no units can be dropped.",
            "Measure the uncertainty over flips or seeds.",
        )
    if source == "folds":
        folds = fold_count(network)
        if folds < 2:
            raise ModelError(
                "The model is a single network, not an ensemble of folds.",
                "Give the nnU-Net training with all of its folds, or measure the uncertainty over flips.",
            )
        return [Variation(source, fold) for fold in range(min(folds, runs))]
    return [Variation(source, number) for number in range(1, runs + 1)]


def whole_run(
    variation: Variation,
    methods: Sequence[AttributionMethod],
    case: WholeCase,
    view: ScanView,
    rows: np.ndarray,
    expected: Estimate | None,
    progress: Progress | None,
    warn: Warn,
) -> Run:
    """Explain a prediction again; see :class:`Variation`."""
    changes: dict[str, Any] = {"progress": progress}
    dims = tuple(axis + 2 for axis in variation.axes)
    if dims:
        inner = tuple(dim - 1 for dim in dims)
        changes["inputs"], changes["baseline"] = case.inputs.flip(dims), case.baseline.flip(dims)
        if case.roi is not None:
            changes["roi"] = case.roi.flip(inner)
        if case.segments is not None:
            changes["segments"] = np.ascontiguousarray(np.flip(case.segments, inner))
    if variation.source == "seeds":
        changes["seed"] = case.seed + variation.number
    if variation.source == "folds":
        changes["network"] = fold_of(case.network, variation.number)
        changes["layers"] = tuple(map(layer_in_fold, case.layers))
        changes["bottleneck_layers"] = tuple(map(layer_in_fold, case.bottleneck_layers))
    with variation.on(case.network):
        changed = case.with_(**changes)
        finished = run_methods(changed, methods, expected=expected, warn=warn)
        with torch.no_grad():
            parts = [changed.forward().output(chunk).float().cpu() for chunk in changed.inputs.split(1)]
    outputs = torch.cat(parts)
    back = [replace(item, attribution=_unflipped(item.attribution, dims)) for item in finished]
    return Run(
        variation.title,
        tuple(whole_explanation(item, case, view, rows) for item in back),
        (float(case.target.value(outputs).max()),),
        predicted_probabilities(view.model, outputs.mean(0, keepdim=True)),
    )


def _unflipped(found: Attribution, dims: tuple[int, ...]) -> Attribution:
    if not dims:
        return found
    return replace(
        found,
        map=found.map.flip(dims),
        extras={name: values.flip(dims) for name, values in found.extras.items()},
        others=tuple(_unflipped(other, dims) for other in found.others),
    )


def window_run(
    variation: Variation,
    methods: Sequence[AttributionMethod],
    case: WindowCase,
    expected: Estimate | None,
    progress: Progress | None,
    warn: Warn,
) -> Run:
    """Explain a segmentation again: the same voxels of the same patient, whatever the run predicts."""
    axes = variation.axes
    windows = case.scan.windows
    before, windows.on_windows = windows.on_windows, _checking(progress)
    try:
        with variation.on(case.network):
            scan = _again(_of_fold(case.scan, variation), axes)
            changes: dict[str, Any] = {"progress": progress, "scan": scan, "chosen": case.chosen}
            if axes:
                dims = tuple(axis + 2 for axis in axes)
                changes["chosen"] = [
                    replace(item, target=item.target.flipped(axes), structure=item.structure.flip(axes))
                    for item in case.chosen
                ]
                if case.baseline_image is not None:
                    changes["baseline_image"] = case.baseline_image.flip(dims)
                for name in ("segments", "roi"):
                    if (given := getattr(case, name)) is not None:
                        changes[name] = given.flip(axes)
            if variation.source == "seeds":
                changes["seed"] = case.seed + variation.number
            if variation.source == "folds":
                changes["named_layers"] = tuple(map(layer_in_fold, case.named_layers))
            changed = case.with_(**changes)
            finished: list[Finished] = run_methods(changed, methods, expected=expected, warn=warn)
            maps = tuple(item for found in finished for item in window_explanations(found, changed))
    finally:
        windows.on_windows = before
    probability = voxel_scores(scan.output.float(), case.chosen[0].index, "probability", scan.form)[0]
    masks = scan.masks
    return Run(
        variation.title,
        maps,
        tuple(float(item.target.value(scan.output)[0]) for item in changed.chosen),
        {
            label: float(masks[number].sum()) * scan.grid.voxel_volume_ml
            for number, label in enumerate(scan.labels)
            if number != scan.background
        },
        (probability.flip(axes) if axes else probability).cpu().numpy(),
    )


def _checking(progress: Progress | None) -> Callable[[int], None]:
    return lambda count: progress.check() if progress is not None else None


def _of_fold(scan: PredictedScan, variation: Variation) -> PredictedScan:
    """The scan with one network of the ensemble, where the run is that of a fold."""
    if variation.source != "folds":
        return scan
    model = replace(scan.model, network=fold_of(scan.model.network, variation.number))
    module = WindowNetwork(model.network, model.select_output)
    windows = scan.windows
    windows = WindowedModel(module, windows.layout, windows.batch_size, windows.on_windows)
    return replace(scan, model=model, module=module, windows=windows)


def _again(scan: PredictedScan, axes: tuple[int, ...]) -> PredictedScan:
    """The scan predicted again, stored the other way around along the axes: its grid moves with its voxels."""
    windows = scan.windows
    if axes:
        dims = tuple(axis + 2 for axis in axes)
        inner = tuple(axis + 1 for axis in axes)
        prepared = replace(scan.prepared, tensor=scan.prepared.tensor.flip(inner), grid=scan.grid.flipped(axes))
        windows = WindowedModel(windows.forward, windows.layout, windows.batch_size, windows.on_windows)
        scan = replace(scan, prepared=prepared, windows=windows, image=scan.image.flip(dims))
    with torch.no_grad():
        output = windows.predict(scan.image)
    return replace(scan, output=output, masks=predicted_masks(output, scan.form))
