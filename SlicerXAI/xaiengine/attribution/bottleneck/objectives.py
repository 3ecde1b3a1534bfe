"""What must be kept (or destroyed): a loss for each row of a model's output.

An objective is any callable ``(output, rows) -> (B,) losses``: ``output`` is the model's output for B rows, and
``rows`` (B,) says which recorded sample each row belongs to, for objectives that differ between samples.
Objectives with ``met(output, rows) -> (B,) bool`` also tell whether a row still gives the explained answer; it
is asked about pure noise.

Classes are scored on logits: cross-entropy of probabilities would apply the softmax twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.errors import ModelError, OptionError


class Objective(Protocol):
    def __call__(self, output: Any, rows: Tensor) -> Tensor: ...


def _per_row(value: int | float | Tensor, rows: Tensor) -> Tensor:
    """``value`` for each row: one for all, or one per recorded sample."""
    if isinstance(value, Tensor) and value.ndim:
        return value.to(rows.device)[rows]
    return torch.as_tensor(value, device=rows.device).expand(rows.shape)


def _matrix(output: Any) -> Tensor:
    """(B, K) float32 from (B, K), (B,) or (B, K, 1, 1...)."""
    if not isinstance(output, Tensor):
        raise ModelError(
            f"The model gives a {type(output).__name__}; this objective expects one tensor of logits.",
            "Explain a wrapper that returns the tensor to be explained.",
        )
    if output.ndim == 1:
        return output.float().unsqueeze(1)
    flat = output.float().flatten(1)
    if flat.shape[1] != output.shape[1]:
        raise ModelError(
            f"The model gives an output of shape {tuple(output.shape)}; this objective expects (samples, values).",
            "Use a segmentation target for models that answer for each voxel.",
        )
    return flat


def _column(output: Any, index: int) -> Tensor:
    matrix = _matrix(output)
    if not -matrix.shape[1] <= index < matrix.shape[1]:
        raise OptionError(
            f"Output {index} was asked for, but the model gives {matrix.shape[1]} values a sample.",
            f"Choose an output from 0 to {matrix.shape[1] - 1}.",
        )
    return matrix[:, index]


@dataclass(frozen=True)
class CrossEntropy:
    """-log softmax of one class of a single-label model. ``target``: class, or one class per sample (N,)."""

    target: int | Tensor

    def __call__(self, output: Any, rows: Tensor) -> Tensor:
        logits, target = self._checked(output, rows)
        return F.cross_entropy(logits, target, reduction="none")

    def met(self, output: Any, rows: Tensor) -> Tensor:
        logits, target = self._checked(output, rows)
        return logits.argmax(1) == target

    def _checked(self, output: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        logits = _matrix(output)
        target = _per_row(self.target, rows).long()
        if logits.shape[1] < 2:
            raise OptionError(
                "The model gives one logit; cross-entropy needs two classes or more.", "Use the objective Binary."
            )
        if int(target.min()) < 0 or int(target.max()) >= logits.shape[1]:
            raise OptionError(
                f"Class {int(target.max() if target.max() >= logits.shape[1] else target.min())} was asked for, but "
                f"the model has {logits.shape[1]} classes.",
                f"Choose a class from 0 to {logits.shape[1] - 1}.",
            )
        return logits, target


@dataclass(frozen=True)
class Binary:
    """Binary cross-entropy of one logit alone, for multi-label models and models with a single logit.

    ``index``: the explained output; ``positive``: explain that it is present (else absent), for all samples or
    one truth value per sample (N,).
    """

    index: int = 0
    positive: bool | Tensor = True

    def __call__(self, output: Any, rows: Tensor) -> Tensor:
        return F.softplus(-self._signed(output, rows))

    def met(self, output: Any, rows: Tensor) -> Tensor:
        return self._signed(output, rows) > 0

    def _signed(self, output: Any, rows: Tensor) -> Tensor:
        sign = _per_row(self.positive, rows).to(torch.float32) * 2 - 1
        return _column(output, self.index) * sign


@dataclass(frozen=True)
class KeepValue:
    """Squared distance to the value predicted for the unchanged input (Regression IBA, the default).

    ``reference``: those values, (N,). Met within ``tolerance`` of their size.
    """

    reference: Tensor
    index: int = 0
    tolerance: float = 0.05

    @classmethod
    def of(cls, output: Any, index: int = 0, tolerance: float = 0.05) -> KeepValue:
        """From the model's output for the unchanged input."""
        return cls(_column(output, index).detach(), index, tolerance)

    def __call__(self, output: Any, rows: Tensor) -> Tensor:
        return (_column(output, self.index) - _per_row(self.reference, rows)) ** 2

    def met(self, output: Any, rows: Tensor) -> Tensor:
        reference = _per_row(self.reference, rows)
        return (_column(output, self.index) - reference).abs() <= self.tolerance * reference.abs()


@dataclass(frozen=True)
class ReachLabel:
    """Squared distance to a label, for all samples or one per sample (N,)."""

    label: float | Tensor
    index: int = 0
    tolerance: float = 0.05

    def __call__(self, output: Any, rows: Tensor) -> Tensor:
        return (_column(output, self.index) - _per_row(self.label, rows).float()) ** 2

    def met(self, output: Any, rows: Tensor) -> Tensor:
        label = _per_row(self.label, rows).float()
        return (_column(output, self.index) - label).abs() <= self.tolerance * label.abs()


@dataclass(frozen=True)
class Maximise:
    """The value as far from zero as can be: -f^2 (Regression IBA)."""

    index: int = 0

    def __call__(self, output: Any, rows: Tensor) -> Tensor:
        return -(_column(output, self.index) ** 2)
