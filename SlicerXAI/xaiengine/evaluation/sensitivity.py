"""Does the map predict what the model does when the image changes?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..core.similarity import pearson, spearman
from .curves import GameSetting


@dataclass(frozen=True)
class SensitivityN:
    """Correlation at each number of hidden voxels, with its standard error; ``mean`` over the numbers."""

    counts: np.ndarray
    correlations: np.ndarray
    errors: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.correlations.mean())

    @property
    def mean_error(self) -> float:
        return float(np.sqrt((self.errors**2).sum()) / len(self.errors))


def sensitivity_n(
    setting: GameSetting, values: np.ndarray, points: int = 8, subsets: int = 100, seed: int = 0
) -> SensitivityN:
    """Ancona 2018: Pearson r of Σ map over n random voxels with f(x) - f(x without them), n log-spaced.

    Every linear model explained by (x - baseline) · weight has r = 1 at every n.
    """
    generator = np.random.default_rng(seed)
    counts = np.unique(np.round(np.geomspace(1, 0.8 * values.size, points)).astype(int))
    whole = float(setting.forward.values(setting.inputs)[0])
    correlations = []
    for count in counts:
        shown = np.ones((subsets, values.size), dtype=bool)
        for row in shown:
            row[generator.choice(values.size, count, replace=False)] = False
        sums = (~shown).astype(np.float64) @ values.ravel().astype(np.float64)
        masks = torch.as_tensor(shown.reshape(subsets, *values.shape))
        raw = GameSetting(setting.forward, setting.inputs, setting.baseline, batch_size=setting.batch_size)
        drops = whole - raw.curve(masks, np.zeros(subsets)).values
        correlations.append(pearson(sums, drops))
    found = np.array(correlations)
    return SensitivityN(counts, found, (1 - found**2) / math.sqrt(subsets - 1))


@dataclass(frozen=True)
class Infidelity:
    """Mean squared error of the map as a prediction of changes, in squared units of the target.

    ``scaled`` is the same with the map multiplied by its best factor, by the changes' own mean square: 0 is perfect,
    1 is as bad as a map of zeros. ``error`` is the standard error of ``scaled``.
    """

    raw: float
    scaled: float
    error: float
    perturbations: int


def infidelity(
    setting: GameSetting,
    values: np.ndarray,
    perturbations: int = 128,
    block: Sequence[int] | None = None,
    seed: int = 0,
    per_input_unit: bool = False,
) -> Infidelity:
    """Yeh 2019, E (Σ I·Φ - (f(x) - f(x - I)))², with I a random block's difference to the baseline.

    A map in units of the target (integrated gradients, occlusion) predicts the change by its sum over the block;
    with ``per_input_unit`` (gradients), by its sum weighted with the difference to the baseline. ``block`` is in
    voxels; a third of each axis by default.
    """
    generator = np.random.default_rng(seed)
    shape = values.shape
    sizes = tuple(block or [max(1, length // 3) for length in shape])
    weight = np.asarray(values, dtype=np.float64)
    if per_input_unit:
        weight = weight * (setting.inputs - setting.baseline).sum(1)[0].double().cpu().numpy()
    masks = np.ones((perturbations, *shape), dtype=bool)
    predicted = np.empty(perturbations)
    for index in range(perturbations):
        start = [generator.integers(0, length - size + 1) for length, size in zip(shape, sizes)]
        box = tuple(slice(first, first + size) for first, size in zip(start, sizes))
        masks[index][box] = False
        predicted[index] = weight[box].sum()
    whole = float(setting.forward.values(setting.inputs)[0])
    raw = GameSetting(setting.forward, setting.inputs, setting.baseline, batch_size=setting.batch_size)
    changed = whole - raw.curve(torch.as_tensor(masks), np.zeros(perturbations)).values
    factor = float((predicted * changed).sum() / max((predicted**2).sum(), 1e-300))
    residuals = (factor * predicted - changed) ** 2
    power = max(float((changed**2).mean()), 1e-300)
    return Infidelity(
        float(((predicted - changed) ** 2).mean()),
        float(residuals.mean()) / power,
        float(residuals.std(ddof=1)) / math.sqrt(perturbations) / power,
        perturbations,
    )


@dataclass(frozen=True)
class SensitivityMax:
    """Largest relative change of the map for imperceptible changes of the image; ``mean`` over the draws."""

    largest: float
    mean: float
    draws: int


def sensitivity_max(
    explain: Callable[[torch.Tensor], np.ndarray],
    inputs: torch.Tensor,
    radius: float = 0.02,
    draws: int = 8,
    seed: int = 0,
) -> SensitivityMax:
    """Yeh 2019: max ‖Φ(x + δ) - Φ(x)‖ / ‖Φ(x)‖ over δ in an L∞ ball of ``radius`` times the image's range.

    ``explain`` takes inputs (1, C, spatial...) to a map. The maximum over random draws is a lower bound.
    """
    generator = torch.Generator().manual_seed(seed)
    reference = np.asarray(explain(inputs), dtype=np.float64)
    size = max(float(np.linalg.norm(reference)), 1e-300)
    scale = radius * float(inputs.max() - inputs.min())
    changes = []
    for _ in range(draws):
        noise = (2 * torch.rand(inputs.shape, generator=generator) - 1) * scale
        moved = np.asarray(explain(inputs + noise.to(inputs)), dtype=np.float64)
        changes.append(float(np.linalg.norm(moved - reference)) / size)
    return SensitivityMax(max(changes), float(np.mean(changes)), draws)


@dataclass(frozen=True)
class RunToRun:
    """How much a map depends on its seed: mean voxel SD by mean |map|, and the lowest rank correlation of two runs."""

    relative_sd: float
    lowest_spearman: float
    runs: int


def run_to_run(explain: Callable[[int], np.ndarray], seeds: Sequence[int]) -> RunToRun:
    """Explain once per seed; ``explain`` takes the seed to a map."""
    maps = np.stack([np.asarray(explain(seed), dtype=np.float64) for seed in seeds])
    spread = maps.std(0, ddof=1).mean() / max(float(np.abs(maps.mean(0)).mean()), 1e-300)
    pairs = [spearman(maps[0], other) for other in maps[1:]]
    return RunToRun(float(spread), min(pairs), len(seeds))
