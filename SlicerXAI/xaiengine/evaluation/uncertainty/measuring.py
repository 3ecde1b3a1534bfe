"""Runs the variations of a case and measures how far maps and predictions differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...attribution.estimate import Estimate
from ...attribution.explanation import Explanation
from ...attribution.registry import AttributionMethod
from ...attribution.whole_case import WholeCase
from ...attribution.window_case import WindowCase
from ...core.console import duration
from ...core.errors import ModelError
from ...core.progress import Progress, RepeatedProgress
from ...inference.scan_view import ScanView
from ...io.grid import Grid
from ...targets.segmentation_targets import voxel_scores
from ...targets.targets import predicted_probabilities
from .runs import KEEPS_FIRST, TITLES, Run, Variation, variations, whole_run, window_run
from .spread import MapSpread, RunningSpread, rank_correlation

STAGE = "Measuring the uncertainty"
AS_IT_IS = "as reported"


@dataclass(eq=False)
class Uncertainty:
    """How far runs differ. ``maps`` belong to the explanations in their order; ``runs`` are rows of a table.

    ``probability_sd`` (I, J, K) is that of the explained class on the network's grid, of segmentations; ``prediction``
    holds mean and SD of each label's probability or volume over the runs, ``target_sd`` the explained number's.
    """

    source: str
    maps: list[MapSpread]
    runs: list[dict[str, Any]]
    prediction: dict[str, tuple[float, float]]
    target_sd: float
    probability_sd: np.ndarray | None = None

    @property
    def title(self) -> str:
        return TITLES[self.source]

    @property
    def count(self) -> int:
        return self.maps[0].spread.count if self.maps else 0

    def with_sd(self, explanations: Sequence[Explanation]) -> list[Explanation]:
        """The explanations with their SD as a further map, and the stable share among their figures."""
        found = []
        for item, measured in zip(explanations, self.maps):
            figures = {**item.convergence, "stable_share": measured.stable_share}
            found.append(replace(item, extras={**item.extras, "uncertainty": measured.sd}, convergence=figures))
        return found


@dataclass(frozen=True, eq=False)
class Plan:
    """What will be run, known before: the runs and their seconds."""

    source: str
    variations: Sequence[Variation]
    seconds: float

    def describe(self) -> str:
        count = len(self.variations)
        return (
            f"Uncertainty over {TITLES[self.source]}: {count} more run{'s' * (count != 1)}, "
            f"about {duration(self.seconds)} in addition."
        )


def plan_whole(source: str, runs: int, case: WholeCase, expected: Estimate) -> Plan:
    """The runs of a prediction, and what they take."""
    axes = [axis for axis, size in enumerate(case.voxels) if size > 1]
    found = variations(source, runs, case.network, axes)
    return Plan(source, found, len(found) * expected.total)


def plan_windows(source: str, runs: int, case: WindowCase, expected: Estimate) -> Plan:
    """The runs of a segmentation, and what they take: each predicts the whole scan again."""
    windows = case.scan.windows.layout
    axes = [axis for axis, size in enumerate(case.image.shape[2:]) if size > 1 and axis != windows.flat_axis]
    found = variations(source, runs, case.network, axes)
    again = windows.count * case.scan.seconds_per_window
    return Plan(source, found, len(found) * (expected.total + again))


def measure_whole(
    plan: Plan,
    methods: Sequence[AttributionMethod],
    case: WholeCase,
    view: ScanView,
    rows: np.ndarray,
    explanations: Sequence[Explanation],
    *,
    regions: Mapping[str, np.ndarray] | None = None,
    grid: Grid | None = None,
    expected: Estimate | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Uncertainty:
    """Uncertainty of a prediction; ``regions`` are masks (I, J, K) on ``grid``."""
    outputs = view.outputs[rows]
    reported = Run(
        AS_IT_IS,
        tuple(explanations),
        (float(case.target.value(outputs).max()),),
        predicted_probabilities(view.model, outputs.mean(0, keepdim=True)),
    )

    def run(variation: Variation, inner: Progress | None) -> Run:
        return whole_run(variation, methods, case, view, rows, expected, inner, warn)

    return _measure(plan, run, reported, regions or {}, grid or view.volume.grid, progress, warn)


def measure_windows(
    plan: Plan,
    methods: Sequence[AttributionMethod],
    case: WindowCase,
    explanations: Sequence[Explanation],
    *,
    regions: Mapping[str, np.ndarray] | None = None,
    expected: Estimate | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Uncertainty:
    """Uncertainty of a segmentation; ``regions`` are masks (I, J, K) on the network's grid."""
    scan = case.scan
    probability = voxel_scores(scan.output.float(), case.chosen[0].index, "probability", scan.form)[0]
    reported = Run(
        AS_IT_IS,
        tuple(explanations),
        tuple(float(item.target.value(scan.output)[0]) for item in case.chosen),
        {
            label: float(scan.masks[number].sum()) * scan.grid.voxel_volume_ml
            for number, label in enumerate(scan.labels)
            if number != scan.background
        },
        probability.cpu().numpy(),
    )

    def run(variation: Variation, inner: Progress | None) -> Run:
        return window_run(variation, methods, case, expected, inner, warn)

    return _measure(plan, run, reported, regions or {}, scan.grid, progress, warn)


