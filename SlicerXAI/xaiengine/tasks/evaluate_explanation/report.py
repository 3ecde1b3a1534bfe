"""The task evaluate-explanation: reads a map and what made it, checks it, writes tables, curves and verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...attribution.registry import find_method
from ...core.console import duration
from ...core.job import write_text_atomically
from ...evaluation.check_names import checked_names
from ...evaluation.curves import Curve
from ...evaluation.evaluating import Evaluation
from ...evaluation.verdict import verdict_line
from ...figures.evaluation_picture import draw_evaluation
from ...models.provenance import model_provenance
from .origin import origin_of
from .prediction_map import prediction_evaluator
from .segmentation_map import segmentation_evaluator

if TYPE_CHECKING:
    from ..task import Context, Outcome
    from .options import EvaluateExplanationOptions


def evaluate_and_write(options: EvaluateExplanationOptions, context: Context) -> Outcome:
    """Read, check, write."""
    from ..task import Outcome

    context.progress.stage("Preparing")
    names = checked_names(options.checks)
    model = context.session.model(options.model, context.device, context.trust_model)
    origin = origin_of(Path(options.explanation))
    method = find_method(options.method or origin.method) if options.method or origin.method else None
    prepare = segmentation_evaluator if model.task == "segmentation" else prediction_evaluator
    evaluator, rows = prepare(model, options, origin, method, context)
    left_out = [name for name in names if not evaluator.can(name)]
    if left_out and ("checks" in options.model_fields_set or left_out != ["localization"]):
        context.warn(
            f"Left out: {', '.join(left_out)}. Localization needs the truth; sensitivity_max, randomization and "
            "run_to_run need the method that made the map."
        )
    passes = {name: evaluator.passes(name) for name in names if evaluator.can(name)}
    seconds = sum(passes.values()) * evaluator.seconds_per_pass()
    what = "windows" if model.task == "segmentation" else "passes"
    context.expect(f"About {round(sum(passes.values()))} {what} through the model, {duration(seconds)}.", seconds)
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
