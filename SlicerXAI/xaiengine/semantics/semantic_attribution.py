"""What each unit of a layer contributes to a prediction, and each concept through the units that detect it.

Three contributions c_u of a unit u to the explained number f (methods of Khakzar 2021, with the layer run on its own):

- conductance: Σ over cells of (y - b) · ∫ ∂f/∂y along the straight path from a baseline b of the layer to its
  activation y (Dhamdhere 2018), by Gauss-Legendre; complete up to the quadrature's error and what bypasses the layer;
- gradient x activation: Σ over cells of y · ∂f/∂y;
- ablation: f(y) - f(y with unit u at its mean over the cohort).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..attribution.feature_maps import check_spatial
from ..core.errors import ModelError, OptionError
from ..core.progress import Progress
from ..models.explained_model import ExplainedModel
from ..network.tail.tail import Tail, TailRecord
from ..targets.targets import Target

METHODS = {
    "conductance": "Conductance",
    "gradient_x_activation": "Gradient x activation",
    "ablation": "Ablation",
}
FIRST_STEPS = 8
WANTED_ERROR = 0.005
COHORT_BASELINE = "cohort"


@dataclass(frozen=True, eq=False)
class UnitContributions:
    """``values`` (n, U) of n samples. ``score`` (n,) is f(x), ``start`` (n,) f at the method's baseline.

    ``bypass`` (n,): the part of their difference that does not pass through the layer. ``joint`` (n, K + 1), of
    ablation alone: f(x) minus f with all units of a concept (the last column: all unlabeled ones) at their means.
    """

    method: str
    values: np.ndarray
    score: np.ndarray
    start: np.ndarray
    bypass: np.ndarray
    steps: int = 0
    joint: np.ndarray | None = None

    @property
    def gap(self) -> np.ndarray:
        """f(x) - f(baseline) - Σ c_u, (n,): what the contributions leave unexplained."""
        return self.score - self.start - self.values.sum(1)

    @property
    def relative_gap(self) -> float:
        """The gap of all samples together, as a share of f(x) - f(baseline)."""
        difference = float((self.score - self.start).sum())
        return abs(float(self.gap.sum())) / max(abs(difference), 1e-12)


class LayerCase:
    """Samples (n, C, spatial...) of one scan, with their activations at a layer and the network after it.

    ``baseline`` are inputs without information, or None for the units' means over the cohort, ``mean`` (U,).
    Raises ModelError when the layer has no positions or other units than ``mean``.
    """

    def __init__(
        self,
        model: ExplainedModel,
        target: Target,
        layer: str,
        inputs: Tensor,
        baseline: Tensor | None,
        mean: np.ndarray,
        *,
        batch_size: int = 8,
        progress: Progress | None = None,
    ) -> None:
        model.capabilities.require("layers", "Semantic attribution")
        self.model, self.target, self.layer = model, target, layer
        self.batch_size = batch_size if model.capabilities.free_batch else 1
        self.progress = progress
        self._tail = Tail(model.network, layer)
        rows = len(inputs) if model.capabilities.free_batch else 1
        self._records = [self._tail.record(part) for part in inputs.split(rows)]
        self._starts = [0, *np.cumsum([record.samples for record in self._records]).tolist()]
        self.activation = torch.cat([record.activation for record in self._records]).float()
        check_spatial(layer, self.activation, inputs.ndim - 2)
        if self.activation.shape[1] != len(mean):
            raise ModelError(
                f"The layer {layer} has {self.activation.shape[1]} units, its dissection {len(mean)}.",
                "Dissect this layer of this model.",
            )
        self.mean = torch.as_tensor(mean).to(self.activation)
        self.score = torch.cat([self._value(record.output) for record in self._records])
        self.start_activation, self.start_score = self._baseline(baseline, rows)

    @property
    def samples(self) -> int:
        return len(self.activation)

    @property
    def note(self) -> str:
        """Why the whole network runs each time; empty when only the layers after the layer do."""
        return next((record.note for record in self._records if record.note), "")

    def _value(self, output: Any) -> Tensor:
        return self.target.value(self.model.select_output(output)).detach()

    def _baseline(self, baseline: Tensor | None, rows: int) -> tuple[Tensor, Tensor]:
        if baseline is None:
            start = self.mean.reshape(1, -1, *[1] * (self.activation.ndim - 2)).expand_as(self.activation)
            return start, self.values(lambda sample: start[sample : sample + 1])
        records = [self._tail.record(part, verify=False) for part in baseline.split(rows)]
        return (
            torch.cat([record.activation for record in records]).float(),
            torch.cat([self._value(record.output) for record in records]),
        )

    def _of(self, sample: int) -> tuple[TailRecord, int]:
        number = next(n for n, start in enumerate(self._starts[1:]) if sample < start)
        return self._records[number], sample - self._starts[number]

    def run(self, sample: int, z: Tensor) -> Tensor:
        """Values (m,) of one sample when the layer gives ``z`` (m, U, cells...); differentiable in z."""
        record, row = self._of(sample)
        output = record.run(z.to(record.activation.dtype), rows=[row])
        values = self.target.value(self.model.select_output(output))
        if self.progress is not None:
            self.progress.advance(len(z))
        return values

    @torch.no_grad()
    def values(self, changed: Callable[[int], Tensor]) -> Tensor:
        """The value (n,) of every sample when the layer gives ``changed(sample)`` (1, U, cells...)."""
        with self._tail.ready():
            return torch.cat([self.run(sample, changed(sample)) for sample in range(self.samples)])

    def gradients(self, sample: int, points: Tensor) -> Tensor:
        """The derivative of the value with respect to the layer at ``points`` (m, U, cells...)."""
        found = []
        with self._tail.ready(), torch.enable_grad():
            for part in points.split(self.batch_size):
                leaf = part.detach().clone().requires_grad_()
                values = self.run(sample, leaf)
                if not values.requires_grad:
                    raise ModelError(
                        f"The {self.target.name} does not depend on {self.layer} in a differentiable way.",
                        "Choose ablation, which needs no gradient.",
                    )
                (gradient,) = torch.autograd.grad(values.sum(), leaf)
                found.append(gradient.detach().float())
        return torch.cat(found)


def unit_contributions(
    method: str, case: LayerCase, groups: Sequence[np.ndarray] = (), *, steps: int = 0, max_steps: int = 256
) -> UnitContributions:
    """The contributions of a method of :data:`METHODS`; ``groups`` are the units of each concept, for ablation.

    ``steps`` of 0 doubles those of the conductance until its error falls below 0.5 %, or ``max_steps`` are reached.
    """
    if method not in METHODS:
        raise OptionError(f"There is no method {method!r} of semantic attribution.", f"Use {', '.join(METHODS)}.")
    if method == "ablation":
        return _ablation(case, groups)
    case.model.capabilities.require("differentiable", METHODS[method])
    if method == "gradient_x_activation":
        return _gradient_x_activation(case)
    return _conductance(case, steps, max_steps)


def _conductance(case: LayerCase, steps: int, max_steps: int) -> UnitContributions:
    reached = case.values(lambda sample: case.start_activation[sample : sample + 1])
    wanted = case.score - reached
    count = steps or FIRST_STEPS
    while True:
        values = torch.stack([_path_integral(case, sample, count) for sample in range(case.samples)])
        error = float((values.sum(1) - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
        if steps or error < WANTED_ERROR or count >= max_steps:
            break
        count = min(2 * count, max_steps)
    bypass = reached - case.start_score
    return _made("conductance", case, values, case.start_score, bypass, count)


def _path_integral(case: LayerCase, sample: int, steps: int) -> Tensor:
    """(U,): Σ over cells of (y - b) times the mean gradient on the way from b to y."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    start = case.start_activation[sample]
    way = case.activation[sample] - start
    total = torch.zeros_like(way, dtype=torch.float64)
    for part in range(0, steps, case.batch_size):
        share = torch.as_tensor((nodes[part : part + case.batch_size] + 1) / 2).to(way)
        weight = torch.as_tensor(weights[part : part + case.batch_size] / 2, device=way.device)
        points = start + share.reshape(-1, *[1] * way.ndim) * way
        total += torch.einsum("k,k...->...", weight, case.gradients(sample, points).double())
    return (total * way).flatten(1).sum(1)


