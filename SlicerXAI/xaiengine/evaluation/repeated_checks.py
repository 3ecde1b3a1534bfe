"""Checks that explain again: another image, a model with random weights, another seed."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from ..attribution.registry import AttributionMethod
from ..core.progress import Progress, RepeatedProgress
from .evaluation_budget import Effort
from .judged import Judged, forward_passes
from .randomization import CASCADE_STAGES, FAITHFUL_SPEARMAN, Cascade, cascading_randomization, layers_with_parameters
from .sensitivity import run_to_run, sensitivity_max
from .verdict import Check

REPEATED_CHECKS = ("sensitivity_max", "randomization", "run_to_run")
REPEATABLE_SPEARMAN = 0.9
STABLE_CHANGE = 1.0


class RepeatedChecks:
    """Checks of a method on the samples of a case that hold most of its maps (m, spatial...)."""

    def __init__(self, judged: Judged, maps: np.ndarray, effort: Effort, method: AttributionMethod) -> None:
        self.judged, self.effort, self.method = judged, effort, method
        amounts = np.abs(maps).reshape(len(maps), -1).sum(1)
        self.rows = sorted(np.argsort(-amounts, kind="stable")[: max(1, effort.samples_again)].tolist())
        self.cascade: Cascade | None = None
        self._progress: RepeatedProgress | None = None

    def run(self, name: str, progress: Progress | None = None) -> Check:
        """One of :data:`REPEATED_CHECKS`, within the running stage of a progress."""
        self._progress = RepeatedProgress(progress, self.times(name) * len(self.rows)) if progress else None
        return getattr(self, name)()

    def passes(self, name: str) -> float:
        """Forward passes that a check takes."""
        once = forward_passes(self.method.passes(self.judged.case))
        return once * len(self.rows) / self.judged.rows * self.times(name)

    def times(self, name: str) -> int:
        """How often a check explains each judged sample; 0 for checks that do not."""
        effort = self.effort
        stages = min(CASCADE_STAGES, len(layers_with_parameters(self.judged.network)))
        return {
            "sensitivity_max": effort.draws + 1,
            "randomization": stages * effort.models + 1,
            "run_to_run": effort.seeds,
        }.get(name, 0)

    def sensitivity_max(self) -> Check:
        draws = self.effort.draws
        found = [
            sensitivity_max(
                lambda inputs, row=row: self.again(row, inputs=inputs),
                self.judged.inputs[row : row + 1],
                draws=draws,
                seed=self.judged.case.seed,
            )
            for row in self.rows
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
        network, runs = self.judged.network, self.effort.models
        found = [
            cascading_randomization(
                lambda twin, row=row: self.again(row, network=twin), network, runs=runs, seed=self.judged.case.seed
            )
            for row in self.rows
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
        seeds = range(self.judged.case.seed, self.judged.case.seed + self.effort.seeds)
        found = [run_to_run(lambda seed, row=row: self.again(row, seed=seed), list(seeds)) for row in self.rows]
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
        return f", {len(self.rows)} of {self.judged.rows} samples" if self.judged.rows > 1 else ""

    def again(self, row: int, **changes: Any) -> np.ndarray:
        """The method's map (spatial...) of one row, for other ``inputs``, another ``network`` or another ``seed``."""
        if self._progress is not None:
            self._progress.repeat()
        return self.judged.again(self.method, row, self._progress, **changes)