def _measure(
    plan: Plan,
    explain: Callable[[Variation, Progress | None], Run],
    reported: Run,
    regions: Mapping[str, np.ndarray],
    grid: Grid,
    progress: Progress | None,
    warn: Callable[[str], None],
) -> Uncertainty:
    if progress is not None:
        progress.stage(STAGE, 1000)
    inner = RepeatedProgress(progress, len(plan.variations)) if progress is not None else None
    maps = [MapSpread(item.method, item.row, item.layer) for item in reported.maps]
    probability = RunningSpread()
    runs: list[Run] = []
    rows = []
    for variation in [None, *plan.variations]:
        if variation is None:
            run = reported
        else:
            if inner is not None:
                inner.repeat()
            run = explain(variation, inner)
        matched = [_same(item, number, reported.maps, run.maps) for number, item in enumerate(reported.maps)]
        counted = variation is not None or plan.source in KEEPS_FIRST
        if counted:
            runs.append(run)
            if run.probability is not None:
                probability.add(run.probability)
        for base, measured, item in zip(reported.maps, maps, matched):
            if item is None:
                continue
            placed = item.on(base.grid).map
            if counted:
                measured.spread.add(placed)
                measured.add_regions(item.on(grid).map, regions)
            if variation is not None:
                measured.correlations.append(rank_correlation(base.map, placed))
            rows.append(_row(run, base, measured.correlations[-1] if variation is not None else None))
    if not runs or min(item.spread.count for item in maps) < 2:
        raise ModelError(
            f"Fewer than two runs over {TITLES[plan.source]} gave a map, which says nothing of their spread.",
            "Ask for more runs, or for another source of uncertainty.",
        )
    for base, measured in zip(reported.maps, maps):
        measured.measure_regions(*_on(base, measured, grid), regions)
        if plan.source == "seeds" and not measured.spread.sd.any():
            warn(f"{base.title} draws no random numbers: its maps are the same for every seed.")
    values = [run.values[0] for run in runs]
    return Uncertainty(
        plan.source,
        maps,
        rows,
        {
            label: (float(np.mean(found)), float(np.std(found, ddof=1)))
            for label in reported.prediction
            for found in [[run.prediction[label] for run in runs]]
        },
        float(np.std(values, ddof=1)),
        probability.sd.astype(np.float32) if probability.count > 1 else None,
    )


def _same(base: Explanation, number: int, reported: Sequence[Explanation], found: Sequence[Explanation]) -> Any:
    """The map of a run that belongs to a reported one: of its method and target, at the layer of the same rank."""
    rank = sum((item.method, item.row) == (base.method, base.row) for item in reported[:number])
    alike = [item for item in found if (item.method, item.row) == (base.method, base.row)]
    return alike[rank] if rank < len(alike) else None


def _row(run: Run, base: Explanation, correlation: float | None) -> dict[str, Any]:
    named = "prediction of {}" if run.probability is None else "volume of {} (mL)"
    return {
        "run": run.title,
        "method": base.title,
        "target": base.target,
        "value": run.values[base.row],
        "rank correlation with the map": correlation,
        **{named.format(label): found for label, found in run.prediction.items()},
    }


def _on(base: Explanation, measured: MapSpread, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Mean and SD of a map on another grid."""
    mean = replace(base, map=measured.spread.mean.astype(np.float32), extras={"sd": measured.sd}, channels=None)
    moved = mean.on(grid)
    return moved.map, moved.extras["sd"]