def _gradient_x_activation(case: LayerCase) -> UnitContributions:
    rows = range(case.samples)
    gradient = torch.cat([case.gradients(sample, case.activation[sample : sample + 1]) for sample in rows])
    values = (gradient * case.activation).double().flatten(2).sum(2)
    start = case.values(lambda sample: torch.zeros_like(case.activation[sample : sample + 1]))
    return _made("gradient_x_activation", case, values, start, torch.zeros_like(start))


@torch.no_grad()
def _ablation(case: LayerCase, groups: Sequence[np.ndarray]) -> UnitContributions:
    single = [np.array([unit]) for unit in range(len(case.mean))]
    values = torch.stack([_without(case, sample, single) for sample in range(case.samples)])
    joint = None
    if groups:
        joint = torch.stack([_without(case, sample, groups) for sample in range(case.samples)]).cpu().numpy()
    mean = case.mean.reshape(1, -1, *[1] * (case.activation.ndim - 2))
    start = case.values(lambda sample: mean.expand_as(case.activation[sample : sample + 1]))
    return _made("ablation", case, values, start, torch.zeros_like(start), joint=joint)


def _without(case: LayerCase, sample: int, groups: Sequence[np.ndarray]) -> Tensor:
    """(len(groups),): f(x) minus f with the units of each group at their means."""
    with case._tail.ready():
        found = [case.run(sample, z) for z in _ablated(case, sample, groups)]
    return (case.score[sample] - torch.cat(found)).double()


