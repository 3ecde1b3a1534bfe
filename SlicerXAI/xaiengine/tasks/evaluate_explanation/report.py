"""The task evaluate-explanation: reads a map and what made it, checks it, writes tables, curves and verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...attribution.registry import AttributionMethod, find_method
from ...core.cancellation import interruptibly
from ...core.console import duration
from ...core.errors import InputError
from ...core.job import RESULT_NAME, read_result, write_text_atomically
from ...evaluation.check_names import checked_names
from ...evaluation.curves import Curve
from ...evaluation.evaluating import Evaluation, Evaluator
from ...evaluation.evaluation_budget import Effort
from ...evaluation.verdict import verdict_line
from ...figures.evaluation_picture import draw_evaluation
from ...inference.scan_reading import read_for_model
from ...inference.scan_view import ScanView, view_scan
from ...io.segmentation_files import read_segmentation
from ...io.volume_files import read_volume
from ...lesions.lungs.lungs_alone import lungs_alone
from ...models.provenance import model_provenance
from ..explain_prediction.explaining import explained_target, make_case
from ..explain_prediction.options import ExplainPredictionOptions
from ..method_options import todays

if TYPE_CHECKING:
    from ..task import Context, Outcome
    from .options import EvaluateExplanationOptions

SMALLEST_OVERLAP = 0.05


@dataclass(frozen=True)
class Origin:
    """How a map was made, as far as the ``result.json`` beside it tells: its method and options."""

    method: str = ""
    options: Mapping[str, Any] | None = None
    title: str = ""


def origin_of(path: Path) -> Origin:
    """The origin of a map; empty when no ``result.json`` of explain-prediction lists it."""
    if not (path.parent / RESULT_NAME).is_file():
        return Origin()
    result = read_result(path.parent)
    artifact = next((item for item in result.artifacts if item.file == path.name), None)
    if result.task != "explain-prediction" or artifact is None or not artifact.role.startswith("attribution"):
        return Origin()
    methods = list(result.provenance.get("methods", {}))
    method = artifact.role.removeprefix("attribution").removeprefix("-") or (methods[0] if methods else "")
    return Origin(method, result.provenance.get("options"), artifact.name)


def evaluate_and_write(options: EvaluateExplanationOptions, context: Context) -> Outcome:
    """Read, check, write."""
    from ..task import Outcome

    context.progress.stage("Preparing")
    names = checked_names(options.checks)
    model = context.session.model(options.model, context.device, context.trust_model)
    check = context.progress.check
    origin = origin_of(Path(options.explanation))
    made_with = origin.options or {}
    channels = options.channels or made_with.get("channels", [])
    series = options.series or made_with.get("series", "")
    scan = interruptibly(check, read_for_model, model, options.volume, channels, series)
    view = view_scan(scan, model, check, shown_part=lungs_alone)
    if view.note:
        context.warn(view.note)
    method = find_method(options.method or origin.method) if options.method or origin.method else None
    settings = explanation_options(options, origin)
    evaluator, rows = make_evaluator(view, options, settings, method, context)
    left_out = [name for name in names if not evaluator.can(name)]
    if left_out and ("checks" in options.model_fields_set or left_out != ["localization"]):
        context.warn(
            f"Left out: {', '.join(left_out)}. Localization needs the truth; sensitivity_max, randomization and "
            "run_to_run need the method that made the map."
        )
    passes = {name: evaluator.passes(name) for name in names if evaluator.can(name)}
    seconds = sum(passes.values()) * evaluator.seconds_per_pass()
    context.expect(f"About {round(sum(passes.values()))} passes through the model, {duration(seconds)}.", seconds)
    context.progress.plan([(name.replace("_", " ").capitalize(), share) for name, share in passes.items()])
    found = evaluator.run(names, context.progress)
    title = origin.title or Path(options.explanation).name
    line = verdict_line(title, found.checks)
    context.log(line)
    _write(found, line, title, context)
    return Outcome(
        values={
            "verdict": line,
            "checks_passed": sum(check.passed for check in found.checks),
            "checks_done": len(found.checks),
        },
        provenance={
            "model": model_provenance(model),
            "target": evaluator.forward.target.name,
            "samples": [int(row) for row in rows],
            "method": method.name if method else "",
        },
    )


def explanation_options(options: EvaluateExplanationOptions, origin: Origin) -> ExplainPredictionOptions:
    """The options that made the map, with the target and baseline of this evaluation where they were given."""
    made = todays(ExplainPredictionOptions)
    known = made.model_fields
    content = {name: value for name, value in (origin.options or {}).items() if name in known}
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
    explanation = read_volume(options.explanation)
    if view.grid.overlaps(explanation.grid) < SMALLEST_OVERLAP:
        raise InputError(
            f"The map {explanation.name} does not cover the scan {view.volume.name}.", "Choose the map of this scan."
        )
    values = view.brought(explanation.array.astype(np.float32), explanation.grid)
    if not np.isfinite(values).all() or not values.any():
        raise InputError(
            f"The map {explanation.name} is zero everywhere, or holds values that are not numbers.",
            "There is nothing to check: choose another map.",
        )
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
    effort = Effort(
        options.steps,
        options.orders,
        options.subsets,
        options.perturbations,
        options.draws,
        options.random_models,
        options.seeds,
        options.tile,
    )
    evaluator = Evaluator(case, np.ascontiguousarray(maps[rows]), effort, method=method, truth=truth)
    return evaluator, rows


def _write(found: Evaluation, line: str, title: str, context: Context) -> None:
    output = context.output
    rows = [check.row() for check in found.checks]
    output.table("checks.csv", list(rows[0]), rows, "checks", "checks", description=line)
    if found.curves:
        columns, table = curve_rows(found.curves)
        output.table("curves.csv", columns, table, "curves", "curves")
        output.add(
            "plot",
            "curves.csv",
            "curves (chart)",
            "curves-chart",
            display={
                "table": "curves",
                "x": "fraction",
                "y": columns[1:],
                "title": title,
                "x_title": "part of the voxels",
                "y_title": "prediction",
            },
        )
    if found.cascade is not None:
        stages = [
            {"randomized down to": layer, "spearman": float(rank), "ssim": float(structure)}
            for layer, rank, structure in zip(found.cascade.layers, found.cascade.spearman, found.cascade.ssim)
        ]
        output.table("randomization.csv", list(stages[0]), stages, "randomization", "randomization")
    write_text_atomically(output.path("verdict.txt"), line + "\n")
    output.add("text", "verdict.txt", "verdict", "verdict", description=line)
    if draw_evaluation(output.path("picture.png"), found, title):
        output.add("image", "picture.png", "picture", "picture", description=line)


def curve_rows(curves: Mapping[str, Curve]) -> tuple[list[str], list[dict[str, float]]]:
    """One table of all curves over the fractions of the finest, linear in between."""
    finest = max(curves.values(), key=lambda curve: len(curve.fractions)).fractions
    columns = ["fraction", *curves]
    values = {name: np.interp(finest, curve.fractions, curve.values) for name, curve in curves.items()}
    return columns, [
        {"fraction": float(fraction), **{name: float(column[row]) for name, column in values.items()}}
        for row, fraction in enumerate(finest)
    ]
