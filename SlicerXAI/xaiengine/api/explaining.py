"""``xai.explain``: from a model, a scan and a question to maps in the patient's coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..attribution.baselines import BaselineKind
from ..attribution.bottleneck.reference_store import find_examples
from ..attribution.bottleneck.statistics import ReferenceStatistics
from ..attribution.estimate import Estimate, estimate, memory_warning
from ..attribution.registry import AttributionMethod
from ..attribution.results import whole_explanation, window_explanations
from ..attribution.runner import Finished, run_methods
from ..core.device import choose_device
from ..core.errors import OptionError
from ..core.progress import Progress
from ..evaluation.uncertainty.measuring import STAGE
from ..inference.scan_view import choose_rows, scan_output
from ..io.grid import Grid
from ..io.volume import Volume
from ..models.explained_model import ExplainedModel
from ..targets.target_choice import choose_targets
from ..targets.targets import Target as OutputTarget
from ..targets.targets import choose_target, predicted_probabilities
from .asking import Target, as_target
from .patches import is_whole, seen
from .predictions import PredictionSettings, prediction_case
from .questions import PredictionQuestion, SegmentationQuestion
from .reporting import Notes, Reporter, as_progress
from .results import Explanation, Result, explanation_from
from .scans import as_mask, as_volume
from .segmentations import SegmentationSettings, checked_scan, request_of, segmentation_case, segmented
from .settings import chosen_methods, method_settings
from .uncertain import UncertaintyRequest, uncertainty_facts, whole_uncertainty, window_uncertainty

PREPARING = "Preparing"


@dataclass(frozen=True, eq=False)
class _Asked:
    """All that a caller of :func:`explain` asks for."""

    methods: list[AttributionMethod]
    target: Target
    score: str
    top_k: int
    slices: str
    most_slices: int
    baseline: BaselineKind
    baseline_value: float
    baseline_scan: Volume | None
    roi: Any
    regions: Any
    layers: tuple[str, ...]
    overlap: float | None
    batch_size: int
    seed: int
    at: Any = "whole"
    patch_size: tuple[int, ...] = ()
    uncertainty: UncertaintyRequest = UncertaintyRequest()
    settings: Mapping[str, Any] = field(default_factory=dict)


def explain(
    model: ExplainedModel,
    scan: Any,
    methods: str | Sequence[str] | None = None,
    target: str | int | Sequence[str | int] | Target | None = None,
    *,
    against: str | int = "",
    score: str = "",
    top_k: int = 1,
    slices: str | int = "confident",
    most_slices: int = 32,
    baseline: str | float | Volume = "auto",
    roi: Any = None,
    regions: Any = None,
    layers: str | Sequence[str] = (),
    reference: Mapping[str, ReferenceStatistics] | None = None,
    overlap: float | None = None,
    at: Any = "whole",
    patch_size: Sequence[int] = (),
    batch_size: int = 0,
    seed: int = 0,
    uncertainty: str | None = None,
    uncertainty_runs: int = 4,
    device: str | None = None,
    progress: Reporter = None,
    **settings: Any,
) -> Result:
    """Explain a model's answer for a scan.

    Args:
        model: from :func:`load_model` or :func:`wrap`.
        scan: a :class:`Volume`, or an array (I, J, K), (I, J) or (channels, I, J, K) with voxels of 1 mm.
        methods: one or several names, see :func:`methods`; by default ``iba`` for predictions (``reference_shapley``
            for regression models whose healthy scans are known, see :func:`fit_reference`), ``integrated_gradients``
            and ``hirescam`` for segmentations.
        target: a label or its number (several of them for segmentations), or :func:`at_point`, :func:`at_segment`,
            :func:`box`, ...; the model's own, or what it predicts, if None.
        against: explain the difference to this label.
        score: what is explained of a class: ``logit``, ``probability``, ``log_probability`` (predictions) or
            ``log-odds`` (segmentations); chosen by the engine if empty.
        top_k: explain the sum of so many highest classes.
        slices: for models of slices: ``confident``, ``highest``, ``all``, or a number; at most ``most_slices``.
        baseline: ``auto`` (the first that takes the answer away; ``blurred`` for segmentations), ``blurred``,
            ``mean``, ``minimum`` or ``zero``, a value in the network's input, or another scan.
        roi: region to which occlusion is limited: a segmentation, or a boolean array on the scan's grid.
        regions: structures that ablation, Shapley values, KernelShap and LIME take for regions, or about how many
            supervoxels they make for themselves.
        layers: of class activation maps, layer methods and bottlenecks; chosen by the engine if empty.
        reference: statistics from :func:`fit_reference`; those that were saved are found without.
        at: where a model of 3D patches looks: ``whole`` gives it the scan itself, ``sliding`` moves the patch over
            it; a point (R, A, S in mm), :func:`box` or :func:`at_segment` cuts patches there.
        patch_size: three numbers of voxels of the prepared scan; the model's own if empty.
        overlap: of sliding windows, the model's own if None. batch_size: inputs or windows per pass, 0 for automatic.
        seed: the same seed gives the same maps.
        uncertainty: explain again over ``flips`` of the scan, Monte-Carlo ``dropout``, ``folds`` of an nnU-Net
            training or ``seeds`` of the method, at most ``uncertainty_runs`` more times: each map gets its standard
            deviation (``heat.uncertainty``), the result the table of the runs (``result.uncertainty``).
        device: move the model there first.
        progress: ``print``, or another function of a line of text.
        **settings: of the methods, for example ``steps=64``, ``occlusion_mm=8``.

    Returns:
        A mapping of :class:`Explanation` by method.

    Raises:
        OptionError: an unknown method, target or setting; the message names near ones.
        InputError: a scan that the model cannot take.
        ModelError: a method that does not apply to the model, with the reason.
        ResourceError: not enough memory even for one input at a time.
    """
    notes = Notes()
    if reference is not None:
        examples = getattr(reference, "examples", ()) or model.examples
        model = replace(model, statistics={**model.statistics, **reference}, examples=examples)
    referenced = methods is None and model.task == "regression" and bool(find_examples(model))
    chosen = chosen_methods(methods, model.task, referenced)
    if isinstance(regions, int):
        settings["regions"], regions = regions, None
    volume = as_volume(scan, model.spatial_dims)
    asked = _Asked(
        methods=chosen,
        target=as_target(target, against),
        score=score,
        top_k=top_k,
        slices=str(slices),
        most_slices=most_slices,
        **_baseline(baseline),
        roi=roi,
        regions=regions,
        layers=(layers,) if isinstance(layers, str) else tuple(layers),
        overlap=overlap,
        batch_size=batch_size,
        seed=seed,
        at=at,
        patch_size=tuple(patch_size),
        uncertainty=UncertaintyRequest(uncertainty or "", uncertainty_runs),
        settings=method_settings(chosen, settings),
    )
    if device is not None:
        model = model.to(choose_device(device))
    run = _segmentation if model.task == "segmentation" else _prediction
    result = run(model, volume, asked, as_progress(progress), notes)
    notes.warn()
    return result


def _baseline(baseline: str | float | Volume) -> dict[str, Any]:
    if isinstance(baseline, Volume):
        return {"baseline": "scan", "baseline_value": 0.0, "baseline_scan": baseline}
    if isinstance(baseline, (int, float)):
        return {"baseline": "constant", "baseline_value": float(baseline), "baseline_scan": None}
    if baseline not in ("auto", "blurred", "mean", "minimum", "zero"):
        raise OptionError(
            f"There is no baseline {baseline!r}.",
            "Choose auto, blurred, mean, minimum or zero, a number, or another scan.",
        )
    return {"baseline": baseline, "baseline_value": 0.0, "baseline_scan": None}


def _prediction(model: ExplainedModel, volume: Volume, asked: _Asked, progress: Progress, notes: Notes) -> Result:
    progress.stage(PREPARING)
    for method in asked.methods:
        for need in method.needs:
            model.capabilities.require(need, method.title)  # type: ignore[arg-type]
    view = seen(volume, model, asked.at, asked.patch_size, progress.check)
    notes(view.note)
    target = _output_target(model, scan_output(view), asked)
    rows, warning = choose_rows(view, target, asked.slices, asked.most_slices)
    notes(warning)
    settings = PredictionSettings(
        layers=asked.layers,
        baseline=asked.baseline,
        baseline_value=asked.baseline_value,
        baseline_scan=asked.baseline_scan,
        roi=None if asked.roi is None else as_mask(asked.roi, volume.grid),
        regions=_labels(asked.regions, volume.grid),
        methods=asked.settings,
        batch_size=asked.batch_size,
        seed=asked.seed,
    )
    case = prediction_case(view, target, rows, settings, progress=progress, warn=notes)
    finished, expected = _run(case, asked, progress, notes)
    question = PredictionQuestion(view, rows, replace(case, progress=None, memory={}))
    maps = [whole_explanation(item, case, view, rows) for item in finished]
    again = [item.method for item in finished]
    maps, measured = whole_uncertainty(asked.uncertainty, again, case, view, rows, maps, expected, progress, notes)
    progress.finish()
    found = {item.method: explanation_from(item, scan=volume, question=question) for item in maps}
    return _result(
        found,
        volume,
        model,
        asked,
        notes,
        target=target.name,
        value=float(target.value(view.outputs[rows]).mean()),
        prediction=predicted_probabilities(model, scan_output(view)),
        uncertainty=uncertainty_facts(measured),
    )


def _output_target(model: ExplainedModel, output: Any, asked: _Asked) -> OutputTarget:
    wanted = asked.target
    if wanted.kind not in ("class", "difference") or len(wanted.labels) > 1:
        raise OptionError(
            f"A target of the kind {wanted.kind} with {len(wanted.labels)} labels is for segmentation models; "
            f"{model.name} does {model.task}.",
            "Name one label.",
        )
    label = wanted.labels[0] if wanted.labels else "" if asked.top_k > 1 else model.target
    if asked.score not in ("", "logit", "probability", "log_probability"):
        raise OptionError(f"There is no score {asked.score!r}.", "Choose logit, probability or log_probability.")
    return choose_target(
        model,
        output,
        label,
        against=wanted.against,
        top_k=asked.top_k,
        score=asked.score or "logit",  # type: ignore
    )


def _labels(regions: Any, grid: Grid) -> np.ndarray | None:
    """Label numbers (I, J, K) of structures on a grid; later ones win where they overlap."""
    from ..io.segmentation import Segmentation

    if regions is None:
        return None
    if not isinstance(regions, Segmentation):
        array = np.asarray(regions)
        if array.shape != grid.shape:
            raise OptionError(
                f"The regions have the shape {array.shape}, the scan {grid.shape}.",
                "Give a segmentation, or labels on the scan's voxels.",
            )
        return array.astype(np.int32)
    moved = regions if regions.grid == grid else regions.on_grid(grid)
    labels = np.zeros(grid.shape, dtype=np.int32)
    for number, segment in enumerate(moved.segments, start=1):
        labels[moved.mask(segment)] = number
    return labels


def _segmentation(model: ExplainedModel, volume: Volume, asked: _Asked, progress: Progress, notes: Notes) -> Result:
    progress.stage(PREPARING)
    if not is_whole(asked.at):
        raise OptionError("at is for models that classify patches.", "Name the place by target: xai.at_point(...).")
    if asked.top_k > 1:
        raise OptionError("top_k is for classifiers.", "Give several labels as target.")
    if asked.score not in ("", "auto", "logit", "log-odds", "log_odds", "probability"):
        raise OptionError(f"There is no score {asked.score!r}.", "Choose logit, log-odds or probability.")
    scan = segmented(
        checked_scan(volume, model),
        model,
        overlap=asked.overlap,
        batch_size=asked.batch_size,
        progress=progress,
        warn=notes,
    )
    score = asked.score.replace("_", "-") or "auto"
    chosen = choose_targets(scan, request_of(asked.target, scan, score))
    settings = SegmentationSettings(
        layers=asked.layers,
        baseline=asked.baseline,
        baseline_value=asked.baseline_value,
        baseline_scan=asked.baseline_scan,
        roi=None if asked.roi is None else as_mask(asked.roi, volume.grid),
        regions=_labels(asked.regions, volume.grid),
        methods=asked.settings,
        seed=asked.seed,
    )
    case = segmentation_case(scan, chosen, settings, progress)
    case.check(asked.methods)
    finished, expected = _run(case, asked, progress, notes)
    question = SegmentationQuestion(scan, replace(case, progress=None, memory={}))
    found: dict[str, Explanation] = {}
    placed_maps = [placed for item in finished for placed in window_explanations(item, case)]
    again = [item.method for item in finished]
    placed_maps, measured = window_uncertainty(asked.uncertainty, again, case, placed_maps, expected, progress, notes)
    progress.finish()
    for method in again:
        maps = [placed for placed in placed_maps if placed.method == method.name]
        last = maps[-1].layer
        for placed in maps:
            key = placed.method
            key += f"/{chosen[placed.row].key}" if len(chosen) > 1 else ""
            key += f"/{placed.layer}" if placed.layer != last else ""
            structure = _on_scan(scan, chosen[placed.row].structure.cpu().numpy())
            found[key] = explanation_from(placed, scan=volume, question=question, structure=structure)
    values = [float(item.target.value(scan.output)[0]) for item in chosen]
    return _result(
        found,
        volume,
        model,
        asked,
        notes,
        target=" and ".join(item.target.name for item in chosen),
        value=values[0] if len(values) == 1 else None,
        prediction={
            label: float(mask.sum()) * scan.grid.voxel_volume_ml
            for number, (label, mask) in enumerate(zip(scan.labels, scan.masks))
            if number != scan.background
        },
        uncertainty=uncertainty_facts(measured),
    )


def _on_scan(scan: Any, mask: np.ndarray) -> np.ndarray:
    from ..inference.preprocessing import restore

    return restore(mask.astype(np.uint8), scan.grid, scan.volume.grid, "nearest") > 0


def _run(case: Any, asked: _Asked, progress: Progress, notes: Notes) -> tuple[list[Finished], Estimate]:
    methods = asked.methods
    expected = estimate(case, methods)
    notes(memory_warning(expected, case))
    stages = [(method.title, expected.seconds[method.name]) for method in methods]
    stages += [(STAGE, asked.uncertainty.runs * expected.total)] if asked.uncertainty.source else []
    progress.plan([(PREPARING, 0.02 * expected.total), *stages])
    return run_methods(case, methods, expected=expected, warn=notes), expected


def _result(
    found: dict[str, Explanation],
    volume: Volume,
    model: ExplainedModel,
    asked: _Asked,
    notes: Notes,
    uncertainty: Mapping[str, Any],
    **facts: Any,
) -> Result:
    from ..attribution.results import tell_notes

    for item in found.values():
        tell_notes(item, notes)
    for text in model.notes:
        notes(text)
    provenance = {
        "model": {"name": model.name, "digest": model.digest, "source": str(model.source), "format": model.format},
        "methods": [method.name for method in asked.methods],
        "settings": dict(asked.settings),
        "baseline": asked.baseline,
        "seed": asked.seed,
        "device": str(model.device),
        **uncertainty,
    }
    return Result(found, volume, notes=tuple(notes.texts), provenance=provenance, **facts)
