"""The figures of one series: does the answer follow the shift, what changed, and what stayed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ...core.number_text import percent
from ...core.similarity import spearman
from .difference import changed_region, share_inside
from .series import Place, Series
from .similarity import absolute_difference, inside_mean, mean_similarity, similarity_map


@dataclass(frozen=True)
class SeriesFigures:
    """Figures of one series; None where they are not to be had.

    ``spearman``: rank correlation of shift and answer over the frames. ``flips``: whether the answer passes the
    decision within reach; ``flip_shift`` (SDs) and ``flip_change`` (mean absolute difference, in the scan's
    unit) of the smallest change that does. Of the counterfactual: ``ssim_outside`` and ``l1_outside``
    (scan's unit) away from the region, ``off_target`` (part of the change that lies away from it) and
    ``region_part`` (of the image). The region is a given one, else that which changed. ``identity`` and
    ``latent_distance``: see :mod:`realism`, of the same frame.
    """

    spearman: float
    flips: bool | None
    flip_shift: float | None
    flip_change: float | None
    ssim_outside: float
    l1_outside: float
    off_target: float | None
    region_part: float
    identity: float | None = None
    latent_distance: float | None = None

    def row(self) -> dict[str, Any]:
        return asdict(self)


def series_figures(
    series: Series,
    number: int,
    flip: Place | None,
    flip_frame: torch.Tensor | None,
    *,
    has_decision: bool,
    unit: float,
    region: torch.Tensor | None = None,
    identity: float | None = None,
    latent_distance: float | None = None,
) -> SeriesFigures:
    """``number``: the counterfactual's frame; ``unit``: the scan's unit per image unit; ``flip_frame`` (C, S, S): the
    image at the flip; ``region`` (S, S) bool.
    """
    frame, base = series.frames[number][None], series.reconstruction[None]
    difference = frame - base
    where = changed_region(difference) if region is None else region[None]
    outside = ~where
    change = None if flip_frame is None else float(absolute_difference(flip_frame[None], base)) * unit
    return SeriesFigures(
        spearman=spearman(series.shifts.numpy(), series.values.cpu().numpy()),
        flips=None if not has_decision else flip is not None,
        flip_shift=None if flip is None else flip.shift,
        flip_change=change,
        ssim_outside=float(inside_mean(similarity_map(frame, base), outside)),
        l1_outside=float(inside_mean(difference.abs().mean(1), outside)) * unit,
        off_target=1 - float(share_inside(difference, where)),
        region_part=float(where.float().mean()),
        identity=identity,
        latent_distance=latent_distance,
    )


def frame_rows(
    series: Series, shown: torch.Tensor, distances: torch.Tensor, identities: torch.Tensor | None, unit: float
) -> list[dict[str, Any]]:
    """One row per frame: shift, prediction, and how far it is from the unshifted image."""
    base = series.reconstruction.expand_as(series.frames)
    l1, alike = absolute_difference(series.frames, base) * unit, mean_similarity(series.frames, base)
    rows = []
    for number, shift in enumerate(series.shifts):
        rows.append(
            {
                "frame": number,
                "shift (SD)": float(shift),
                "prediction": float(shown[number]),
                "moved answer": float(series.values[number]),
                "L1 to the unshifted": float(l1[number]),
                "SSIM to the unshifted": float(alike[number]),
                "latent distance": float(distances[number]),
                "identity": None if identities is None else float(identities[number]),
            }
        )
    return rows


def shows_flip(series: Series, turning_point: float | None) -> bool:
    """Whether one of the frames lies on the other side of the decision than the unshifted one."""
    if turning_point is None:
        return False
    sides = series.values > turning_point
    return bool((sides != sides[series.base]).any())


def verdict(
    *,
    gap: float,
    largest_gap: float,
    figures: SeriesFigures,
    wanted: float | None,
    reached: bool,
    distance_limit: float,
    region_is_given: bool = False,
    flip_is_shown: bool = True,
    notes: Sequence[str] = (),
) -> tuple[bool, str]:
    """Whether the counterfactual is valid for this scan, and why, in sentences.

    ``flip_is_shown``: one of the frames that are written crosses the decision; a crossing that was only computed is
    not claimed.
    """
    speaks, parts = True, []
    if not np.isfinite(gap) or gap > largest_gap:
        speaks = False
        parts.append(
            f"This counterfactual is no valid explanation of this scan: the model's answer to the reconstruction "
            f"differs by {gap:.3g} from that to the scan, more than the bound of {largest_gap:.3g}."
        )
    else:
        parts.append(f"The reconstruction keeps the model's answer to within {gap:.3g} (bound {largest_gap:.3g}).")
    if wanted is not None and not reached:
        parts.append(f"The wanted prediction {wanted:.3g} is not reached; the nearest one is shown.")
    if figures.flips is False:
        parts.append("Within reach no change along this direction turns the answer over.")
    elif figures.flips and not flip_is_shown:
        parts.append(
            f"No frame of this series crosses the decision threshold; a crossing was computed at a shift of "
            f"{figures.flip_shift:+.2f} SD, which no frame shows."
        )
    elif figures.flips:
        parts.append(
            f"The prediction crosses the decision threshold at a shift of {figures.flip_shift:+.2f} SD, a mean "
            f"change of {figures.flip_change:.3g} in the scan's unit."
        )
    if figures.off_target is not None:
        where = "the given region" if region_is_given else "the region that changed most"
        parts.append(
            f"{percent(figures.off_target)} of the change lies outside {where}: the generator altered more than that."
        )
    if abs(figures.spearman) < 0.95:
        parts.append(f"The answer does not follow the shift steadily (Spearman {figures.spearman:.2f}).")
    if figures.latent_distance is not None and figures.latent_distance > distance_limit:
        parts.append(
            f"The changed image lies far from what the generator was trained on (latent distance "
            f"{figures.latent_distance:.2f}, usual is 1): mind its realism."
        )
    return speaks, " ".join([*parts, *notes])
