"""Why is this wrong? The smallest change of the scan found that corrects an error of the segmentation.

A sparse, bounded change is searched for by proximal gradient steps through the windows (soft thresholding after each
step, as in ISTA), then its strongest voxels are put into the scan alone, to see how few of them are enough. What is
said is therefore tested on the model, not read off a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..core.boxes import box_size
from ..inference.segmentation_preparation import PredictedScan
from ..inference.windows import part_of
from ..targets.segmentation_targets import SegmentationTarget, voxel_scores
from ..targets.target_choice import ChosenTarget

STEPS = 8
STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Bounds of the change that are tried in turn, in standard deviations of the network's input."""
WANTED = 0.9
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True, eq=False)
class ErrorTarget(SegmentationTarget):
    """Minus the mean over the error region of log(1 + exp(-margin)); ``wanted`` tells the right side of 0."""

    index: int = 0
    wanted: bool = True

    def value_in_box(self, output: Tensor) -> Tensor:
        odds = voxel_scores(output, self.index, "log_odds", self.form)
        loss = functional.softplus(-odds if self.wanted else odds)
        return -(loss * self.support).flatten(1).sum(1) / self.voxels


@dataclass(frozen=True, eq=False)
class Correction:
    """``change`` (C, I, J, K) is added to the network's input; ``corrected`` the part of the error that then is right.

    ``rows`` tell, for the strongest part of the changed voxels alone, what they correct. ``largest_change`` is the
    bound, in the values of the network's input.
    """

    change: Tensor
    corrected: float
    steps: int
    changed_ml: float
    largest_change: float
    rows: list[dict[str, float]]


def correction_passes(scan: PredictedScan, chosen: ChosenTarget) -> tuple[int, int]:
    """Forward and backward window passes that :func:`correct` takes at most."""
    windows = len(scan.windows.windows_of([chosen.target]))
    steps = STEPS * len(STRENGTHS)
    return (3 * steps + len(SHARES) + 1) * windows, steps * windows


def correct(scan: PredictedScan, chosen: ChosenTarget) -> Correction:
    """Seek a change that corrects a false-positive or false-negative region, within the smallest bound possible."""
    windows, image = scan.windows, scan.image
    target = ErrorTarget(
        "error",
        chosen.target.full_mask(),
        scan.output.shape[1],
        scan.form,
        index=chosen.index,
        wanted=chosen.error == "false-negatives",
    ).to(image.device)
    change, steps, bound = torch.zeros_like(image), 0, 0.0
    best, best_share = change, _corrected(scan, target, change)
    while steps < STEPS * len(STRENGTHS) and best_share < WANTED:
        bound = STRENGTHS[steps // STEPS] * float(image.std())
        steps += 1
        _, (gradient,) = windows.gradients(image + change, [target])
        size = gradient.abs().flatten().kthvalue(max(1, int(0.999 * gradient.numel()))).values
        rate = bound / 4
        moved = change + rate * (gradient / size.clamp_min(1e-20)).clamp(-1, 1)
        change = functional.softshrink(moved, float(rate / 10)).clamp(-bound, bound)
        share = _corrected(scan, target, change)
        if share >= best_share:
            best, best_share = change, share
    return Correction(
        best[0].cpu(),
        best_share,
        steps,
        float((best[0] != 0).any(0).sum()) * scan.grid.voxel_volume_ml,
        bound,
        _curve(scan, target, best),
    )


def _corrected(scan: PredictedScan, target: ErrorTarget, change: Tensor) -> float:
    """The part of the error region that is right after a change."""
    output, around = scan.windows.predict_for(scan.image + change, [target])
    part = part_of(output, around, target.box)
    assert tuple(part.shape[2:]) == box_size(target.box)
    says = voxel_scores(part, target.index, "log_odds", target.form)[0] > 0
    right = (says == target.wanted) & target.support
    return float(right.sum()) / target.voxels


def _curve(scan: PredictedScan, target: ErrorTarget, change: Tensor) -> list[dict[str, float]]:
    size = change.abs().sum(1)
    changed = size[size > 0]
    rows = []
    for share in SHARES if len(changed) else ():
        count = max(1, round(share * len(changed)))
        threshold = changed.kthvalue(len(changed) - count + 1).values
        part = change * (size >= threshold)[:, None]
        rows.append(
            {
                "strongest voxels (%)": 100 * share,
                "changed (mL)": count * scan.grid.voxel_volume_ml,
                "error corrected (%)": 100 * _corrected(scan, target, part),
            }
        )
    return rows
