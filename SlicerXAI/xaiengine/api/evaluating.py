"""``xai.evaluate``: does a map tell the truth about the model?"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..attribution.registry import AttributionMethod, find_method
from ..attribution.whole_case import WholeCase
from ..core.errors import InputError, OptionError
from ..core.progress import Progress
from ..evaluation.check_names import CHECK_NAMES, checked_names
from ..evaluation.curves import Curve
from ..evaluation.evaluating import Evaluation as Measured
from ..evaluation.evaluating import Evaluator
from ..evaluation.evaluation_budget import Effort
from ..evaluation.randomization import Cascade
from ..evaluation.repeated_checks import REPEATED_CHECKS
from ..evaluation.verdict import Check, verdict_line
from .notebook import html_page, png_bytes
from .questions import PredictionQuestion, SegmentationQuestion
from .reporting import Notes, Reporter, as_progress
from .results import Explanation
from .scans import as_mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The checks of a map.

    Attributes:
        verdict: one line for readers who know none of the measures.
        checks: each measure with its Monte-Carlo error, what a random map and an edge filter reach, threshold, result.
        curves: insertion, deletion and tiles: fractions of voxels (0..1) and values of the target.
        notes: what was left out, and why.
    """

    verdict: str
    checks: Mapping[str, Check]
    curves: Mapping[str, Curve]
    cascade: Cascade | None
    notes: tuple[str, ...] = ()
    measured: Measured | None = field(default=None, repr=False)

    @property
    def passed(self) -> bool:
        """Whether every check was passed."""
        return all(check.passed for check in self.checks.values())

    def table(self) -> list[dict[str, object]]:
        """A row for each check, for ``pandas.DataFrame(check.table())``."""
        return [check.row() for check in self.checks.values()]

    def figure(self, theme: str = "print") -> Figure | None:
        """The curves as a matplotlib figure; None where no curve was measured."""
        from ..figures.evaluation_picture import evaluation_figure

        return None if self.measured is None else evaluation_figure(self.measured, "", theme)

    def __str__(self) -> str:
        return self.verdict

    def _repr_html_(self) -> str:
        head = ("check", "value", "error", "random map", "edge map", "threshold", "result")
        rows = "".join("<tr>" + "".join(_cell(row[name]) for name in head) + "</tr>" for row in self.table())
        titles = "".join(f"<th style='text-align:left'>{name}</th>" for name in head)
        figure = self.figure()
        page = html_page({"verdict": self.verdict}, self.notes, None if figure is None else png_bytes(figure))
        return f"{page}<table><tr>{titles}</tr>{rows}</table>"


def evaluate(
    explanation: Explanation,
    checks: str | Sequence[str] = (),
    *,
    truth: Any = None,
    segment: str = "",
    method: str = "",
    most_samples: int = 3,
    seed: int = 0,
    progress: Reporter = None,
    **effort: int,
) -> Evaluation:
    """Check whether a map tells the truth about the model: of predictions and of segmentations alike.

    Args:
        explanation: from :func:`explain`. A map made elsewhere can be checked in its place:
            ``dataclasses.replace(explanation, map=other)``.
        checks: any of insertion_deletion, tiles, sensitivity_n, infidelity, sensitivity_max, randomization,
            run_to_run, localization; all that can be done if empty.
        truth: where the cause is known to lie, for localization: a segmentation (``segment`` names one structure of
            it), or a boolean array on the scan's grid.
        method: that made the map, for the checks that explain again; the explanation's own if empty.
        most_samples: of models of slices, the slices with the strongest maps that are checked.
        seed: of random maps, subsets and models.
        progress: ``print``, or another function of a line of text.
        **effort: ``steps`` of curves, random ``orders``, ``subsets``, ``perturbations``, ``draws``, random ``models``,
            ``seeds``, ``tile`` in voxels.

    Raises:
        OptionError: unknown checks or efforts, or a check that lacks what it needs.
        InputError: a map that is zero everywhere.
        ModelError: the model says the same of the scan and of the baseline.
    """
    question = explanation.question
    if question is None:
        raise OptionError("The explanation does not know what was asked.", "Take it from xai.explain(...).")
    names = [checks] if isinstance(checks, str) else list(checks)
    wanted = checked_names(names) if names else list(CHECK_NAMES)
    maker = _maker(method or explanation.method)
    budget = _budget(effort)
    report, notes = as_progress(progress), Notes()
    if isinstance(question, PredictionQuestion):
        evaluator = _of_prediction(explanation, question, budget, maker, truth, segment, most_samples, seed, report)
    else:
        evaluator = _of_segmentation(explanation, question, budget, maker, truth, segment, seed, report)
    left_out = [name for name in wanted if not evaluator.can(name)]
    if names and left_out:
        needed = "the method that made the map" if left_out[0] in REPEATED_CHECKS else "the truth"
        raise OptionError(f"The check {left_out[0]} needs {needed}.", "Give it, or leave the check out.")
    if left_out:
        notes(f"Left out: {', '.join(left_out)}.")
    todo = [name for name in wanted if name not in left_out]
    report.plan([(name.replace("_", " ").capitalize(), evaluator.passes(name)) for name in todo])
    found = evaluator.run(todo, report)
    report.finish()
    return Evaluation(
        verdict_line(explanation.title, found.checks),
        {check.name: check for check in found.checks},
        found.curves,
        found.cascade,
        tuple(notes.texts),
        found,
    )