def _ablated(case: LayerCase, sample: int, groups: Sequence[np.ndarray]) -> Iterator[Tensor]:
    activation = case.activation[sample]
    for first in range(0, len(groups), case.batch_size):
        part = groups[first : first + case.batch_size]
        z = activation.expand(len(part), *activation.shape).clone()
        for row, units in enumerate(part):
            chosen = torch.as_tensor(units, device=z.device)
            z[row, chosen] = case.mean[chosen].reshape(-1, *[1] * (activation.ndim - 1)).expand_as(z[row, chosen])
        yield z


def _made(
    method: str,
    case: LayerCase,
    values: Tensor,
    start: Tensor,
    bypass: Tensor,
    steps: int = 0,
    joint: np.ndarray | None = None,
) -> UnitContributions:
    def array(tensor: Tensor) -> np.ndarray:
        return tensor.detach().double().cpu().numpy()

    return UnitContributions(method, array(values), array(case.score), array(start), array(bypass), steps, joint)


@dataclass(frozen=True)
class ConceptShare:
    """One bar: the contribution of a concept's units, their number, the strongest of them, and its shares.

    ``share``: of all that spoke on its side (for, if positive, else against). ``joint``: by ablation of all its units
    at once, else None.
    """

    concept: str
    contribution: float
    share: float
    units: int
    strongest: tuple[int, ...]
    joint: float | None = None


UNLABELED_NAME = "unlabeled"


def concept_shares(
    found: UnitContributions, concepts: Sequence[str], concept_of_unit: np.ndarray
) -> list[ConceptShare]:
    """Contributions by concept, the mean over the samples, strongest first, the unlabeled remainder last.

    Concepts without units have no bar.
    """
    mean = found.values.mean(0)
    numbers = [number for number in range(len(concepts)) if (concept_of_unit == number).any()]
    numbers.append(-1)
    sums = {number: float(mean[concept_of_unit == number].sum()) for number in numbers}
    sides = {sign: sum(abs(value) for value in sums.values() if (value > 0) == sign) for sign in (True, False)}
    bars = []
    for number in numbers:
        units = np.flatnonzero(concept_of_unit == number)
        order = units[np.argsort(-np.abs(mean[units]), kind="stable")][:5]
        total = sums[number]
        bars.append(
            ConceptShare(
                concepts[number] if number >= 0 else UNLABELED_NAME,
                total,
                abs(total) / sides[total > 0] if sides[total > 0] > 0 else 0.0,
                len(units),
                tuple(int(unit) for unit in order),
                None if found.joint is None else float(found.joint[:, number].mean()),
            )
        )
    return sorted(bars[:-1], key=lambda bar: -abs(bar.contribution)) + bars[-1:]
