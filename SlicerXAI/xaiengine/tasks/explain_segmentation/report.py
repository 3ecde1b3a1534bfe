"""The task explain-segmentation: read, predict, choose, explain, measure, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...attribution.baselines import baseline_like
from ...attribution.correction import correct, correction_passes
from ...attribution.estimate import Estimate, estimate, memory_warning
from ...attribution.explanation import Explanation
from ...attribution.registry import AttributionMethod, find_methods
from ...attribution.results import tell_notes, window_explanations
from ...attribution.runner import run_methods
from ...attribution.units import named_unit
from ...attribution.window_case import WindowCase
from ...core.cancellation import interruptibly
from ...core.device import is_out_of_memory
from ...core.errors import OptionError
from ...evaluation.segmentation_findings import Findings, class_matrix, field_of_view, measure
from ...evaluation.uncertainty.measuring import STAGE, Plan, measure_windows, plan_windows
from ...inference.preprocessing import preprocess
from ...inference.segmentation_preparation import PredictedScan, predict_scan, read_channels, segmenter, window_text
from ...io.resample import resample
from ...io.segmentation_files import read_segmentation
from ...io.volume_files import read_volume
from ...models.provenance import model_provenance
from ...targets.target_choice import TargetRequest, choose_targets, classes_present, structures_of
from .writing import write_findings

if TYPE_CHECKING:
    from ..task import Context, Outcome
    from .options import ExplainSegmentationOptions

READING, PREDICTING, PREPARING, MEASURING, WRITING = (
    "Reading the scan",
    "Segmenting the scan",
    "Preparing the explanation",
    "Measuring",
    "Writing",
)


def explain_and_write(options: ExplainSegmentationOptions, context: Context) -> Outcome:
    from ..task import Outcome

    methods = find_methods(options.methods)
    progress = context.progress
    progress.plan(((READING, 4), (PREDICTING, 12), (PREPARING, 4), *((m.title, 60 / len(methods)) for m in methods)))
    progress.stage(READING, 1)
    model = segmenter(context.session.model(options.model, context.device, context.trust_model))
    volume = interruptibly(progress.check, read_channels, options.volume, options.channels, model, options.series)
    for note in model.notes:
        context.log(note)
    context.log(f"{volume.name}: {volume.grid.describe()}")
    scan = _within_memory(
        lambda batch: predict_scan(
            volume,
            model,
            overlap=options.overlap,
            batch_size=batch,
            on_windows=progress.advance,
            plan=lambda windows: progress.stage(PREDICTING, windows),
            warn=context.warn,
        ),
        options.batch_size or None,
        context,
    )
    progress.stage(PREPARING)
    scan.windows.on_windows = lambda count: progress.check()
    given = read_segmentation(options.segmentation).on_grid(volume.grid) if options.segmentation else None
    chosen = choose_targets(scan, _request(options, scan, given))
    structures = {name: mask for name, mask in structures_of(scan, given).items() if bool(mask.any())}
    regions = _regions(structures, scan) if given else None
    case = WindowCase(
        scan,
        chosen,
        options.method_settings(),
        _baseline(options, scan),
        regions,
        _roi(options, scan),
        tuple(options.layers),
        context.seed,
        progress,
    )
    case.check(methods)
    names = " and ".join(item.target.name for item in chosen)
    context.log(f"{names}: {len(case.touched)} of {window_text(scan.windows.layout)}")
    expected = estimate(case, methods)
    again: Plan | None = None
    if options.uncertainty != "none":
        again = plan_windows(options.uncertainty, options.uncertainty_runs, case, expected)
    said = f"{expected.describe()} {again.describe() if again else ''}".strip()
    context.expect(said, expected.total + (again.seconds if again else 0.0), expected.bytes)
    if warning := memory_warning(expected, case):
        context.warn(warning)
    _plan_methods(context, methods, expected.seconds, again.seconds if again else 0.0)
    maps: list[Explanation] = []
    finished = run_methods(case, methods, expected=expected, warn=context.warn)
    for done in finished:
        maps += window_explanations(done, case)
    maps = [replace(item, unit=named_unit(item.unit, item.target)) for item in maps]
    for item in maps:
        tell_notes(item, context.warn)
    uncertainty = None
    if again is not None:
        uncertainty = measure_windows(
            again,
            [item.method for item in finished],
            case,
            maps,
            regions={name: mask.cpu().numpy() for name, mask in structures.items()},
            expected=expected,
            progress=progress,
            warn=context.warn,
        )
        maps = uncertainty.with_sd(maps)
    findings = replace(measure(scan, chosen, maps, structures), uncertainty=uncertainty)
    findings = _more(findings, options, case, methods[0], context)
    progress.stage(WRITING, 4)
    values = write_findings(findings, context)
    return Outcome(values=values, provenance=_provenance(findings, case, methods, expected))


def _request(options: ExplainSegmentationOptions, scan: PredictedScan, given) -> TargetRequest:
    segment = reference = None
    if given is not None and (options.segment or options.target in ("segment", "volume")):
        segment = given.mask(options.segment) if options.segment else given.union()
    if options.reference:
        truth = read_segmentation(options.reference).on_grid(scan.volume.grid)
        reference = truth.mask(options.reference_segment) if options.reference_segment else truth.union()
    if options.target == "volume" and not options.segment:
        segment = None
    return TargetRequest(
        kind=options.target,
        classes=tuple(options.classes),
        against=options.against,
        score=options.score,
        point=options.point,
        boundary_mm=options.boundary,
        segment=segment,
        segment_name=options.segment or "the segments",
        reference=reference,
    )


def _baseline(options: ExplainSegmentationOptions, scan: PredictedScan) -> torch.Tensor:
    """The baseline (1, C, I, J, K); another scan is brought to this one's place in the patient first."""
    if options.baseline != "scan":
        return baseline_like(scan.image, options.baseline, constant=options.baseline_value)
    if not options.baseline_scan:
        raise OptionError("The baseline is another scan, but none was given.", "Give the option baseline_scan.")
    other = read_volume(options.baseline_scan, allow_channels=True)
    moved = resample(other.channels_first().astype(np.float32), other.grid, scan.volume.grid, "linear", "edge")
    prepared = preprocess(scan.volume.with_array(moved if len(moved) > 1 else moved[0]), scan.model.preprocessing())
    return baseline_like(scan.image, "scan", scan=prepared.tensor[None].to(scan.image.device))


