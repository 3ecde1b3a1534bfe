"""Curves of the prediction while voxels are shown or hidden in the order of a map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ..core.errors import ModelError
from .controls import random_map, smoothness_of

SMALLEST_CHANGE = 1e-6
ONE_IN_TWENTY = 1.645
"""SDs above the mean that one normal value in twenty exceeds."""


class Judge(Protocol):
    """Images (N, C, spatial...) to the numbers (N,) that curves are drawn of, for a ``target`` that has a name."""

    @property
    def target(self) -> Any: ...

    def values(self, inputs: torch.Tensor, batch_size: int = 8) -> torch.Tensor: ...


@dataclass(frozen=True)
class Curve:
    """``values`` of the target when the ``fractions`` (0..1) of voxels have been changed; ``area`` below it."""

    fractions: np.ndarray
    values: np.ndarray

    @property
    def area(self) -> float:
        return float((np.diff(self.fractions) * (self.values[1:] + self.values[:-1]) / 2).sum())


@dataclass(frozen=True)
class GameSetting:
    """A sample (1, C, spatial...), what hides it, and how its curves are measured.

    With ``normalized`` (regression) values are (f - f(baseline)) / (f(x) - f(baseline)), which is |f - f_start| of
    the papers on a scale from 0 to 1; else they are the target's own (a probability). ``steps`` points per curve.
    """

    forward: Judge
    inputs: torch.Tensor
    baseline: torch.Tensor
    normalized: bool = False
    steps: int = 40
    batch_size: int = 8

    def curve(self, shown: torch.Tensor, fractions: np.ndarray) -> Curve:
        """The curve over masks (steps + 1, spatial...) of what is shown; masks may be on any device."""
        values = []
        for chunk in shown.split(self.batch_size):
            mask = chunk.to(self.inputs.device)[:, None]
            values.append(self.forward.values(torch.where(mask, self.inputs, self.baseline), len(chunk)))
        found = torch.cat(values).double().cpu().numpy()
        if self.normalized:
            start, end = self.ends()
            found = (found - start) / (end - start)
        return Curve(fractions, found)

    def ends(self) -> tuple[float, float]:
        """f(baseline) and f(x). Raises ModelError when they are equal: nothing can be measured then."""
        start = float(self.forward.values(self.baseline)[0])
        end = float(self.forward.values(self.inputs)[0])
        if abs(end - start) < SMALLEST_CHANGE * max(1.0, abs(end)):
            raise ModelError(
                f"The model says the same of the scan and of the baseline ({end:.4g} for the "
                f"{self.forward.target.name}).",
                "Choose another baseline: nothing can be told from hiding voxels with this one.",
            )
        return start, end


def ranks_of(values: np.ndarray) -> torch.Tensor:
    """The place of each voxel in the order of a map, the highest 0. Ties keep the voxels' order."""
    order = np.argsort(-values.ravel(), kind="stable")
    ranks = np.empty(values.size, dtype=np.int64)
    ranks[order] = np.arange(values.size)
    return torch.as_tensor(ranks.reshape(values.shape))


def insertion(setting: GameSetting, values: np.ndarray) -> Curve:
    """The highest voxels of a map shown first, over the baseline (Petsiuk 2018): high area is good."""
    counts, fractions = _levels(values.size, setting.steps)
    return setting.curve(_below(ranks_of(values), counts), fractions)


def deletion(setting: GameSetting, values: np.ndarray) -> Curve:
    """The highest voxels of a map hidden first: low area is good."""
    counts, fractions = _levels(values.size, setting.steps)
    return setting.curve(~_below(ranks_of(values), counts), fractions)


def _levels(size: int, steps: int) -> tuple[torch.Tensor, np.ndarray]:
    counts = np.unique(np.round(np.linspace(0, size, min(steps, size) + 1)).astype(np.int64))
    return torch.as_tensor(counts), counts / size


def _below(ranks: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    return ranks[None] < counts.reshape(-1, *[1] * ranks.ndim)


@dataclass(frozen=True)
class InsertionDeletion:
    """Both curves of a map, and how much better than ``orders`` random maps of the same smoothness they are.

    ``gap`` is area(insertion) - area(deletion); ``gain`` is that gap less the mean gap of the random maps, with
    the half width of its 95 % interval; ``random_sd`` the SD of the random maps' gaps.
    """

    inserted: Curve
    deleted: Curve
    gap: float
    gain: float
    interval: float
    random_sd: float
    orders: int

    @property
    def beats_random(self) -> bool:
        """Whether the gain exceeds what one random map in twenty reaches."""
        return self.gain > max(ONE_IN_TWENTY * self.random_sd, self.interval)


def insertion_deletion(
    setting: GameSetting,
    values: np.ndarray,
    orders: int = 6,
    seed: int = 0,
    random_gaps: Sequence[float] | None = None,
) -> InsertionDeletion:
    """Insertion and deletion of a map against random maps, whose gaps may be given to be shared between maps."""
    setting.ends()
    inserted, deleted = insertion(setting, values), deletion(setting, values)
    gaps = list(random_gaps) if random_gaps is not None else gaps_of_random_maps(setting, values, orders, seed)
    gap = inserted.area - deleted.area
    spread = float(np.std(gaps, ddof=1)) if len(gaps) > 1 else math.inf
    return InsertionDeletion(
        inserted,
        deleted,
        gap,
        gap - float(np.mean(gaps)),
        1.96 * spread / math.sqrt(len(gaps)),
        spread,
        len(gaps),
    )


def gaps_of_random_maps(setting: GameSetting, like: np.ndarray, orders: int, seed: int) -> list[float]:
    """Insertion minus deletion area of random maps as smooth as ``like``."""
    smoothness = smoothness_of(like)
    gaps = []
    for order in range(orders):
        noise = random_map(like.shape, seed + order, smoothness)
        gaps.append(insertion(setting, noise).area - deletion(setting, noise).area)
    return gaps


@dataclass(frozen=True)
class TileCurves:
    """Tiles hidden from the most relevant on (``morf``) and from the least relevant on (``lerf``)."""

    morf: Curve
    lerf: Curve

    @property
    def area(self) -> float:
        """LeRF minus MoRF: high is good."""
        return self.lerf.area - self.morf.area


def tile_curves(setting: GameSetting, values: np.ndarray, tile: Sequence[int] | int = 8) -> TileCurves:
    """MoRF and LeRF (Samek 2017): ``tile`` voxels per axis are replaced by the baseline at once."""
    sizes = (tile,) * values.ndim if isinstance(tile, int) else tuple(tile)
    sizes = tuple(min(size, length) for size, length in zip(sizes, values.shape))
    ranks = _tile_ranks(values, sizes)
    count = int(ranks.max()) + 1
    counts, fractions = _levels(count, setting.steps)
    hidden_first, hidden_last = _below(ranks, counts), _below(count - 1 - ranks, counts)
    return TileCurves(setting.curve(~hidden_first, fractions), setting.curve(~hidden_last, fractions))


def _tile_ranks(values: np.ndarray, sizes: Sequence[int]) -> torch.Tensor:
    """The rank of each voxel's tile by its mean, (spatial...)."""
    grid = [math.ceil(length / size) for length, size in zip(values.shape, sizes)]
    places = np.ix_(*[np.arange(length) // size for length, size in zip(values.shape, sizes)])
    tiles = np.broadcast_to(np.ravel_multi_index(places, tuple(grid)), values.shape)
    sums = np.bincount(tiles.ravel(), values.ravel().astype(np.float64))
    means = sums / np.bincount(tiles.ravel())
    return ranks_of(means)[torch.from_numpy(tiles.copy())]
