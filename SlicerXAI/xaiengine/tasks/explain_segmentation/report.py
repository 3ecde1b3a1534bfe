"""The task explain-segmentation: read, predict, choose, explain, measure, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...attribution.segmentation.correction import correct, correction_passes
from ...attribution.segmentation.estimate import estimate, measure_cost, memory_warning
from ...attribution.segmentation.explaining import Explaining, MethodSettings, SegmentationMap, check_settings
from ...attribution.segmentation.method_list import CAUTION, Method, find_methods
from ...attribution.segmentation.methods import run_method
from ...attribution.segmentation.passes import count_passes
from ...core.cancellation import interruptibly
from ...core.errors import OptionError
from ...evaluation.segmentation_findings import Findings, class_matrix, field_of_view, measure
from ...inference.preprocessing import preprocess
from ...inference.segmentation_preparation import PredictedScan, predict_scan, read_channels, segmenter, window_text
from ...io.segmentation_files import read_segmentation
from ...io.volume_files import read_volume
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
    settings = method_settings(options, context.seed)
    check_settings(settings)
    progress = context.progress
    progress.plan(((READING, 4), (PREDICTING, 12), (PREPARING, 4), *((m.title, 60 / len(methods)) for m in methods)))
    progress.stage(READING, 1)
    model = segmenter(context.session.model(options.model, context.device, context.trust_model))
    volume = interruptibly(progress.check, read_channels, options.volume, options.channels, model)
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
        options.batch,
        context,
    )
    progress.stage(PREPARING)
    scan.windows.on_windows = lambda count: progress.check()
    given = read_segmentation(options.segmentation).on_grid(volume.grid) if options.segmentation else None
    chosen = choose_targets(scan, _request(options, scan, given))
    structures = {name: mask for name, mask in structures_of(scan, given).items() if bool(mask.any())}
    regions = _regions(structures, scan) if given else None
    job = Explaining(scan, chosen, settings, _baseline_scan(options, scan), regions, _roi(options, scan))
    names = " and ".join(item.target.name for item in chosen)
    context.log(f"{names}: {len(job.touched)} of {window_text(scan.windows.layout)}")
    cost = measure_cost(job, methods)
    expected = estimate(job, methods, cost)
    context.expect(expected.sentence(), expected.seconds, expected.memory)
    if warning := memory_warning(expected, job):
        context.warn(warning)
    _plan_methods(context, methods, expected.per_method)
    maps: list[SegmentationMap] = []
    for method in methods:
        maps += _run(job, method, context)
    findings = measure(scan, chosen, maps, structures)
    findings = _more(findings, options, job, methods[0], context)
    progress.stage(WRITING, 4)
    values = write_findings(findings, context)
    return Outcome(values=values, provenance=_provenance(findings, settings, methods, expected))


def method_settings(options: ExplainSegmentationOptions, seed: int) -> MethodSettings:
    return MethodSettings(
        baseline=options.baseline,
        constant=options.constant,
        steps=options.steps,
        samples=options.samples,
        noise=options.noise,
        block_mm=options.block,
        stride_mm=options.stride,
        coarse_to_fine=options.coarse_to_fine,
        regions=options.regions,
        coalitions=options.coalitions,
        masks=options.masks,
        layers=tuple(options.layers),
        schedule=options.schedule,
        beta=options.beta,
        seed=seed,
    )


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


def _baseline_scan(options: ExplainSegmentationOptions, scan: PredictedScan) -> torch.Tensor | None:
    if not options.baseline_scan:
        return None
    other = preprocess(read_volume(options.baseline_scan), scan.model.preprocessing())
    return other.tensor[None].to(scan.image.device)


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


def _plan_methods(context: Context, methods: Sequence[Method], seconds: dict[str, float]) -> None:
    total = sum(seconds.values()) or 1.0
    stages = [(method.title, max(0.5, 90 * seconds[method.name] / total)) for method in methods]
    context.progress.plan((*stages, (MEASURING, 4), (WRITING, 4)))


def _run(job: Explaining, method: Method, context: Context) -> list[SegmentationMap]:
    """A method with its progress; the memory's end halves the batch of windows and tries again."""
    windows, progress = job.scan.windows, context.progress
    expected = max(1, count_passes(job, method)[0])
    progress.stage(method.title, expected)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress.update(done, max(expected, done))

    if method.family == "bottleneck":
        windows.on_windows = lambda count: progress.check()
        job.report = progress.update
    else:
        windows.on_windows = advance
    maps = _within_memory(lambda batch: run_method(job, method), None, context, job)
    for item in maps:
        for note in item.notes:
            context.warn(f"{method.title}: {note}" if note == CAUTION else note)
        if not np.any(item.values):
            context.warn(f"The {method.title} map of {job.targets[item.number].name} is zero everywhere.")
    windows.on_windows = lambda count: progress.check()
    return maps


def _within_memory(work, batch: int | None, context: Context, job: Explaining | None = None):
    while True:
        try:
            return work(batch)
        except (torch.OutOfMemoryError, MemoryError):
            now = job.scan.windows.batch_size if job else (batch or 2)
            if now <= 1:
                raise
            batch = now // 2
            if job:
                job.scan.windows.batch_size = batch
            context.warn(f"Memory ran out: {batch} windows a pass are used from here on.")


def _more(
    findings: Findings, options: ExplainSegmentationOptions, job: Explaining, method: Method, context: Context
) -> Findings:
    """The structure matrix, the receptive field, and what would correct errors."""
    scan, progress = job.scan, context.progress
    progress.stage(MEASURING)
    if options.receptive_field and scan.model.capabilities.differentiable:
        findings = replace(findings, view=field_of_view(scan, job.chosen[0]))
    if options.matrix:
        present = classes_present(scan)
        if len(present) < 2:
            context.warn("The model predicts one class only: there is no matrix of structures to show.")
        else:
            findings = replace(findings, matrix=class_matrix(scan, findings.structures, job.settings, method))
    errors = [item for item in job.chosen if item.error]
    if options.correct and errors and scan.model.capabilities.differentiable:
        progress.stage("Correcting the errors", sum(correction_passes(scan, item)[0] for item in errors))
        scan.windows.on_windows = progress.advance
        findings = replace(findings, corrections={item.key: correct(scan, item) for item in errors})
        scan.windows.on_windows = lambda count: progress.check()
    return findings


def _provenance(findings: Findings, settings: MethodSettings, methods: Sequence[Method], expected) -> dict[str, Any]:
    scan = findings.scan
    layout = scan.windows.layout
    return {
        "model": {
            "name": scan.model.name,
            "digest": scan.model.digest,
            "source": str(scan.model.source),
            "format": scan.model.format,
        },
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
                "method": item.method.name,
                "target": findings.chosen[item.number].target.name,
                "layer": item.layer,
                "unit": item.unit,
                **{key: _plain(value) for key, value in item.convergence.items()},
            }
            for item in findings.maps
        ],
        "settings": {key: value for key, value in vars(settings).items()},
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
            "seconds": round(expected.seconds, 1),
            "memory_gb": round(expected.memory / 2**30, 2),
        },
        "network_grid": {"shape": list(scan.grid.shape), "spacing_mm": list(scan.grid.spacing)},
        "scan": {"name": scan.volume.name, "shape": list(scan.volume.grid.shape)},
    }


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
