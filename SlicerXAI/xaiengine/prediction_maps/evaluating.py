"""Runs the checks of an explanation on the samples that it explains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from ..attribution.case import Case
from ..attribution.feature_maps import explainable
from ..attribution.forward import TargetForward
from ..attribution.information import own_statistics
from ..attribution.methods import Method
from ..errors import ModelError
from ..faithfulness.controls import edge_map, random_map, smoothness_of
from ..faithfulness.curves import ONE_IN_TWENTY, Curve, GameSetting, insertion_deletion, tile_curves
from ..faithfulness.localisation import localisation
from ..faithfulness.randomisation import (
    CASCADE_STAGES,
    FAITHFUL_SPEARMAN,
    Cascade,
    cascading_randomisation,
    layers_with_parameters,
)
from ..faithfulness.sensitivity import infidelity, run_to_run, sensitivity_max, sensitivity_n
from ..faithfulness.verdict import Check
from ..progress import Progress, RepeatedProgress
from ..targets import BinaryTarget, ClassTarget, Target

CHECKS = (
    "insertion_deletion",
    "tiles",
    "sensitivity_n",
    "infidelity",
    "sensitivity_max",
    "randomisation",
    "run_to_run",
    "localisation",
)
REPEATABLE_SPEARMAN = 0.9
STABLE_CHANGE = 1.0
RANDOM_ORDERS = 5


@dataclass(frozen=True)
class Effort:
    """How much work goes into each sampled measure."""

    steps: int = 40
    orders: int = RANDOM_ORDERS
    subsets: int = 100
    perturbations: int = 128
    draws: int = 6
    models: int = 2
    seeds: int = 3
    tile: int = 8
    samples_again: int = 3
    """Samples that checks explain again, those with most of the map."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The checks, the curves by name (fractions and values), and the cascade of random models if it was run."""

    checks: tuple[Check, ...]
    curves: dict[str, Curve]
    sensitivity: tuple[np.ndarray, np.ndarray] | None
    cascade: Cascade | None


