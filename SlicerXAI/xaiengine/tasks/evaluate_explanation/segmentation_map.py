"""A map of a segmentation, ready to be checked through the windows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...api.asking import Target
from ...api.segmentations import SegmentationSettings, request_of, segmentation_case, segmented
from ...attribution.registry import AttributionMethod
from ...core.cancellation import interruptibly
from ...evaluation.evaluating import Evaluator
from ...inference.segmentation_preparation import PredictedScan, read_channels
from ...io.resample import resample
from ...io.segmentation_files import read_segmentation
from ...io.volume_files import read_volume
from ...models.explained_model import ExplainedModel
from ...targets.points import read_point
from ...targets.target_choice import ChosenTarget, choose_targets
from ..explain_segmentation.options import ExplainSegmentationOptions
from ..method_options import todays
from .origin import Origin, options_known_to
from .prediction_map import checked_map, read_map

if TYPE_CHECKING:
    from ..task import Context
    from .options import EvaluateExplanationOptions

FILES = ("segmentation", "reference", "baseline_scan")


def segmentation_evaluator(
    model: ExplainedModel,
    options: EvaluateExplanationOptions,
    origin: Origin,
    method: AttributionMethod | None,
    context: Context,
) -> tuple[Evaluator, np.ndarray]:
    """The evaluator of the map's target.

    Raises InputError when the map does not cover the scan or is zero everywhere.
    """
    settings = explanation_options(options, origin)
    check = context.progress.check
    volume = interruptibly(check, read_channels, options.volume, settings.channels, model, settings.series)
    scan = segmented(
        volume,
        model,
        overlap=settings.overlap,
        batch_size=settings.batch_size,
        progress=context.progress,
        warn=context.warn,
    )
    explanation = read_map(options.explanation, volume, scan.grid)
    values = checked_map(
        resample(explanation.array.astype(np.float32), explanation.grid, scan.grid, "linear"), explanation.name
    )
    truth = None
    if options.truth:
        mask = read_segmentation(options.truth).on_grid(volume.grid).union()
        truth = scan.on_grid(mask).cpu().numpy()[None]
    chosen = _the_target(scan, settings, origin, context)
    case = segmentation_case(
        scan,
        [chosen],
        SegmentationSettings(
            layers=(origin.layer,) if origin.layer and settings.layers else tuple(settings.layers),
            baseline=settings.baseline,
            baseline_value=settings.baseline_value,
            baseline_scan=read_volume(settings.baseline_scan, allow_channels=True) if settings.baseline_scan else None,
            methods=settings.method_settings(),
            seed=context.seed,
        ),
        context.progress,
    )
    maps = np.ascontiguousarray(values)[None]
    return Evaluator(case, maps, options.effort(), method=method, truth=truth), np.arange(1)


def explanation_options(options: EvaluateExplanationOptions, origin: Origin) -> ExplainSegmentationOptions:
    """The options that made the map, with the class and baseline of this evaluation where they were given."""
    made = todays(ExplainSegmentationOptions)
    content: dict[str, Any] = options_known_to(made, origin.options if origin.task == "explain-segmentation" else None)
    content |= {"volume": options.volume, "model": options.model, "roi": ""}
    content |= {name: "" for name in FILES if content.get(name) and not Path(content[name]).exists()}
    no_scan = content.get("baseline") == "scan" and not content.get("baseline_scan")
    if "baseline" in options.model_fields_set or "baseline" not in content or no_scan:
        content |= {"baseline": options.baseline, "baseline_value": options.baseline_value}
    content |= {name: getattr(options, name) for name in ("channels", "series") if getattr(options, name)}
    if options.target:
        content["classes"] = [options.target]
    if options.against:
        content |= {"target": "difference", "against": options.against}
    return made.model_validate(content)


def _the_target(
    scan: PredictedScan, settings: ExplainSegmentationOptions, origin: Origin, context: Context
) -> ChosenTarget:
    """That of the map, by its name where it was one of several."""
    chosen = choose_targets(scan, request_of(_asked(settings), scan, settings.score))
    same = [item for item in chosen if item.target.name == origin.target]
    if len(chosen) > 1 and not same:
        context.warn(f"Which of several targets the map is of is not known; {chosen[0].target.name} is assumed.")
    return (same or chosen)[0]


def _asked(settings: ExplainSegmentationOptions) -> Target:
    limited = settings.segmentation and (settings.segment or settings.target == "segment")
    return Target(
        kind=settings.target,
        labels=tuple(settings.classes),
        against=settings.against,
        point=tuple(float(value) for value in read_point(settings.point)) if settings.point else (),
        region=read_segmentation(settings.segmentation) if limited else None,
        segment=settings.segment,
        reference=read_segmentation(settings.reference) if settings.reference else None,
        reference_segment=settings.reference_segment,
        width_mm=settings.boundary,
    )
