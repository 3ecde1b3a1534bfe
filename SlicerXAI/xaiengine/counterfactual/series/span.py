"""From where to where a series of counterfactual images goes, and at which shifts its frames lie."""

from __future__ import annotations

import math
from typing import Literal

import torch

from .series import Along, Place

Sides = Literal["both", "toward", "symmetric"]
MARGIN = 1.25
"""A series reaches so many times as far as the flip, so that both sides of the decision are seen."""
LEAST_REACH = 1.0
SHORTER = 0.8
"""A side below this part of the other is called shorter; even spacing of the frames makes small differences."""


def spread_shifts(frames: int, low: float, high: float) -> torch.Tensor:
    """Shifts (frames,) from ``low`` <= 0 to ``high`` >= 0 with 0 among them, evenly spread on either side of it."""
    if low == high:
        return torch.zeros(1)
    below = round((frames - 1) * -low / (high - low))
    if 0 < below < frames - 1:
        sides = torch.linspace(low, 0, below + 1)[:-1], torch.linspace(0, high, frames - below)
        return torch.cat(sides)
    return torch.linspace(0, high, frames) if below == 0 else torch.linspace(low, 0, frames)


def reach_of(flip: Place | None, along: Along) -> float:
    """How far a series goes to either side: a little beyond the flip, or all the way when there is none."""
    if flip is None:
        return along.reach
    return min(along.reach, max(LEAST_REACH, MARGIN * abs(flip.shift)))


def usual_shifts(start: float, slope: float, values: tuple[float, float] | None) -> tuple[float, float]:
    """Between which shifts (<= 0, >= 0) the answer is expected to stay among those that a generator's images get.

    ``values`` bound those answers, ``slope`` is the surrogate's. An image that already gets as low an answer as any
    has nothing left to lose: shifted further down it leaves what the generator has learned, and the answer wavers.
    """
    if values is None or slope == 0:
        return -math.inf, math.inf
    ends = sorted((value - start) / slope for value in values)
    return min(ends[0], 0.0), max(ends[1], 0.0)


def span_of(
    sides: Sides, flip: Place | None, along: Along, usual: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float]:
    """The two ends (<= 0, >= 0) of a series.

    ``symmetric``: as far to either side. ``both``: the same, but on a side without the flip only while the answer is
    expected to stay usual, see :func:`usual_shifts`. ``toward``: only the side of the flip, or without one that on
    which the answer moves most.
    """
    reach = reach_of(flip, along)
    if sides == "toward":
        end = counterfactual_end(flip, along, -reach, reach)
        return min(0.0, end), max(0.0, end)
    if sides == "symmetric" or flip is None:
        return -reach, reach
    return (-reach, min(reach, usual[1])) if flip.shift < 0 else (max(-reach, usual[0]), reach)


def counterfactual_end(flip: Place | None, along: Along, low: float, high: float) -> float:
    """The end beyond the flip; without one, the end at which the answer has moved most."""
    if flip is not None:
        return high if flip.shift > 0 else low
    start = along(0.0)
    return max((low, high), key=lambda shift: abs(along(shift) - start))


def span_note(shifts: torch.Tensor) -> str:
    """Why a series through the reconstruction is shorter on one side, in a sentence; empty if it is not."""
    low, high = float(shifts.min()), float(shifts.max())
    if min(-low, high) >= SHORTER * max(-low, high):
        return ""
    end = low if -low < high else high
    where = f"ends at {end:+.2f} SD" if end else "has no images"
    return f"Away from the decision the series {where}: the generator's images hardly ever get answers further out."