class Evaluator:
    """Checks the maps of a case's samples (m, spatial...).

    ``method`` is needed by the checks that explain again (sensitivity-max, randomisation, run to run); without it
    they are left out. ``truth`` (m, spatial...) boolean is needed by localisation.
    """

    def __init__(
        self,
        case: Case,
        maps: np.ndarray,
        effort: Effort,
        *,
        method: Method | None = None,
        truth: np.ndarray | None = None,
        regression: bool = False,
    ) -> None:
        self.case, self.maps, self.effort = case, maps, effort
        self.method, self.truth = method, truth
        self.regression = regression
        self.per_input_unit = method is not None and method.per_input_unit
        self.forward = TargetForward(
            case.network, judged_target(case.target), case.select_output, progress=case.progress
        )
        amounts = np.abs(maps).reshape(len(maps), -1).sum(1)
        self.judged = sorted(np.argsort(-amounts, kind="stable")[: max(1, effort.samples_again)].tolist())
        self.games = [self._game(row) for row in range(case.samples)]
        self.curves: dict[str, Curve] = {}
        self.sensitivity: tuple[np.ndarray, np.ndarray] | None = None
        self.cascade: Cascade | None = None
        self.repeated: RepeatedProgress | None = None

    def _game(self, row: int) -> GameSetting:
        part = slice(row, row + 1)
        return GameSetting(
            self.forward,
            self.case.inputs[part],
            self.case.baseline[part],
            self.regression,
            self.effort.steps,
            max(1, self.case.batch_size),
        )

    def run(self, names: list[str], progress: Progress | None = None) -> Evaluation:
        """The named checks, in the order of :data:`CHECKS`, those that lack what they need left out."""
        checks: list[Check] = []
        with explainable(self.case.network):
            for game in self.games:
                game.ends()
            for name in CHECKS:
                if name in names and self.can(name):
                    if progress is not None:
                        progress.stage(name.replace("_", " ").capitalize(), round(self.passes(name)))
                        self.repeated = RepeatedProgress(progress, self.times(name) * len(self.judged))
                    checks.append(getattr(self, name)())
        return Evaluation(tuple(checks), self.curves, self.sensitivity, self.cascade)

    def can(self, name: str) -> bool:
        if name in ("sensitivity_max", "randomisation", "run_to_run"):
            return self.method is not None
        return name != "localisation" or self.truth is not None

    def times(self, name: str) -> int:
        """How often a check explains each judged sample; 0 for checks that do not."""
        effort = self.effort
        stages = min(CASCADE_STAGES, len(layers_with_parameters(self.case.network)))
        return {
            "sensitivity_max": effort.draws + 1,
            "randomisation": stages * effort.models + 1,
            "run_to_run": effort.seeds,
        }.get(name, 0)

    def passes(self, name: str) -> float:
        """Forward passes that a check takes, for progress."""
        effort, samples = self.effort, self.case.samples
        part = len(self.judged) / samples
        again = self.method.passes(self.case) * part if self.method is not None else 0.0
        return {
            "insertion_deletion": 2.0 * effort.steps * (effort.orders + 2) * samples,
            "tiles": 2.0 * effort.steps * (RANDOM_ORDERS + 2) * samples,
            "sensitivity_n": 8.0 * effort.subsets * 3 * samples,
            "infidelity": 3.0 * effort.perturbations * samples,
            "localisation": 1.0,
        }.get(name, again * self.times(name))

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
        def measured(maps: np.ndarray) -> list:
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
        def measured(maps: np.ndarray) -> list:
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

    def sensitivity_max(self) -> Check:
        draws, case = self.effort.draws, self.case
        found = [
            sensitivity_max(
                lambda inputs, row=row: self.again(row, inputs=inputs), case.inputs[row : row + 1], draws=draws,
                seed=case.seed,
            )
            for row in self.judged
        ]  # fmt: skip
        largest = max(item.largest for item in found)
        return Check(
            "sensitivity-max",
            largest,
            STABLE_CHANGE,
            f"The map hardly changes when the image changes by 2 % of its range (largest relative change of "
            f"{draws} draws{self._of_samples()}).",
            above=False,
            error=abs(largest - _mean([item.mean for item in found])),
        )

    def randomisation(self) -> Check:
        network, runs = self.case.network, self.effort.models
        found = [
            cascading_randomisation(
                lambda twin, row=row: self.again(row, network=twin), network, runs=runs, seed=self.case.seed
            )
            for row in self.judged
        ]
        self.cascade = replace(
            found[0],
            spearman=np.mean([item.spearman for item in found], axis=0),
            ssim=np.mean([item.ssim for item in found], axis=0),
            error=_mean([item.error for item in found]),
        )
        return Check(
            "randomisation",
            self.cascade.final,
            FAITHFUL_SPEARMAN,
            f"The map of a model with random weights is a different one (rank correlation with it"
            f"{self._of_samples()}).",
            above=False,
            error=None if math.isnan(self.cascade.error) else self.cascade.error,
            edges=1.0,
        )

    def run_to_run(self) -> Check:
        seeds = range(self.case.seed, self.case.seed + self.effort.seeds)
        found = [run_to_run(lambda seed, row=row: self.again(row, seed=seed), list(seeds)) for row in self.judged]
        spread = _mean([item.relative_sd for item in found])
        return Check(
            "run to run",
            min(item.lowest_spearman for item in found),
            REPEATABLE_SPEARMAN,
            f"Another seed gives the same map (lowest rank correlation{self._of_samples()}; SD over seeds "
            f"{spread:.1%} of the mean).",
            error=spread,
        )

    def localisation(self) -> Check:
        rows = [row for row in range(len(self.maps)) if self.truth[row].any() and not self.truth[row].all()]
        if not rows:
            raise ModelError(
                "The truth marks no voxel of the explained samples.", "Choose the slices in which the cause lies."
            )

        def ratios(maps: np.ndarray) -> float:
            return _mean([localisation(maps[row], self.truth[row]).effective_heat_ratio for row in rows])

        noise = [random_map(values.shape, self.case.seed, smoothness_of(values)) for values in self.maps]
        noise = np.stack([np.maximum(values, 0) for values in noise])
        chance, edges = ratios(noise), ratios(np.stack(self.edges()))
        figures = [localisation(self.shown()[row], self.truth[row]) for row in rows]
        return Check(
            "localisation",
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

    def _of_samples(self) -> str:
        return f", {len(self.judged)} of {self.case.samples} samples" if self.case.samples > 1 else ""

    def again(
        self,
        row: int,
        *,
        inputs: torch.Tensor | None = None,
        network: nn.Module | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """The method's map (spatial...) of one sample, for other inputs, another network or another seed."""
        part = slice(row, row + 1)
        changes: dict = {"inputs": self.case.inputs[part], "baseline": self.case.baseline[part]}
        if self.case.segments is not None:
            changes["segments"] = self.case.segments[part]
        if inputs is not None:
            changes["inputs"] = inputs
        if network is not None:
            changes["network"] = network
            changes["statistics"] = _statistics_of(network, self.case.inputs)
        if seed is not None:
            changes["seed"] = seed
        if self.repeated is not None:
            self.repeated.repeat()
            changes["progress"] = self.repeated
        case = self.case.with_(**changes)
        with explainable(case.network):
            found = self.method.run(case).map[0]
        return (found.abs() if self.per_input_unit else found).sum(0).float().cpu().numpy()


def _statistics_of(network: nn.Module, inputs: torch.Tensor) -> Callable:
    known: dict = {}

    def lookup(layer: str):  # noqa: ANN202 - ReferenceStatistics
        if layer not in known:
            known[layer] = own_statistics(network, layer, inputs)
        return known[layer]

    return lookup


def judged_target(target: Target) -> Target:
    """What the curves are drawn of: the probability of a class, other targets as they are."""
    if isinstance(target, ClassTarget) and target.activation != "none":
        return ClassTarget(target.index, target.label, "probability", target.activation)
    if isinstance(target, BinaryTarget):
        return BinaryTarget(target.positive, target.label, "probability")
    return target


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _joint_error(errors: list[float]) -> float:
    return math.sqrt(sum(error**2 for error in errors)) / len(errors)


def _mean_curve(curves: list[Curve]) -> Curve:
    return Curve(curves[0].fractions, np.mean([curve.values for curve in curves], axis=0))
