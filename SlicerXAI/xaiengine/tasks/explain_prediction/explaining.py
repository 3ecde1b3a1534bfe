"""From a scan and options to explanations: target, slices, layers, statistics, methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...attribution.baselines import baseline_like
from ...attribution.bottleneck.information import own_statistics
from ...attribution.bottleneck.reference_store import find_examples, find_statistics
from ...attribution.bottleneck.statistics import ReferenceStatistics
from ...attribution.case_advice import advised
from ...attribution.estimate import estimate, memory_warning
from ...attribution.explanation import Explanation
from ...attribution.feature_maps import default_layers, spatial_layers
from ...attribution.forward import RowByRow
from ...attribution.registry import find_methods
from ...attribution.results import tell_notes, whole_explanation
from ...attribution.runner import run_methods
from ...attribution.whole_case import WholeCase, check_needs
from ...core.errors import ModelError, OptionError
from ...core.progress import Progress
from ...evaluation.uncertainty.measuring import STAGE, Plan, Uncertainty, measure_whole, plan_whole
from ...inference.patches import centers_of, patch_size, view_patches
from ...inference.preprocessing import preprocess
from ...inference.scan_view import ScanView, choose_rows, scan_output
from ...io.resample import resample
from ...io.segmentation import Segmentation
from ...io.segmentation_files import read_segmentation
from ...io.volume import Volume
from ...io.volume_files import read_volume
from ...models.explained_model import ExplainedModel
from ...targets.targets import Target, choose_target

if TYPE_CHECKING:
    from .options import ExplainPredictionOptions

MOST_REFERENCE_SLICES = 128


@dataclass(frozen=True, eq=False)
class Explained:
    """Everything that was found. Explanations are on the prepared grid; ``rows`` are the explained samples."""

    view: ScanView
    target: Target
    rows: np.ndarray
    case: WholeCase
    explanations: tuple[Explanation, ...]
    segments: Segmentation | None
    uncertainty: Uncertainty | None = None


def explained_target(view: ScanView, options: Any) -> Target:
    """The target of the options; empty means the model's own, then the predicted class."""
    wanted = options.target or ("" if options.top_k > 1 else view.model.target)
    return choose_target(
        view.model,
        scan_output(view),
        wanted,
        against=options.against,
        top_k=options.top_k,
        score=options.score,
    )


def make_case(
    view: ScanView,
    target: Target,
    rows: np.ndarray,
    options: ExplainPredictionOptions,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda text: None,
    segments: Segmentation | None = None,
) -> WholeCase:
    """The case of the chosen samples, with layers, baseline, regions and statistics."""
    model, device = view.model, view.model.device
    inputs = view.samples[rows].to(device)
    baseline = _baseline(view, rows, inputs, options)
    names = list(options.layers) or None
    layers, bottlenecks = _layers(view, inputs[:1], names)
    network, select_output = model.network, model.select_output
    if not model.capabilities.free_batch:
        network, select_output = RowByRow(network, select_output), lambda output: output
    case = WholeCase(
        network=network,
        target=target,
        inputs=inputs,
        baseline=baseline,
        spacing=view.spacing,
        layers=tuple(layers),
        bottleneck_layers=tuple(bottlenecks),
        statistics=_Statistics(view, warn),
        select_output=select_output,
        examples=lambda: find_examples(model),
        settings=options.method_settings(),
        roi=_roi(view, rows, options.roi).to(device) if options.roi else None,
        segments=_given_regions(view, rows, segments, options),
        seed=seed,
        batch_size=options.batch_size,
        progress=progress,
        capabilities=model.capabilities,
    )
    return advised(case, options.baseline == "auto", warn)


def _layers(view: ScanView, row: torch.Tensor, names: list[str] | None) -> tuple[list[str], list[str]]:
    """Layers of CAMs and layer methods (deepest last), and of bottlenecks (earliest first)."""
    network, model = view.model.network, view.model
    if not (model.capabilities.layers and model.capabilities.free_batch):  # every method on layers needs both
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


class _Statistics:
    """Reference statistics by layer: fitted or shipped ones, else those of the scan's own samples."""

    def __init__(self, view: ScanView, warn: Callable[[str], None]) -> None:
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


