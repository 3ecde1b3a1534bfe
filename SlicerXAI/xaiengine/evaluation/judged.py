"""What the checks ask of an explained case, the same for predictions and for segmentations through windows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ..attribution.bottleneck.information import own_statistics
from ..attribution.bottleneck.statistics import ReferenceStatistics
from ..attribution.case import Case
from ..attribution.feature_maps import explainable
from ..attribution.forward import TargetForward
from ..attribution.registry import AttributionMethod, Passes
from ..attribution.whole_case import WholeCase
from ..attribution.window_case import WindowCase
from ..core.errors import OptionError
from ..core.progress import Progress
from ..inference.window_output import WindowNetwork
from ..inference.windows import WindowedModel
from ..targets.targets import BinaryTarget, ClassTarget, RegressionTarget, Target
from .curves import Judge

MOST_IMAGE_BYTES = 2**27
"""Changed images of a segmentation that are held at once."""


class Judged(Protocol):
    """An explained case, row by row (samples of a prediction; the one target of a segmentation).

    Attributes:
        normalized: whether curves are of the value between baseline and scan, not of a probability.
        batch_size: changed images at a time.
        rows_cost: evaluations of the network (rows, or windows) that the value of one changed image takes.
    """

    normalized: bool
    batch_size: int
    rows_cost: float

    @property
    def case(self) -> Case: ...
    @property
    def rows(self) -> int: ...
    @property
    def inputs(self) -> torch.Tensor: ...
    @property
    def baseline(self) -> torch.Tensor: ...
    @property
    def network(self) -> nn.Module: ...
    def judge(self, progress: Progress | None) -> Judge:
        """Images to values of what the curves are drawn of."""
        ...

    def seconds_per_pass(self) -> float:
        """Of one evaluation of the network."""
        ...

    def again(
        self,
        method: AttributionMethod,
        row: int,
        progress: Progress | None,
        *,
        inputs: torch.Tensor | None = None,
        network: nn.Module | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """The method's map (spatial...) of one row, for another image, network or seed."""
        ...


def judged(case: Case) -> Judged:
    """The case as the checks see it. Raises OptionError for several targets of a segmentation at once."""
    if isinstance(case, WindowCase):
        return JudgedSegmentation(case)
    if isinstance(case, WholeCase):
        return JudgedPrediction(case)
    raise TypeError(f"{type(case).__name__} cannot be checked")


def forward_passes(counted: Passes) -> float:
    """Passes in units of one forward pass; one that is differentiated counts three, from a bottleneck on as well."""
    return counted.forward + 2 * counted.backward + counted.tail


def judged_target(target: Target) -> Target:
    """What the curves are drawn of: the probability of a class, other targets as they are."""
    if isinstance(target, ClassTarget) and target.activation != "none":
        return ClassTarget(target.index, target.label, "probability", target.activation)
    if isinstance(target, BinaryTarget):
        return BinaryTarget(target.positive, target.label, "probability")
    return target


def _map_of(method: AttributionMethod, found: torch.Tensor) -> np.ndarray:
    return (found.abs() if method.per_input_unit else found).sum(0).float().cpu().numpy()


class JudgedPrediction:
    """Samples of a prediction."""

    rows_cost = 1.0

    def __init__(self, case: WholeCase) -> None:
        self.case = case
        self.normalized = isinstance(case.target, RegressionTarget)
        self.batch_size = max(1, case.batch_size)

    @property
    def rows(self) -> int:
        return self.case.samples

    @property
    def inputs(self) -> torch.Tensor:
        return self.case.inputs

    @property
    def baseline(self) -> torch.Tensor:
        return self.case.baseline

    @property
    def network(self) -> nn.Module:
        return self.case.network

    def judge(self, progress: Progress | None) -> Judge:
        return TargetForward(self.network, judged_target(self.case.target), self.case.select_output, progress)

    def seconds_per_pass(self) -> float:
        """At the batch size of the curves; the second of two batches is timed."""
        forward = self.judge(None)
        inputs = self.inputs[:1].expand(self.batch_size, *self.inputs.shape[1:])
        started = time.perf_counter()
        for _ in range(2):
            started = time.perf_counter()
            forward.values(inputs, len(inputs))
        return (time.perf_counter() - started) / len(inputs)

    def again(
        self,
        method: AttributionMethod,
        row: int,
        progress: Progress | None,
        *,
        inputs: torch.Tensor | None = None,
        network: nn.Module | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        part = slice(row, row + 1)
        changes: dict[str, Any] = {"inputs": self.inputs[part], "baseline": self.baseline[part]}
        if self.case.segments is not None:
            changes["segments"] = self.case.segments[part]
        if inputs is not None:
            changes["inputs"] = inputs
        if network is not None:
            changes |= {"network": network, "statistics": _statistics_of(network, self.inputs)}
        if seed is not None:
            changes["seed"] = seed
        if progress is not None:
            changes["progress"] = progress
        case = self.case.with_(**changes)
        with explainable(case.network):
            return _map_of(method, method.run(case).map[0])


class JudgedSegmentation:
    """The one target of a segmentation, through its windows; masks of the targets stay those of the trained model."""

    normalized = True

    def __init__(self, case: WindowCase) -> None:
        if len(case.chosen) != 1:
            raise OptionError(
                f"{len(case.chosen)} targets of a segmentation were explained together; checks are of one.",
                "Check the map of one target.",
            )
        self.case = case
        self.rows_cost = float(len(case.touched))
        self.batch_size = max(1, min(8, MOST_IMAGE_BYTES // max(1, case.image.nbytes)))

    @property
    def rows(self) -> int:
        return 1

    @property
    def inputs(self) -> torch.Tensor:
        return self.case.inputs

    @property
    def baseline(self) -> torch.Tensor:
        return self.case.baseline

    @property
    def network(self) -> nn.Module:
        return self.case.network

    def judge(self, progress: Progress | None) -> Judge:
        if progress is not None:
            self.case.scan.windows.on_windows = progress.advance
        return self.case.forward()

    def seconds_per_pass(self) -> float:
        """Of one window, the second of two."""
        started = time.perf_counter()
        with torch.no_grad():
            for _ in range(2):
                started = time.perf_counter()
                self.case.evaluate(self.case.sample)
        return time.perf_counter() - started

    def again(
        self,
        method: AttributionMethod,
        row: int,
        progress: Progress | None,
        *,
        inputs: torch.Tensor | None = None,
        network: nn.Module | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        scan = self.case.scan
        if inputs is not None:
            scan = replace(scan, image=inputs)
        model = scan.model
        if network is not None:  # its statistics are not those of the trained one
            model = replace(model, network=network, digest="", reference="", files=None, statistics={})
        module = WindowNetwork(model.network, model.select_output)
        windows = WindowedModel(module, scan.windows.layout, scan.windows.batch_size)
        if progress is not None:
            windows.on_windows = lambda count: progress.check()
        changes: dict[str, Any] = {"scan": replace(scan, model=model, module=module, windows=windows)}
        changes |= {"baseline_image": self.case.one_baseline, "progress": progress}
        if seed is not None:
            changes["seed"] = seed
        case = self.case.with_(**changes)
        with explainable(case.network), case.reporting(method.family == "information"):
            return _map_of(method, case.on_input(method.run(case))[0])


def _statistics_of(network: nn.Module, inputs: torch.Tensor) -> Callable[[str], ReferenceStatistics]:
    known: dict[str, ReferenceStatistics] = {}

    def lookup(layer: str) -> ReferenceStatistics:
        if layer not in known:
            known[layer] = own_statistics(network, layer, inputs)
        return known[layer]

    return lookup