def _maker(name: str) -> AttributionMethod | None:
    try:
        return find_method(name) if name else None
    except OptionError:  # a map made elsewhere
        return None


def _budget(effort: Mapping[str, int]) -> Effort:
    known = Effort.__dataclass_fields__
    unknown = next((name for name in effort if name not in known), None)
    if unknown is not None:
        raise OptionError(f"There is no effort {unknown!r}.", f"There are {', '.join(known)}.")
    for name, value in effort.items():
        if value < 1:
            raise OptionError(f"{name} is {value}.", "Use 1 or more.")
    return replace(Effort(), **effort)


def _of_prediction(
    explanation: Explanation,
    question: PredictionQuestion,
    budget: Effort,
    method: AttributionMethod | None,
    truth: Any,
    segment: str,
    most: int,
    seed: int,
    progress: Progress,
) -> Evaluator:
    maps = question.on_samples(explanation.map.astype(np.float32), explanation.grid)[question.rows]
    strength = np.abs(_something(maps)).reshape(len(maps), -1).sum(1)
    chosen = np.sort(np.argsort(-strength, kind="stable")[: max(1, most)])
    chosen = chosen[strength[chosen] > 0]
    case: WholeCase = question.case
    marks = None
    if truth is not None:
        mask = as_mask(truth, question.view.volume.grid, segment)
        marks = question.on_samples(mask.astype(np.uint8), question.view.volume.grid, True)[question.rows][chosen] > 0
    case = case.with_(
        inputs=case.inputs[chosen],
        baseline=case.baseline[chosen],
        segments=None if case.segments is None else case.segments[chosen],
        roi=None if case.roi is None else case.roi[chosen],
        batch_size=case.batch_size or 8,
        seed=seed,
        progress=progress,
    )
    return Evaluator(case, np.ascontiguousarray(maps[chosen]), budget, method=method, truth=marks)


def _of_segmentation(
    explanation: Explanation,
    question: SegmentationQuestion,
    budget: Effort,
    method: AttributionMethod | None,
    truth: Any,
    segment: str,
    seed: int,
    progress: Progress,
) -> Evaluator:
    scan = question.scan
    case = replace(question.of_row(explanation.row, progress), seed=seed)
    maps = _something(explanation.on(scan.grid).map.astype(np.float32))[None]
    marks = None
    if truth is not None:
        mask = as_mask(truth, scan.volume.grid, segment)
        marks = scan.on_grid(mask).cpu().numpy()[None]
    return Evaluator(case, np.ascontiguousarray(maps), budget, method=method, truth=marks)


def _something(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all() or not values.any():
        raise InputError(
            "The map is zero everywhere, or holds values that are not numbers.", "There is nothing to check."
        )
    return values


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"<td style='text-align:left'>{html.escape(text)}</td>"
