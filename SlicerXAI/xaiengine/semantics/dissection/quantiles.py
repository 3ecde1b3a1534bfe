"""Thresholds of units: a high quantile of their stretched activations over any number of images.

The quantile lies in a window of values that a sample of the images suggests. Each sweep over the stored activations
counts the voxels of every window in bins, and the voxels above it, so that a wrong window is noticed and moved, and
a bin that still holds too many voxels becomes the next window. What is left uncertain is the share of voxels in one
bin, which is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import BlockGrid, Thinning

BINS = 512
TOLERANCE = 6e-4
"""Largest share of all voxels that may lie in the bin of the quantile: an error of rank of 0.06 %."""

SAMPLED_IMAGES = 24
LOWER_TAIL, UPPER_TAIL = 2.0, 0.15
"""The first window, as multiples of the share of voxels above the quantile."""

MOST_SWEEPS = 24
ROUNDING = 4e-7
"""Thresholds are raised by this part, so that voxels of just their value, as interpolation rounds it, stay below."""

Sweep = Callable[[], Iterator[tuple[Tensor, BlockGrid]]]
"""Activations (U, cells...) of every sample, with the blocks of its voxels."""


@dataclass(frozen=True, eq=False)
class UnitThresholds:
    """``values`` (U,) float32; ``above`` (U,) is the share of voxels above them, at most the wanted one.

    ``rank_error`` bounds, as a share of all voxels, by how much the wanted share may be missed; voxels of one value
    cannot be parted and do not count.
    """

    values: Tensor
    above: Tensor
    rank_error: float
    sweeps: int


def sampled_window(samples: Iterator[tuple[Tensor, BlockGrid]], quantile: float) -> tuple[Tensor, Tensor]:
    """Lower and upper end (U,) of where the quantile probably lies, from a few samples at about two points a cell."""
    points = torch.cat([_coarsely_stretched(activation, grid) for activation, grid in samples], dim=1)
    share = 1 - quantile
    ends = []
    for factor in (LOWER_TAIL, UPPER_TAIL):
        count = min(points.shape[1], max(1, round(points.shape[1] * share * factor)))
        ends.append(points.topk(count, dim=1).values[:, -1])
    return ends[0], ends[1]


def _coarsely_stretched(activation: Tensor, grid: BlockGrid) -> Tensor:
    """(U, points): linear interpolation at a quarter and three quarters between neighboring cells."""
    result = activation
    for axis in range(1, activation.ndim):
        if result.shape[axis] < 2 or grid.axes[axis - 1].nodes_per_block == 1:
            continue
        below = result.narrow(axis, 0, result.shape[axis] - 1)
        above = result.narrow(axis, 1, result.shape[axis] - 1)
        result = torch.cat([0.75 * below + 0.25 * above, 0.25 * below + 0.75 * above], dim=axis)
    return result.flatten(1)


def unit_thresholds(
    sweep: Sweep,
    total: int,
    window: tuple[Tensor, Tensor],
    extremes: tuple[Tensor, Tensor],
    quantile: float = 0.99,
    *,
    tolerance: float = TOLERANCE,
    stride: int = 1,
) -> UnitThresholds:
    """The smallest values above which at most ``1 - quantile`` of ``total`` voxels lie, to within one bin.

    ``window`` is where to look first, ``extremes`` the lowest and highest activation of each unit. With a ``stride``
    above 1 only every stride-th voxel along each axis is looked at, others in each sample, and ``total`` counts those.
    """
    search = _Search(window, extremes, int((1 - quantile) * total + 1e-6), tolerance * total)
    sweeps = 0
    while len(search.open) and sweeps < MOST_SWEEPS:
        units = search.open
        every = len(units) == len(search.low)
        counts = torch.zeros(len(units), BINS + 1, dtype=torch.float64)
        low, step = search.low[units], search.step(units)
        for turn, (activation, grid) in enumerate(sweep()):
            part = activation if every else activation[units]
            thinning = Thinning(stride, turn % stride ** len(grid.axes))
            found = [_bins(block.units, block.values, 1 / step) for block in grid.hot(part, low, thinning)]
            if found:
                counts.view(-1).add_(torch.bincount(torch.cat(found), minlength=counts.numel()))
        search.learn(units, counts)
        sweeps += 1
    return UnitThresholds(
        search.result, search.beyond / max(1, total), float(search.uncertain.max()) / max(1, total), sweeps
    )


def _bins(units: Tensor, above: Tensor, per_step: Tensor) -> Tensor:
    """Flat places (unit, bin) of the values ``above`` (n, voxels) the lower ends of their units' windows; the last bin
    is beyond the window."""
    values = above.reshape(-1)
    hits = (values > 0).nonzero().squeeze(1)
    row = units[hits // above.shape[1]]
    bins = (values[hits] * per_step[row]).ceil_().sub_(1).clamp_(0, BINS).long()
    return row.mul_(BINS + 1).add_(bins)


class _Search:
    """The windows (low, high] of units whose quantile is not yet known well enough."""

    def __init__(
        self, window: tuple[Tensor, Tensor], extremes: tuple[Tensor, Tensor], allowed: int, tolerated: float
    ) -> None:
        self.minimum, self.maximum = extremes
        self.allowed, self.tolerated = allowed, tolerated
        self.low = torch.maximum(torch.minimum(window[0], self.maximum), self.minimum)
        self.high = torch.maximum(torch.minimum(window[1], self.maximum), self.low)
        self.result = self.maximum.clone()
        self.uncertain = torch.zeros(len(self.low), dtype=torch.float64)
        self.beyond = torch.zeros(len(self.low), dtype=torch.float64)
        self.narrowed = torch.zeros(len(self.low), dtype=torch.bool)
        self._settle_flat()
        self.open = (self.minimum < self.maximum).nonzero().flatten()

    def _settle_flat(self) -> None:
        """A window without extent reaches to the unit's maximum."""
        flat = self.high <= self.low
        self.high[flat] = self.maximum[flat]
        still = self.high <= self.low
        self.low[still] = self.minimum[still]

    def step(self, units: Tensor) -> Tensor:
        return (self.high[units] - self.low[units]) / BINS

    def learn(self, units: Tensor, counts: Tensor) -> None:
        """Narrow, move or close the windows by what a sweep has counted."""
        above = counts.flip(1).cumsum(1).flip(1)  # above[b]: voxels over the lower end of bin b
        step = self.step(units)
        still_open = []
        for row, unit in enumerate(units.tolist()):
            low, high, width = float(self.low[unit]), float(self.high[unit]), float(step[row])
            if float(above[row, 0]) <= self.allowed:
                if self._lower(unit, low, float(above[row, 0])):
                    still_open.append(unit)
                continue
            if float(above[row, BINS]) > self.allowed:
                self.low[unit], self.high[unit] = high, self.maximum[unit]
                still_open.append(unit)
                continue
            bin_ = int((above[row] <= self.allowed).nonzero()[0]) - 1
            edge = high if bin_ == BINS - 1 else low + (bin_ + 1) * width
            mass = float(counts[row, bin_])
            self.result[unit] = edge + ROUNDING * max(abs(edge), width)
            self.uncertain[unit], self.beyond[unit] = mass, float(above[row, bin_ + 1])
            start = low + bin_ * width
            narrow = torch.nextafter(torch.tensor(start), torch.tensor(float("inf")))
            if mass > self.tolerated and width > 4 * float(narrow - torch.tensor(start)):
                self.low[unit], self.high[unit], self.narrowed[unit] = start, edge, True
                still_open.append(unit)
            elif mass > self.tolerated:
                self.uncertain[unit] = 0.0  # one value, as far as float32 can tell
        self.open = torch.tensor(still_open, dtype=torch.long)

    def _lower(self, unit: int, low: float, above: float) -> bool:
        """Too few voxels lie above the window: look below it, or find that the quantile is the minimum."""
        minimum = float(self.minimum[unit])
        if self.narrowed[unit]:  # it held the quantile: the end of the window was rounded up beyond its voxels
            self.result[unit], self.beyond[unit], self.uncertain[unit] = low, above, 0.0
            return False
        if low <= minimum:
            self.result[unit], self.beyond[unit] = minimum, above
            return False
        self.low[unit], self.high[unit] = minimum, low
        return True