def _baseline(
    view: ScanView, rows: np.ndarray, inputs: torch.Tensor, options: ExplainPredictionOptions
) -> torch.Tensor:
    if options.baseline != "scan":
        return baseline_like(inputs, options.baseline, constant=options.baseline_value)
    if not options.baseline_scan:
        raise OptionError("The baseline is another scan, but none was given.", "Give the option baseline_scan.")
    other = read_volume(options.baseline_scan, allow_channels=True)
    moved = resample(other.channels_first().astype(np.float32), other.grid, view.volume.grid, "linear", "edge")
    prepared = preprocess(view.volume.with_array(moved if len(moved) > 1 else moved[0]), view.model.preprocessing())
    tensor = prepared.tensor
    samples = tensor[None] if view.axis is None else tensor.movedim(view.axis + 1, 0)[rows]
    return baseline_like(inputs, "scan", scan=samples.to(inputs))


def _roi(view: ScanView, rows: np.ndarray, path: str) -> torch.Tensor:
    segmentation = read_segmentation(path).on_grid(view.volume.grid)
    mask = view.brought(segmentation.union().astype(np.uint8), view.volume.grid, nearest=True)
    chosen = view.rows_of(mask, rows) > 0
    if not chosen.any():
        raise OptionError(
            "The region of interest does not touch the explained part of the scan.", "Choose another region."
        )
    return torch.as_tensor(np.ascontiguousarray(chosen))


def _given_regions(
    view: ScanView, rows: np.ndarray, segments: Segmentation | None, options: ExplainPredictionOptions
) -> np.ndarray | None:
    """Label numbers of the segments (m, spatial...) on the samples; later segments win where they overlap."""
    if options.regions_from != "segments":
        return None
    if segments is None:
        raise OptionError("Regions are to come from segments, but none were given.", "Give the option segments.")
    labels = np.zeros(segments.grid.shape, dtype=np.int32)
    for number, segment in enumerate(segments.segments, start=1):
        labels[segments.mask(segment)] = number
    return view.rows_of(view.brought(labels, segments.grid, nearest=True), rows)


def patches_of(
    scan: Volume, model: ExplainedModel, options: ExplainPredictionOptions, check: Callable[[], None]
) -> ScanView:
    """The scan seen by a model of patches, at the place that the options name."""
    size = patch_size(model, options.patch_size)
    segments = read_segmentation(options.segments).on_grid(scan.grid) if options.segments else None
    spacing = preprocess(scan, model.preprocessing()).grid.spacing if options.at == "box" else scan.grid.spacing
    size_mm = [count * step for count, step in zip(size, spacing)]
    centers = centers_of(options.at, options.where, segments, scan, size_mm)
    return view_patches(scan, model, centers, size, check)


def explain(
    view: ScanView,
    options: ExplainPredictionOptions,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda text: None,
    expect: Callable[[str, float, int], None] = lambda text, seconds, memory: None,
) -> Explained:
    """Run the chosen methods on the chosen target and samples; ``expect`` is told beforehand what that takes."""
    methods = find_methods(options.methods)
    check_needs(methods, view.model.capabilities)
    target = explained_target(view, options)
    rows, warning = choose_rows(view, target, options.slices, options.most_slices)
    for text in filter(None, [view.note, warning]):
        warn(text)
    segments = read_segmentation(options.segments).on_grid(view.volume.grid) if options.segments else None
    case = make_case(view, target, rows, options, seed=seed, progress=progress, warn=warn, segments=segments)
    expected = estimate(case, methods)
    again: Plan | None = None
    if options.uncertainty != "none":
        again = plan_whole(options.uncertainty, options.uncertainty_runs, case, expected)
    said = [f"{len(rows)} of {len(view.samples)} samples are explained. {expected.describe()}"]
    said += [again.describe()] if again else []
    expect(" ".join(said), expected.total + (again.seconds if again else 0.0), expected.bytes)
    if text := memory_warning(expected, case):
        warn(text)
    if progress is not None:
        seconds = expected.seconds
        stages = [(m.title, seconds[m.name]) for m in methods] + ([(STAGE, again.seconds)] if again else [])
        progress.plan([("Preparing", 0.02 * expected.total), *stages])
    finished = run_methods(case, methods, expected=expected, warn=warn)
    explanations = tuple(whole_explanation(item, case, view, rows) for item in finished)
    for explanation in explanations:
        tell_notes(explanation, warn)
    uncertainty = None
    if again is not None:
        methods = [item.method for item in finished]
        masks = {segment.name: segments.mask(segment) for segment in segments.segments} if segments else {}
        uncertainty = measure_whole(
            again,
            methods,
            case,
            view,
            rows,
            explanations,
            regions=masks,
            expected=expected,
            progress=progress,
            warn=warn,
        )
        explanations = tuple(uncertainty.with_sd(explanations))
    return Explained(view, target, rows, case, explanations, segments, uncertainty)
