"""Where tensors keep the samples of a batch, also when a batch axis is fused with another (Swin's windows)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .record import Prefix, ReplayError, TensorRef, record_prefix, refs_of


@dataclass(frozen=True)
class BatchAxis:
    """Where a tensor keeps its samples: axis ``axis`` holds ``share`` entries of each sample.

    ``sample_major``: entries of one sample are neighbors (N, share); else samples alternate (share, N), as
    some window partitions do.
    """

    axis: int = 0
    share: int = 1
    sample_major: bool = True

    def rows(self, tensor: Tensor, samples: int) -> Tensor:
        """To (N, ...): samples first; with share > 1 the share stays where the axis was."""
        a = self.axis
        if self.share == 1:
            return tensor.movedim(a, 0)
        if self.sample_major:
            return tensor.unflatten(a, (samples, self.share)).movedim(a, 0)
        return tensor.unflatten(a, (self.share, samples)).movedim(a + 1, 0)

    def merge(self, rows: Tensor) -> Tensor:
        """Inverse of ``rows``."""
        a = self.axis
        if self.share == 1:
            return rows.movedim(0, a)
        return rows.movedim(0, a if self.sample_major else a + 1).flatten(a, a + 1)


BatchRules = list[list[BatchAxis | None]]
"""For each event before the layer, the layer itself last, one rule a tensor; None where there are no samples."""


def repeat_rows(tensor: Tensor, rule: BatchAxis, samples: int, rows: Tensor | None, copies: int) -> Tensor:
    """Select samples, then repeat them copy by copy: row ``k * n + i`` is copy k of the i-th selected sample."""
    if rows is None and copies == 1:
        return tensor
    stacked = rule.rows(tensor, samples)
    if rows is not None:
        stacked = stacked.index_select(0, rows)
    if copies > 1:
        count = stacked.shape[0]
        if count == 1:
            stacked = stacked.expand(copies, *stacked.shape[1:])
        else:
            stacked = stacked.unsqueeze(0).expand(copies, *stacked.shape).flatten(0, 1)
    return rule.merge(stacked)


def default_rules(prefix: Prefix, samples: int) -> BatchRules | None:
    """Samples along axis 0 everywhere: None when a tensor says otherwise, so that a probe is needed."""
    rules: BatchRules = []
    for output in prefix.outputs():
        refs = refs_of(output)
        if any(ref.shape and ref.shape[0] != samples for ref in refs):
            return None
        rules.append([BatchAxis() if ref.shape else None for ref in refs])
    return rules


def probe_rules(
    model: nn.Module, layer: nn.Module, call: int, one: tuple[tuple, dict], two: tuple[tuple, dict]
) -> BatchRules:
    """Learn each tensor's batch axis from prefix passes over one sample and over two (the first the same)."""
    single = record_prefix(model, layer, call, *one, stop=True)
    double = record_prefix(model, layer, call, *two, stop=True)
    if [event.source for event in single.events] != [event.source for event in double.events]:
        raise ReplayError("what runs before the layer depends on the number of samples")
    rules = []
    for first, second in zip(single.outputs(), double.outputs()):
        rules.append([_learn_axis(a, b) for a, b in zip(refs_of(first), refs_of(second))])
    return rules


def _learn_axis(one: TensorRef, two: TensorRef) -> BatchAxis | None:
    differing = [axis for axis, (a, b) in enumerate(zip(one.shape, two.shape)) if a != b]
    if len(one.shape) != len(two.shape) or len(differing) > 1:
        raise ReplayError(f"no single batch axis between {one.shape} and {two.shape}")
    if not differing:
        return None
    axis = differing[0]
    share = one.shape[axis]
    if two.shape[axis] != 2 * share:
        raise ReplayError(f"axis {axis} does not grow with the batch: {one.shape}, {two.shape}")
    if share == 1 or one.tensor is None or two.tensor is None:
        return BatchAxis(axis, share)
    for rule in (BatchAxis(axis, share), BatchAxis(axis, share, sample_major=False)):
        of_two, alone = rule.rows(two.tensor, 2)[0], rule.rows(one.tensor, 1)[0]
        if torch.allclose(of_two.float(), alone.float(), 1e-3, 1e-4):
            return rule
    raise ReplayError("the samples of a batch influence each other before the layer")