def _roi(options: ExplainSegmentationOptions, scan: PredictedScan) -> torch.Tensor | None:
    """The region of interest (I, J, K) bool on the network's grid. Raises OptionError if it lies beside the scan."""
    if not options.roi:
        return None
    roi = scan.on_grid(read_segmentation(options.roi).on_grid(scan.volume.grid).union())
    if not bool(roi.any()):
        raise OptionError("The region of interest does not touch the scan.", "Choose another region.")
    return roi


def _regions(structures: dict[str, torch.Tensor], scan: PredictedScan) -> torch.Tensor | None:
    """Labels of given structures, the rest as one more region; None where there are too few."""
    if len(structures) < 2:
        return None
    labels = torch.zeros(scan.grid.shape, dtype=torch.long)
    for number, mask in enumerate(structures.values(), start=1):
        labels[mask.cpu()] = number
    labels[labels == 0] = len(structures) + 1
    return torch.unique(labels, return_inverse=True)[1].reshape(labels.shape) + 1


def _plan_methods(
    context: Context, methods: Sequence[AttributionMethod], seconds: dict[str, float], again: float
) -> None:
    total = sum(seconds.values()) + again or 1.0
    stages = [(method.title, max(0.5, 90 * seconds[method.name] / total)) for method in methods]
    stages += [(STAGE, 90 * again / total)] if again else []
    context.progress.plan((*stages, (MEASURING, 4), (WRITING, 4)))


def _within_memory(
    predict: Callable[[int | None], PredictedScan], batch: int | None, context: Context
) -> PredictedScan:
    """The prediction, with fewer windows in a pass where memory runs out."""
    while True:
        try:
            return predict(batch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or batch == 1:
                raise
        batch = (batch or 2) // 2
        context.warn(f"Memory ran out: {batch} windows a pass are used from here on.")


def _more(
    findings: Findings,
    options: ExplainSegmentationOptions,
    case: WindowCase,
    method: AttributionMethod,
    context: Context,
) -> Findings:
    """The structure matrix, the receptive field, and what would correct errors."""
    scan, progress = case.scan, context.progress
    progress.stage(MEASURING)
    if options.receptive_field and scan.model.capabilities.differentiable:
        findings = replace(findings, view=field_of_view(scan, case.chosen[0]))
    if options.matrix:
        present = classes_present(scan)
        if len(present) < 2:
            context.warn("The model predicts one class only: there is no matrix of structures to show.")
        else:
            findings = replace(findings, matrix=class_matrix(case, findings.structures, method))
    errors = [item for item in case.chosen if item.error]
    if options.correct and errors and scan.model.capabilities.differentiable:
        progress.stage("Correcting the errors", sum(correction_passes(scan, item)[0] for item in errors))
        scan.windows.on_windows = progress.advance
        findings = replace(findings, corrections={item.key: correct(scan, item) for item in errors})
        scan.windows.on_windows = lambda count: progress.check()
    return findings


def _provenance(
    findings: Findings, case: WindowCase, methods: Sequence[AttributionMethod], expected: Estimate
) -> dict[str, Any]:
    scan = findings.scan
    layout = scan.windows.layout
    return {
        "model": model_provenance(scan.model),
        "targets": [
            {
                "name": item.target.name,
                "class": item.label,
                "voxels": item.target.voxels,
                "value": findings.values[number],
            }
            for number, item in enumerate(findings.chosen)
        ],
        "methods": [method.name for method in methods],
        "maps": [
            {
                "method": item.method,
                "target": item.target,
                "layer": item.layer,
                "unit": item.unit,
                **item.convergence,
            }
            for item in findings.maps
        ],
        "settings": dict(case.settings),
        "windows": {
            "count": layout.count,
            "size": list(layout.window_size),
            "padded_to": list(layout.padded_size),
            "forward_passes": scan.windows.passes.forward,
            "backward_passes": scan.windows.passes.backward,
        },
        "estimate": {
            "forward": expected.forward,
            "backward": expected.backward,
            "seconds": round(expected.total, 1),
            "memory_gb": round(expected.bytes / 2**30, 2),
        },
        "network_grid": {"shape": list(scan.grid.shape), "spacing_mm": list(scan.grid.spacing)},
        "scan": {"name": scan.volume.name, "shape": list(scan.volume.grid.shape)},
    }
