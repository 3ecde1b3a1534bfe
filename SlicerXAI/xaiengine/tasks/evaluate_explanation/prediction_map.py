"""A map of a prediction, ready to be checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...attribution.registry import AttributionMethod
from ...core.cancellation import interruptibly
from ...core.errors import InputError
from ...evaluation.evaluating import Evaluator
from ...inference.patches import patch_size, view_patches
from ...inference.scan_reading import read_for_model
from ...inference.scan_view import ScanView, view_scan
from ...io.grid import Grid
from ...io.segmentation_files import read_segmentation
from ...io.volume import Volume
from ...io.volume_files import read_volume
from ...lesions.lungs.lungs_alone import lungs_alone
from ...models.explained_model import ExplainedModel
from ..explain_prediction.explaining import explained_target, make_case
from ..explain_prediction.options import ExplainPredictionOptions
from ..method_options import todays
from .origin import Origin, options_known_to

if TYPE_CHECKING:
    from ..task import Context
    from .options import EvaluateExplanationOptions

SMALLEST_OVERLAP = 0.05


def prediction_evaluator(
    model: ExplainedModel,
    options: EvaluateExplanationOptions,
    origin: Origin,
    method: AttributionMethod | None,
    context: Context,
) -> tuple[Evaluator, np.ndarray]:
    """The evaluator of the samples with the strongest maps, and their numbers.

    Raises InputError when the map does not cover the scan or is zero everywhere.
    """
    check = context.progress.check
    made_with = origin.options or {}
    channels = options.channels or made_with.get("channels", [])
    series = options.series or made_with.get("series", "")
    scan = interruptibly(check, read_for_model, model, options.volume, channels, series)
    view = _seen(scan, model, origin, check)
    if view.note:
        context.warn(view.note)
    return make_evaluator(view, options, explanation_options(options, origin), method, context)


def _seen(scan: Volume, model: ExplainedModel, origin: Origin, check: Callable[[], None]) -> ScanView:
    """The scan as the model saw it when it was explained: whole, or by the same patches."""
    if origin.patches is None:
        return view_scan(scan, model, check, shown_part=lungs_alone)
    centers = origin.patches.get("centers")
    size = patch_size(model, origin.patches.get("size", ()))
    return view_patches(scan, model, None if centers is None else np.array(centers, dtype=float), size, check)


def explanation_options(options: EvaluateExplanationOptions, origin: Origin) -> ExplainPredictionOptions:
    """The options that made the map, with the target and baseline of this evaluation where they were given."""
    made = todays(ExplainPredictionOptions)
    content = options_known_to(made, origin.options if origin.task == "explain-prediction" else None)
    content |= {"volume": options.volume, "model": options.model, "slices": "all", "roi": "", "segments": ""}
    content |= {"regions_from": "supervoxels", "baseline_scan": ""}
    if "baseline" in options.model_fields_set or content.get("baseline") in (None, "scan"):
        content |= {"baseline": options.baseline, "baseline_value": options.baseline_value}
    for name in ("target", "against"):
        if getattr(options, name):
            content[name] = getattr(options, name)
    return made.model_validate(content)


def make_evaluator(
    view: ScanView,
    options: EvaluateExplanationOptions,
    settings: ExplainPredictionOptions,
    method: AttributionMethod | None,
    context: Context,
) -> tuple[Evaluator, np.ndarray]:
    """The evaluator of the samples with the strongest maps, and their numbers.

    Raises InputError when the map does not cover the scan or is zero everywhere.
    """
    explanation = read_map(options.explanation, view.volume, view.grid)
    values = checked_map(view.brought(explanation.array.astype(np.float32), explanation.grid), explanation.name)
    everything = np.arange(len(view.samples))
    maps = view.rows_of(values, everything)
    strength = np.abs(maps).reshape(len(maps), -1).sum(1)
    rows = np.sort(np.argsort(-strength, kind="stable")[: options.most_samples])
    rows = rows[strength[rows] > 0]
    truth = None
    if options.truth:
        segmentation = read_segmentation(options.truth).on_grid(view.volume.grid)
        moved = view.brought(segmentation.union().astype(np.uint8), view.volume.grid, nearest=True)
        truth = view.rows_of(moved, rows) > 0
    target = explained_target(view, settings)
    case = make_case(view, target, rows, settings, seed=context.seed, progress=context.progress, warn=context.warn)
    case.batch_size = case.batch_size or 8
    evaluator = Evaluator(case, np.ascontiguousarray(maps[rows]), options.effort(), method=method, truth=truth)
    return evaluator, rows


def read_map(path: str, scan: Volume, grid: Grid) -> Volume:
    """A map from its file. Raises InputError when it does not cover the scan, which the model sees on ``grid``."""
    explanation = read_volume(Path(path))
    if grid.overlaps(explanation.grid) < SMALLEST_OVERLAP:
        raise InputError(
            f"The map {explanation.name} does not cover the scan {scan.name}.", "Choose the map of this scan."
        )
    return explanation


def checked_map(values: np.ndarray, name: str) -> np.ndarray:
    """The values, if there is something to check. Raises InputError else."""
    if not np.isfinite(values).all() or not values.any():
        raise InputError(
            f"The map {name} is zero everywhere, or holds values that are not numbers.",
            "There is nothing to check: choose another map.",
        )
    return values
