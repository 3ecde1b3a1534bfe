"""Runs the checks of an explanation on the samples that it explains."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..attribution.case import Case
from ..attribution.feature_maps import explainable
from ..attribution.registry import AttributionMethod
from ..core.errors import ModelError
from ..core.progress import Progress
from .check_names import CHECK_NAMES
from .controls import edge_map, random_map, smoothness_of
from .curves import ONE_IN_TWENTY, Curve, GameSetting, insertion_deletion, tile_curves
from .evaluation_budget import RANDOM_ORDERS, Effort
from .judged import judged
from .localization import localization
from .randomization import Cascade
from .repeated_checks import REPEATED_CHECKS, RepeatedChecks
from .sensitivity import infidelity, sensitivity_n
from .verdict import Check


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The checks, the curves by name (fractions and values), and the cascade of random models if it was run."""

    checks: tuple[Check, ...]
    curves: dict[str, Curve]
    sensitivity: tuple[np.ndarray, np.ndarray] | None
    cascade: Cascade | None


class Evaluator:
    """Checks the maps of a case's rows (m, spatial...): samples of a prediction, or the target of a segmentation.

    ``method`` is needed by the checks that explain again (sensitivity-max, randomization, run to run); without it
    they are left out. ``truth`` (m, spatial...) boolean is needed by localization.
    """

    def __init__(
        self,
        case: Case,
        maps: np.ndarray,
        effort: Effort,
        *,
        method: AttributionMethod | None = None,
        truth: np.ndarray | None = None,
    ) -> None:
        self.case, self.maps, self.effort = case, maps, effort
        self.method, self.truth = method, truth
        self.judged = judged(case)
        self.per_input_unit = method is not None and method.per_input_unit
        self.forward = self.judged.judge(case.progress)
        self.repeated = RepeatedChecks(self.judged, maps, effort, method) if method is not None else None
        self.games = [self._game(row) for row in range(self.judged.rows)]
        self.curves: dict[str, Curve] = {}
        self.sensitivity: tuple[np.ndarray, np.ndarray] | None = None

    def _game(self, row: int) -> GameSetting:
        part = slice(row, row + 1)
        return GameSetting(
            self.forward,
            self.judged.inputs[part],
            self.judged.baseline[part],
            self.judged.normalized,
            self.effort.steps,
            self.judged.batch_size,
        )

    def run(self, names: list[str], progress: Progress | None = None) -> Evaluation:
        """The named checks, in the order of :data:`CHECK_NAMES`, those that lack what they need left out."""
        checks: list[Check] = []
        with explainable(self.case.network):
            for game in self.games:
                game.ends()  # where scan and baseline have one value, nothing can be measured
            for name in CHECK_NAMES:
                if name in names and self.can(name):
                    if progress is not None:
                        progress.stage(name.replace("_", " ").capitalize(), round(self.passes(name)))
                    if name in REPEATED_CHECKS:
                        assert self.repeated is not None  # can() says so
                        checks.append(self.repeated.run(name, progress))
                    else:
                        checks.append(getattr(self, name)())
        cascade = self.repeated.cascade if self.repeated is not None else None
        return Evaluation(tuple(checks), self.curves, self.sensitivity, cascade)

    def can(self, name: str) -> bool:
        if name in REPEATED_CHECKS:
            return self.repeated is not None
        return name != "localization" or self.truth is not None

    def passes(self, name: str) -> float:
        """Evaluations of the network (samples, or windows) that a check takes."""
        effort, samples = self.effort, self.judged.rows * self.judged.rows_cost
        if name in REPEATED_CHECKS:
            return self.repeated.passes(name) if self.repeated is not None else 0.0
        return {
            "insertion_deletion": 2.0 * effort.steps * (effort.orders + 2) * samples,
            "tiles": 2.0 * effort.steps * (RANDOM_ORDERS + 2) * samples,
            "sensitivity_n": 8.0 * effort.subsets * 3 * samples,
            "infidelity": 3.0 * effort.perturbations * samples,
            "localization": 1.0,
        }[name]

    def seconds_per_pass(self) -> float:
        """Of one evaluation of the network."""
        return self.judged.seconds_per_pass()

    # Each check averages over the samples; errors of independent samples add in squares.

    def insertion_deletion(self) -> Check:
        found = [
            insertion_deletion(game, values, self.effort.orders, self.case.seed)
            for game, values in zip(self.games, self.ordered())
        ]
        edges = [
            insertion_deletion(game, edge, random_gaps=[item.gap - item.gain] * 2).gap
            for game, edge, item in zip(self.games, self.edges(), found)
        ]
        self.curves["insertion"] = _mean_curve([item.inserted for item in found])
        self.curves["deletion"] = _mean_curve([item.deleted for item in found])
        gain, random_sd = _mean([item.gain for item in found]), _mean([item.random_sd for item in found])
        return Check(
            "insertion-deletion",
            gain,
            max(ONE_IN_TWENTY * random_sd, _joint_error([item.interval for item in found])),
            "Showing the voxels that the map ranks first restores the prediction and hiding them destroys it, better "
            "than for random maps (area between the curves, less that of random maps).",
            error=_joint_error([item.interval / 1.96 for item in found]),
            random=0.0,
            edges=_mean(edges) - _mean([item.gap - item.gain for item in found]),
        )

    def tiles(self) -> Check:
        areas, edges, chance = [], [], []
        for game, values, edge in zip(self.games, self.ordered(), self.edges()):
            curves = tile_curves(game, values, self.effort.tile)
            areas.append(curves.area)
            self.curves["most relevant tiles hidden first"] = curves.morf
            self.curves["least relevant tiles hidden first"] = curves.lerf
            edges.append(tile_curves(game, edge, self.effort.tile).area)
            smooth = smoothness_of(values)
            chance += [
                tile_curves(game, random_map(values.shape, self.case.seed + order, smooth), self.effort.tile).area
                for order in range(RANDOM_ORDERS)
            ]
        spread = float(np.std(chance, ddof=1))
        return Check(
            "tiles",
            _mean(areas),
            _mean(chance) + ONE_IN_TWENTY * spread,
            "Hiding tiles from the most relevant on changes the prediction faster than from the least relevant on "
            "(area between LeRF and MoRF).",
            error=spread / math.sqrt(len(chance)),
            random=_mean(chance),
            edges=_mean(edges),
        )

    def sensitivity_n(self) -> Check:
        def measured(maps: Iterable[np.ndarray]) -> list:
            return [
                sensitivity_n(game, values, subsets=self.effort.subsets, seed=self.case.seed)
                for game, values in zip(self.games, maps)
            ]

        found = measured(self.amounts())
        self.sensitivity = (found[0].counts, np.mean([item.correlations for item in found], axis=0))
        error = _joint_error([item.mean_error for item in found])
        noise = [random_map(values.shape, self.case.seed, smoothness_of(values)) for values in self.maps]
        return Check(
            "sensitivity-n",
            _mean([item.mean for item in found]),
            2 * error,
            "The sum of the map over hidden voxels predicts how the prediction changes (mean correlation).",
            error=error,
            random=_mean([item.mean for item in measured(noise)]),
            edges=_mean([item.mean for item in measured(self.edges())]),
        )

    def infidelity(self) -> Check:
        def measured(maps: Iterable[np.ndarray]) -> list:
            return [
                infidelity(game, values, self.effort.perturbations, seed=self.case.seed)
                for game, values in zip(self.games, maps)
            ]

        found = measured(self.amounts())
        error = _joint_error([item.error for item in found])
        noise = [random_map(values.shape, self.case.seed, smoothness_of(values)) for values in self.maps]
        return Check(
            "infidelity",
            _mean([item.scaled for item in found]),
            1 - 2 * error,
            "The map predicts changes when blocks are hidden (squared error by that of an empty map; 0 is perfect).",
            above=False,
            error=error,
            random=_mean([item.scaled for item in measured(noise)]),
            edges=_mean([item.scaled for item in measured(self.edges())]),
        )

    def localization(self) -> Check:
        truth = self.truth
        assert truth is not None  # can() says so
        rows = [row for row in range(len(self.maps)) if truth[row].any() and not truth[row].all()]
        if not rows:
            raise ModelError(
                "The truth marks no voxel of the explained samples.", "Choose the slices in which the cause lies."
            )

        def ratios(maps: np.ndarray) -> float:
            return _mean([localization(maps[row], truth[row]).effective_heat_ratio for row in rows])

        noise = [random_map(values.shape, self.case.seed, smoothness_of(values)) for values in self.maps]
        chance, edges = ratios(np.stack([np.maximum(values, 0) for values in noise])), ratios(np.stack(self.edges()))
        figures = [localization(self.shown()[row], truth[row]) for row in rows]
        return Check(
            "localization",
            _mean([item.effective_heat_ratio for item in figures]),
            max(chance, edges),
            f"Heat lies in the given truth (effective heat ratio; average precision "
            f"{_mean([item.average_precision for item in figures]):.2f}, peak inside in "
            f"{_mean([item.pointing for item in figures]):.0%}).",
            random=chance,
            edges=edges,
        )

    def ordered(self) -> np.ndarray:
        """Maps by which voxels are ordered: plain gradients by size, others by value."""
        return np.abs(self.maps) if self.per_input_unit else self.maps

    def amounts(self) -> np.ndarray:
        """Maps whose sums stand for changes: plain gradients times the difference to the baseline."""
        if not self.per_input_unit:
            return self.maps
        return self.maps * (self.case.inputs - self.case.baseline).sum(1).cpu().numpy()

    def shown(self) -> np.ndarray:
        return np.abs(self.maps) if self.per_input_unit else np.maximum(self.maps, 0)

    def edges(self) -> list[np.ndarray]:
        return [edge_map(image) for image in self.case.inputs.mean(1).cpu().numpy()]


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _joint_error(errors: list[float]) -> float:
    return math.sqrt(sum(error**2 for error in errors)) / len(errors)


def _mean_curve(curves: list[Curve]) -> Curve:
    return Curve(curves[0].fractions, np.mean([curve.values for curve in curves], axis=0))
