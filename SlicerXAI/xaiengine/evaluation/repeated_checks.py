"""Checks that explain again: another image, a model with random weights, another seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

import numpy as np
import torch
from torch import nn

from ..attribution.bottleneck.information import own_statistics
from ..attribution.feature_maps import explainable
from ..attribution.registry import AttributionMethod
from ..attribution.whole_case import WholeCase
from ..core.progress import Progress, RepeatedProgress
from .evaluation_budget import Effort
from .randomization import CASCADE_STAGES, FAITHFUL_SPEARMAN, Cascade, cascading_randomization, layers_with_parameters
from .sensitivity import run_to_run, sensitivity_max
from .verdict import Check

REPEATED_CHECKS = ("sensitivity_max", "randomization", "run_to_run")
REPEATABLE_SPEARMAN = 0.9
STABLE_CHANGE = 1.0


class RepeatedChecks:
    """Checks of a method on the samples of a case that hold most of its maps (m, spatial...)."""

    def __init__(self, case: WholeCase, maps: np.ndarray, effort: Effort, method: AttributionMethod) -> None:
        self.case, self.effort, self.method = case, effort, method
        amounts = np.abs(maps).reshape(len(maps), -1).sum(1)
        self.judged = sorted(np.argsort(-amounts, kind="stable")[: max(1, effort.samples_again)].tolist())
        self.cascade: Cascade | None = None
        self._progress: RepeatedProgress | None = None

    def run(self, name: str, progress: Progress | None = None) -> Check:
        """One of :data:`REPEATED_CHECKS`, within the running stage of a progress."""
        self._progress = RepeatedProgress(progress, self.times(name) * len(self.judged)) if progress else None
        return getattr(self, name)()

    def passes(self, name: str) -> float:
        """Forward passes that a check takes."""
        counted = self.method.passes(self.case)
        forward = counted.forward + 2 * counted.backward + counted.tail
        return forward * len(self.judged) / self.case.samples * self.times(name)

    def times(self, name: str) -> int:
        """How often a check explains each judged sample; 0 for checks that do not."""
        effort = self.effort
        stages = min(CASCADE_STAGES, len(layers_with_parameters(self.case.network)))
        return {
            "sensitivity_max": effort.draws + 1,
            "randomization": stages * effort.models + 1,
            "run_to_run": effort.seeds,
        }.get(name, 0)

    def sensitivity_max(self) -> Check:
        draws, case = self.effort.draws, self.case
        found = [
            sensitivity_max(
                lambda inputs, row=row: self.again(row, inputs=inputs),
                case.inputs[row : row + 1],
                draws=draws,
                seed=case.seed,
            )
            for row in self.judged
        ]
        largest = max(item.largest for item in found)
        return Check(
            "sensitivity-max",
            largest,
            STABLE_CHANGE,
            f"The map hardly changes when the image changes by 2 % of its range (largest relative change of "
            f"{draws} draws{self._of_samples()}).",
            above=False,
            error=abs(largest - fmean([item.mean for item in found])),
        )

    def randomization(self) -> Check:
        network, runs = self.case.network, self.effort.models
        found = [
            cascading_randomization(
                lambda twin, row=row: self.again(row, network=twin), network, runs=runs, seed=self.case.seed
            )
            for row in self.judged
        ]
        self.cascade = replace(
            found[0],
            spearman=np.mean([item.spearman for item in found], axis=0),
            ssim=np.mean([item.ssim for item in found], axis=0),
            error=fmean([item.error for item in found]),
        )
        return Check(
            "randomization",
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
        spread = fmean([item.relative_sd for item in found])
        return Check(
            "run to run",
            min(item.lowest_spearman for item in found),
            REPEATABLE_SPEARMAN,
            f"Another seed gives the same map (lowest rank correlation{self._of_samples()}; SD over seeds "
            f"{spread:.1%} of the mean).",
            error=spread,
        )

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
        if self._progress is not None:
            self._progress.repeat()
            changes["progress"] = self._progress
        case = self.case.with_(**changes)
        with explainable(case.network):
            found = self.method.run(case).map[0]
        return (found.abs() if self.method.per_input_unit else found).sum(0).float().cpu().numpy()


def _statistics_of(network: nn.Module, inputs: torch.Tensor) -> Callable:
    known: dict = {}

    def lookup(layer: str):  # noqa: ANN202 - ReferenceStatistics
        if layer not in known:
            known[layer] = own_statistics(network, layer, inputs)
        return known[layer]

    return lookup
