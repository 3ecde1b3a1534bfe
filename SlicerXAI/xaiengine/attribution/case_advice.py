"""What a user must know before the maps of a prediction are made, and the baseline that was found by trying."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..targets.targets import ClassTarget
from .baselines import effective_baseline
from .whole_case import WholeCase

LABELS_NAMED = 3


def advised(case: WholeCase, automatic_baseline: bool, warn: Callable[[str], None]) -> WholeCase:
    """The case with a baseline that takes the answer away, if it is to be found; warns where a map would mislead."""
    forward = case.forward()
    size = max(case.batch_size, 1)
    if text := _other_class(case, size):
        warn(text)
    if not automatic_baseline:
        return case
    baseline, text = effective_baseline(
        lambda inputs: forward.values(inputs, size), case.inputs, case.target.name, case.kind != "regression"
    )
    if text:
        warn(text)
    return case.with_(baseline=baseline)


@torch.no_grad()
def _other_class(case: WholeCase, size: int) -> str:
    target = case.target
    if not isinstance(target, ClassTarget) or target.activation != "softmax":
        return ""
    forward = case.forward()
    found = torch.cat([forward.output(chunk).float() for chunk in case.inputs.split(size)])
    if found.ndim != 2 or found.shape[1] < 2:
        return ""
    others = found.argmax(1) != target.index
    if not bool(others.any()):
        return ""
    name = target.label or f"class {target.index}"
    share = float(found.softmax(1)[:, target.index].mean())
    where = "" if len(found) == 1 else f" in {int(others.sum())} of {len(found)} explained slices"
    told = f"The model does not predict {name}{where} (mean probability {share:.2g})"
    return f"{told}: the map shows what speaks for it all the same."
