"""The information bottleneck for classifiers and regressors: what suffices, what must go, several layers, losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ...core.errors import OptionError
from ...network.feature_grid import feature_grid
from ...network.layers import evaluation_mode, find_layer
from ...network.tail.tail import Tail
from ...targets.targets import BinaryTarget, ClassTarget, DifferenceTarget, RegressionTarget, Target, TopKTarget
from ..forward import Attribution
from ..placement import placed_sum
from .bottleneck import BottleneckSettings, explain_rows
from .objectives import Binary, CrossEntropy, KeepValue, Maximise, Objective, ReachLabel
from .statistics import OWN_SCAN, ReferenceStatistics, StatisticsAccumulator

RegressionLoss = Literal["keep", "label", "maximise"]
Gate = Literal["energy", "quantile"]
ROWS_AT_ONCE = 16
NOISE_SUFFICES = 0.5
"""A layer whose pure noise gives the answer more often than this holds 0 bits of it: its map shows no evidence."""
NOTHING_DESTROYED = 0.1
"""Bits in all, below which the inverse bottleneck has fallen back to destroying nothing."""


@dataclass(frozen=True)
class KeepTargetValue:
    """Softplus of minus the target's value: a binary question for differences, top-k classes and any logit."""

    target: Target

    def __call__(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(-self.target.value(output))

    def met(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return self.target.value(output) > 0


@dataclass(frozen=True)
class KeepTopClasses:
    """Minus the logarithm of the probability of any of several softmax classes."""

    indices: tuple[int, ...]

    def __call__(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return -output.float().log_softmax(1)[:, list(self.indices)].logsumexp(1)

    def met(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        chosen = torch.tensor(self.indices, device=output.device)
        return torch.isin(output.argmax(1), chosen)


@dataclass(frozen=True)
class KeepProbability:
    """Minus the logarithm of one output of a network that ends in a softmax: another softmax would be wrong."""

    index: int

    def __call__(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return -output.float()[:, self.index].clamp_min(1e-7).log()

    def met(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return output.argmax(1) == self.index


def are_probabilities(output: torch.Tensor) -> bool:
    """Whether each row is at least 0 and adds up to 1."""
    sums = output.float().sum(1)
    return bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)


def objective_of(
    target: Target,
    output: torch.Tensor,
    loss: RegressionLoss = "keep",
    label: float | None = None,
    direction: str = "keep",
) -> Objective:
    """What the bottleneck must keep (or destroy) for a target; ``output`` is that of the unchanged samples.

    ``loss`` serves regression (Khakzar 2021): keep the prediction, reach a ``label``, or maximise the value. To
    destroy a prediction that is to be kept, its distance counts and not the distance's square.

    Raises OptionError when a loss does not go with the target, or its label is missing.
    """
    if isinstance(target, RegressionTarget):
        if direction == "destroy" and loss == "keep":
            return RelativeDistance(KeepValue.of(output, target.index), target.value(output.detach()))
        return _regression_objective(target, output, loss, label)
    if loss != "keep":
        raise OptionError(
            f"The loss '{loss}' is for regression models; {target.name} is a class.", "Use 'keep' for classifiers."
        )
    if isinstance(target, ClassTarget) and target.activation == "softmax":
        return CrossEntropy(target.index)
    if isinstance(target, ClassTarget) and target.activation == "none":
        return KeepProbability(target.index) if are_probabilities(output) else CrossEntropy(target.index)
    if isinstance(target, ClassTarget):
        return Binary(target.index)
    if isinstance(target, BinaryTarget):
        return Binary(0, target.positive)
    if isinstance(target, TopKTarget) and target.activation == "softmax":
        return KeepTopClasses(target.indices)
    if isinstance(target, DifferenceTarget) and isinstance(target.first, RegressionTarget):
        raise OptionError("The bottleneck explains one regression output at a time.", "Leave 'against' empty.")
    return KeepTargetValue(target)


def _regression_objective(
    target: RegressionTarget, output: torch.Tensor, loss: RegressionLoss, label: float | None
) -> Objective:
    """Squared errors relative to the prediction (or label), so that beta means the same in mL and in percent."""
    if loss == "label":
        if label is None:
            raise OptionError("The loss 'label' needs the true value.", "Give regression_label.")
        return Relative(ReachLabel(float(label), target.index), torch.full((len(output),), float(label)))
    objective = KeepValue.of(output, target.index) if loss == "keep" else Maximise(target.index)
    return Relative(objective, target.value(output.detach()))


class Relative:
    """A squared-error objective divided by the square of a reference value of each sample (N,).

    References below a thousandth count as a thousandth.
    """

    def __init__(self, objective: Objective, reference: torch.Tensor) -> None:
        self.objective = objective
        self.scale = reference.float().square().clamp_min(1e-6)
        if hasattr(objective, "met"):
            self.met = objective.met

    def __call__(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return self.objective(output, rows) / self.scale.to(output.device)[rows]


class RelativeDistance(Relative):
    """|f(Z) - f(x)| / |f(x)|, for destroying a prediction.

    The square has no slope where nothing is destroyed yet, and its gain ends at 1: the mask then falls back to
    destroying nothing (measured on planted lesions: 0.01 bits instead of 370).
    """

    def __call__(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return (super().__call__(output, rows) + 1e-8).sqrt()


class _Selected:
    """An objective on the tensor that is taken out of what the network returns."""

    def __init__(self, objective: Objective, select_output: Callable[[Any], torch.Tensor]) -> None:
        self.objective, self.select_output = objective, select_output
        if hasattr(objective, "met"):
            self.met = lambda output, rows: objective.met(select_output(output), rows)

    def __call__(self, output: Any, rows: torch.Tensor) -> torch.Tensor:
        return self.objective(self.select_output(output), rows)


@dataclass(frozen=True)
class InformationRequest:
    """Everything that the bottleneck needs beside the inputs.

    ``statistics`` gives the reference statistics of a layer by its name. ``report(share)`` hears how much is done
    of one map, 0..1, and may raise to cancel.
    """

    network: nn.Module
    target: Target
    statistics: Callable[[str], ReferenceStatistics]
    select_output: Callable[[Any], torch.Tensor] = lambda output: output
    settings: BottleneckSettings = BottleneckSettings()
    loss: RegressionLoss = "keep"
    label: float | None = None
    report: Callable[[float], None] = lambda share: None
    objective: Callable[[torch.Tensor], Objective] | None = None
    """What must be kept, from the output of the unchanged samples; that of the target where it is None."""

    def objective_for(self, output: torch.Tensor, direction: str = "keep") -> Objective:
        if self.objective is not None:
            return self.objective(output)
        return objective_of(self.target, output, self.loss, self.label, direction)


def information(request: InformationRequest, layer: str, inputs: torch.Tensor) -> Attribution:
    """Bits per voxel (N, 1, spatial...) that the target needs at a layer, or, to destroy, must lose.

    Each sample has a mask and a noise stream of its own, so its map does not depend on the others.
    """
    statistics = request.statistics(layer)
    with evaluation_mode(request.network):
        grid = feature_grid(request.network, layer, inputs[:1])
        parts = []
        for start in range(0, len(inputs), ROWS_AT_ONCE):
            rows = inputs[start : start + ROWS_AT_ONCE]

            def tell(done: int, total: int, start: int = start, size: int = len(rows)) -> None:
                request.report((start + size * done / total) / len(inputs))

            record = Tail(request.network, layer).record(rows)
            statistics = statistics.fitting(tuple(record.activation.shape[1:]))
            output = request.select_output(record.output)
            objective = request.objective_for(output, request.settings.direction)
            ids = list(range(start, start + len(rows)))
            result = explain_rows(
                record,
                statistics,
                _Selected(objective, request.select_output),
                request.settings,
                row_ids=ids,
                progress=tell,
            )
            parts.append(result)
    bits = torch.cat([part.bits for part in parts]).to(inputs.device)
    totals = torch.cat([part.total_bits for part in parts])
    noise = torch.cat([part.predicted_from_noise for part in parts])
    notes = tuple(dict.fromkeys(text for part in parts for text in part.warnings))
    if request.settings.direction == "destroy" and float(totals.min()) < NOTHING_DESTROYED:
        notes = (
            *notes,
            f"At the layer {layer} next to nothing was destroyed ({float(totals.min()):.2g} bits): its map ranks "
            "places, but its bits say nothing. Take an earlier layer or a smaller beta.",
        )
    return Attribution(
        placed_sum(bits, grid, inputs.shape[2:])[:, None],
        unit="bits/voxel",
        convergence={
            "total_bits": float(totals.mean()),
            "steps": float(torch.cat([part.steps for part in parts]).float().mean()),
            "converged_share": float(torch.cat([part.converged for part in parts]).float().mean()),
            "predicted_from_noise": float(noise.nan_to_num(0.0).max()),
            **statistics.figures,
        },
        notes=(statistics.description, *notes),
    )


def multilayer_information(
    request: InformationRequest,
    layers: Sequence[str],
    inputs: torch.Tensor,
    *,
    gate: Gate = "energy",
    part: float = 0.9,
) -> Attribution:
    """The first layer's map where the deeper layers' maps are high (Khakzar 2021), at any resolution.

    A deeper map gates the voxels that hold ``part`` of its bits (``energy``) or lie above its ``part`` quantile
    (``quantile``); the published absolute threshold holds for images of 224 x 224 alone. A deeper layer whose pure
    noise gives the answer too does not gate, which is said. The gated map keeps its unit; ``kept_share`` says how
    much of the first map passed.
    """
    if len(layers) < 2:
        raise OptionError("Multi-layer attribution needs two layers or more.", "Name an early and a late one.")
    maps = []
    for number, layer in enumerate(layers):
        share = replace(request, report=lambda done, number=number: request.report((number + done) / len(layers)))
        maps.append(information(share, layer, inputs))
    first = maps[0].map
    open_gate = torch.ones_like(first, dtype=torch.bool)
    ungated = []
    for layer, deeper in zip(layers[1:], maps[1:]):
        if deeper.convergence["predicted_from_noise"] > NOISE_SUFFICES:
            ungated.append(f"The layer {layer} needs no information for this answer, so it does not gate the map.")
        else:
            open_gate &= gate_mask(deeper.map, gate, part)
    gated = first * open_gate
    kept = float(gated.sum() / first.sum().clamp_min(1e-30))
    convergence = {"kept_share": kept, **maps[0].convergence}
    notes = tuple(dict.fromkeys([text for found in maps for text in found.notes] + ungated))
    if kept == 0:
        notes = (*notes, "The layers' maps do not overlap: no voxel is left. Use a wider gate.")
    return Attribution(gated, unit="bits/voxel", convergence=convergence, notes=notes)


def gate_mask(values: torch.Tensor, gate: Gate, part: float) -> torch.Tensor:
    """Voxels of each sample (N, 1, spatial...) that pass a gate, boolean in the same shape."""
    flat = values.flatten(1)
    if gate == "quantile":
        level = torch.stack([torch.as_tensor(np.quantile(row.cpu().numpy(), part)) for row in flat]).to(flat)
    else:
        ordered = flat.sort(dim=1, descending=True).values
        reached = ordered.cumsum(1) >= part * flat.sum(1, keepdim=True)
        level = ordered.gather(1, reached.int().argmax(1, keepdim=True))[:, 0]
    return values >= level.reshape(-1, *[1] * (values.ndim - 1)).clamp_min(torch.finfo(values.dtype).tiny)


def own_statistics(
    network: nn.Module, layer: str, inputs: torch.Tensor, forward: Callable[[torch.Tensor], Any] | None = None
) -> ReferenceStatistics:
    """Statistics per channel from the samples themselves and their mirror images, when there are no others.

    A layer that never goes below zero is taken to follow a ReLU. Every channel that answers anywhere counts as active:
    a channel that only knows the cause may be silent in all but a thousandth of the scan.
    """
    found = StatisticsAccumulator("channel", scans=1)
    lowest = 0.0
    recorded: list[torch.Tensor] = []
    hook = find_layer(network, layer).register_forward_hook(
        lambda module, arguments, output: recorded.append(output.detach().clone())
    )
    try:
        with torch.no_grad(), evaluation_mode(network):
            for axis in range(1, inputs.ndim):
                variant = inputs if axis == 1 else inputs.flip(axis)
                for chunk in variant.split(ROWS_AT_ONCE):
                    (forward or network)(chunk)
                    activation = recorded.pop()
                    lowest = min(lowest, float(activation.min()))
                    found.add(activation, mirrored=axis > 1)
    finally:
        hook.remove()
    finished = found.finish(after_relu=lowest >= 0, activity_threshold=0.0)
    return replace(finished, metadata={**finished.metadata, OWN_SCAN: "yes"})
