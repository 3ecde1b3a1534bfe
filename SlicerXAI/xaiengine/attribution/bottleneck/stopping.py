"""When the map of a row has converged, and how far its mask may go until then.

The published optimization starts with everything let through and a large rate: the mask overshoots to next to nothing,
where the sigmoid has no slope, and comes back over a hundred steps and more. On the way it pauses, and a map that
changes little from step to step is taken for a converged one (measured on X-rays: 0.01 bits where 63 are needed). The
schedule "full" keeps the mask where its slope leads somewhere, compares the map with that of ten steps before, and
lets the mask go the rest of the way in the end, so that what needs no bits gets none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .settings import BottleneckSettings

BOUND = 4.0
"""Of the mask's logits until a row has converged: the sigmoid's slope is 0.018 there."""
HORIZON = 10
"""Steps between the maps that are compared."""
MOVED = 0.08
"""Relative L1 of the maps ten steps apart below which a row has converged."""
RELEASED = 10
"""Steps without a bound in the end."""


class Pausing:
    """Ends a row when its map changes little for some steps running: quick, but a pause may come before the end."""

    bound: Tensor | None = None
    released: Tensor | None = None

    def __init__(self, settings: BottleneckSettings, rows: int) -> None:
        self.settings = settings
        self.rest = torch.zeros(rows, dtype=torch.long)
        self.converged = torch.zeros(rows, dtype=torch.bool)

    def ended(self, going: Sequence[int], step: int, change: Tensor, bits: Tensor) -> Tensor:
        """(len(going),) whether each row is done, by the step's ``change`` and ``bits`` (len(going), *cells)."""
        calm = (change < self.settings.tolerance).cpu() & (step > 1)
        self.rest[list(going)] = torch.where(calm, self.rest[list(going)] + 1, 0)
        at_rest = self.rest[list(going)] >= self.settings.patience
        self.converged[list(going)] = at_rest
        if self.settings.mode != "converged" or step < self.settings.min_steps:
            return torch.zeros_like(at_rest)
        return at_rest


class Settling:
    """Ends a row some steps after its map has stopped moving, within a bounded mask until then."""

    def __init__(self, settings: BottleneckSettings, rows: int, smallest: float) -> None:
        self.settings, self.smallest = settings, smallest
        self.converged = torch.zeros(rows, dtype=torch.bool)
        self.moved = torch.full((rows,), math.nan)
        """Relative L1 of the maps ten steps apart when the row was let go."""
        self._released = torch.full((rows,), -1, dtype=torch.long)
        self._before: list[Tensor] = []
        self._going: list[int] = []
        self.bound: Tensor | None = None
        self.released: Tensor | None = None
        """The rows (len(going),) bool whose bound falls with the next step."""

    def ended(self, going: Sequence[int], step: int, change: Tensor, bits: Tensor) -> Tensor:
        """As :meth:`Pausing.ended`; ``bound`` is then that of the rows' logits for the next step."""
        rows = list(going)
        if self._going and self._going != rows:
            places = [self._going.index(row) for row in rows]
            self._before = [item[places] for item in self._before]
        self._going, self.released = rows, None
        if len(self._before) == HORIZON:
            past = self._before.pop(0)
            scale = bits.flatten(1).sum(1).clamp_min(self.smallest)
            moved = ((bits - past).abs().flatten(1).sum(1) / scale).cpu()
            still = (moved < MOVED) & (step >= self.settings.min_steps)
            last = step >= self.settings.max_steps - RELEASED
            new = (self._released[rows] < 0) & (still | last)
            self.released = new if bool(new.any()) else None
            self.converged[rows] |= new & still
            self.moved[rows] = torch.where(new, moved, self.moved[rows])
            self._released[rows] = torch.where(new, step, self._released[rows])
        self._before.append(bits.clone())
        released = self._released[rows]
        bounds = torch.where(released >= 0, math.inf, BOUND)
        self.bound = bounds.to(bits.device, torch.float32).reshape(-1, *[1] * bits.ndim)
        return (released >= 0) & (step >= released + RELEASED)


def stopping(settings: BottleneckSettings, rows: int, smallest: float) -> Pausing | Settling:
    """The rule of a schedule for so many rows; totals below ``smallest`` bits are not resolved further."""
    return Settling(settings, rows, smallest) if settings.mode == "full" else Pausing(settings, rows)
