"""How far dissection figures can be trusted: bootstrap over images, and overlaps that chance would give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .activation_store import StoredSample
from .blocks import BlockGrid
from .counting import ImageCounts, hit_voxels

LARGEST_BLOCK = 1 << 23
"""Accumulated numbers of the bootstrap at once (64 MB)."""

CHANCE_LEVEL = 0.95
CHANCE_SAMPLES = 64


def iou_of(overlap: np.ndarray, area: np.ndarray, size: np.ndarray) -> np.ndarray:
    """|A ∧ c| / |A ∨ c| from overlaps (..., U, K), areas (..., U) and sizes of concepts (..., K); 0 for 0 / 0."""
    union = area[..., :, None] + size[..., None, :] - overlap
    return np.divide(overlap, union, out=np.zeros(union.shape), where=union > 0)


def detectors(iou: np.ndarray, least: float, chance: np.ndarray) -> np.ndarray:
    """The concept (..., U) that each unit detects by its IoU (..., U, K), -1 for none.

    It is the one of highest IoU, if that is above ``least`` and above what ``chance`` gives for this concept (K,);
    NaN there means that chance was not measured and asks for nothing.
    """
    if iou.shape[-1] == 0:
        return np.full(iou.shape[:-1], -1)
    best = iou.argmax(-1)
    highest = np.take_along_axis(iou, best[..., None], -1)[..., 0]
    floor = np.maximum(least, np.nan_to_num(chance, nan=0.0)[best])
    return np.where(highest > floor, best, -1)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Draws of images with replacement: IoU (B, U) of each unit with its best concept, detectors (B, K)."""

    best_iou: np.ndarray
    units_per_concept: np.ndarray

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end (U,) of the percentile interval of each unit's IoU."""
        tails = ((1 - level) / 2, (1 + level) / 2)
        low, high = np.quantile(self.best_iou, tails, axis=0)
        return low, high

    def unit_intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end (K,) of the number of units that detect each concept."""
        low, high = np.quantile(self.units_per_concept, ((1 - level) / 2, (1 + level) / 2), axis=0)
        return low, high


def draws_of_images(images: int, draws: int, seed: int) -> np.ndarray:
    """How often each image is drawn (draws, images): the same for every dissection of as many images."""
    return np.random.default_rng([seed, images, 71]).multinomial(images, np.full(images, 1 / images), draws)


def bootstrap(
    counts: ImageCounts,
    sizes: np.ndarray,
    best: np.ndarray,
    least: float,
    chance: np.ndarray,
    draws: int,
    seed: int,
) -> Bootstrap:
    """Resample images. ``sizes`` (N, K) are the voxels of each concept in each image, ``best`` (U,) the concept of
    highest IoU of each unit. Thresholds of activations and chance stay as they are."""
    weights = draws_of_images(counts.images, draws, seed).astype(np.float64)
    drawn_sizes = weights @ sizes
    best_iou = np.zeros((draws, counts.units), dtype=np.float32)
    per_concept = np.zeros((draws, counts.concepts), dtype=np.int64)
    step = max(1, LARGEST_BLOCK // (draws * (1 + counts.concepts)))
    images_at_once = max(1, LARGEST_BLOCK // (min(step, counts.units) * (1 + counts.concepts)))
    for first in range(0, counts.units, step):
        units = slice(first, min(first + step, counts.units))
        sums = np.zeros((draws, (units.stop - units.start) * (1 + counts.concepts)))
        for rows, chunk in _chunks(counts, units, images_at_once):
            sums += weights[:, rows] @ chunk
        sums = sums.reshape(draws, units.stop - units.start, 1 + counts.concepts)
        iou = iou_of(sums[..., 1:], sums[..., 0], drawn_sizes)
        best_iou[:, units] = np.take_along_axis(iou, best[None, units, None], -1)[..., 0]
        found = detectors(iou, least, chance)
        for concept in range(counts.concepts):
            per_concept[:, concept] += (found == concept).sum(1)
    return Bootstrap(best_iou, per_concept)


def _chunks(counts: ImageCounts, units: slice, most: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of images and their counts (rows, units x (1 + K)) as float64."""
    waiting: list[np.ndarray] = []
    start = 0
    for number, image in enumerate(counts, start=1):
        waiting.append(image[units].reshape(-1).astype(np.float64))
        if len(waiting) == most or number == counts.images:
            yield slice(start, number), np.stack(waiting)
            start, waiting = number, []


@dataclass(frozen=True, eq=False)
class Chance:
    """``level`` (K,): IoU that the best of the candidates reaches by chance in 5 % of the cases, NaN if not measured;
    ``mean`` (U,): the mean IoU of each candidate by chance, NaN for other units. ``samples`` were looked at."""

    level: np.ndarray
    mean: np.ndarray
    samples: int


def chance_overlaps(
    samples: Iterable[tuple[StoredSample, BlockGrid]],
    thresholds: Tensor,
    best: np.ndarray,
    candidates: np.ndarray,
    area: np.ndarray,
    size: np.ndarray,
    rolls: int,
    seed: int,
) -> Chance:
    """IoU of candidate units (numbers) with their best concept when masks are shifted in a circle by a random offset.

    ``area`` (U,) and ``size`` (K,) are the voxels of units and concepts in these samples. The shift (in the order of
    voxels, another one for each sample and roll) keeps the size and shape of masks and activations, and in which
    images they are. The level is that of the highest IoU among a concept's candidates, so that with many units none
    passes by luck.
    """
    level, mean = np.full(len(size), np.nan), np.full(len(best), np.nan)
    if not len(candidates) or not rolls:
        return Chance(level, mean, 0)
    generator = np.random.default_rng([seed, 72])
    overlap = np.zeros((len(best), rolls))
    count = 0
    for sample, grid in samples:
        count += 1
        offsets = generator.integers(0, grid.voxel_count, rolls)
        for number, concept in enumerate(sample.concepts):
            looked_for = candidates[best[candidates] == concept]
            if len(looked_for):
                units, voxels = _hits(sample, grid, thresholds, looked_for)
                mask = sample.masks[number].reshape(-1)
                overlap[looked_for] += _shifted_overlaps(mask, units, voxels, offsets, len(looked_for))
    overlap, wanted = overlap[candidates], best[candidates]
    iou = overlap / np.maximum((area[candidates] + size[wanted])[:, None] - overlap, 1)
    mean[candidates] = iou.mean(1)
    for concept in np.unique(wanted):
        level[concept] = np.quantile(iou[wanted == concept].max(0), CHANCE_LEVEL)
    return Chance(level, mean, count)


def _hits(
    sample: StoredSample, grid: BlockGrid, thresholds: Tensor, units: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unit (its place in the list) and flat voxel of everything above the thresholds."""
    chosen = torch.as_tensor(units)
    found = [hit_voxels(block, grid) for block in grid.hot(sample.activation[chosen], thresholds[chosen])]
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    first, second = (torch.cat(part).numpy() for part in zip(*found))
    return first, second


def _shifted_overlaps(
    mask: np.ndarray, units: np.ndarray, voxels: np.ndarray, offsets: np.ndarray, count: int
) -> np.ndarray:
    """Voxels (count, rolls) of each unit inside the mask, shifted by each offset."""
    twice = np.concatenate([mask, mask])
    result = np.empty((count, len(offsets)))
    for number, offset in enumerate(offsets):
        result[:, number] = np.bincount(units[twice[voxels + offset]], minlength=count)
    return result
