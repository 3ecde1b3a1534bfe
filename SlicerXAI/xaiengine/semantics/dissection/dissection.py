"""Network dissection (Bau 2017, Khakzar 2021): which concept each unit of a layer detects, over a whole cohort.

For unit u: T_u is the 0.99 quantile of its stretched activations, A_u = activation > T_u, and IoU(u, c) counts
|A_u ∧ c| / |A_u ∨ c| over all images together. u detects the concept of its highest IoU, if that is above 0.04 and
above what chance gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.progress import Progress
from .blocks import WANTED_SIDE, BlockGrid
from .cohort import Cohort
from .counting import ImageCounts, overlaps
from .layer_sweep import LayerSweep, counted
from .quantiles import SAMPLED_IMAGES, TOLERANCE, UnitThresholds, sampled_window, unit_thresholds
from .statistics import CHANCE_SAMPLES, Chance, bootstrap, chance_overlaps, detectors, iou_of

UNLABELLED = -1
LARGEST_RANK_ERROR = 5e-4


@dataclass(frozen=True)
class DissectionSettings:
    """``quantile`` of activations, ``least_iou`` of detectors, draws of the bootstrap, circular shifts for chance."""

    quantile: float = 0.99
    least_iou: float = 0.04
    draws: int = 200
    rolls: int = 20
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Dissection:
    """What one layer's units detect. U units, K concepts, N images, B draws.

    ``concept_of_unit`` (U,) is the number of the concept, -1 for unlabeled ones. ``iou``, ``overlap`` (U, K);
    ``area`` (U,), ``concept_voxels`` (K,) and ``voxels`` are counts over the cohort. ``low``, ``high`` (U,): 95 %
    interval of each unit's highest IoU; ``units_drawn`` (B, K): detectors in each draw. ``chance`` (K,). ``mean`` and
    ``maximum`` (U,) of the cells' activations; ``dead`` (U,) units that never change. ``top_*`` (U, k): the strongest
    images. ``rank_error``: bound of the share by which a threshold's rank may miss the quantile. ``kind``: concepts
    come from "masks" or, unnamed, from "clusters".
    """

    layer: str
    model_name: str
    model_digest: str
    concepts: tuple[str, ...]
    codes: tuple[str, ...]
    images: tuple[str, ...]
    concept_of_unit: np.ndarray
    thresholds: np.ndarray
    iou: np.ndarray
    overlap: np.ndarray
    area: np.ndarray
    concept_voxels: np.ndarray
    concept_images: np.ndarray
    voxels: int
    low: np.ndarray
    high: np.ndarray
    units_drawn: np.ndarray
    chance: np.ndarray
    mean: np.ndarray
    maximum: np.ndarray
    dead: np.ndarray
    top_values: np.ndarray
    top_images: np.ndarray
    top_samples: np.ndarray
    rank_error: float
    kind: str = "masks"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def units(self) -> int:
        return len(self.concept_of_unit)

    @property
    def best_concept(self) -> np.ndarray:
        """The concept (U,) of each unit's highest IoU, whether it is a detector or not; -1 without concepts."""
        if not self.concepts:
            return np.full(self.units, UNLABELLED)
        return self.iou.argmax(1)

    @property
    def best_iou(self) -> np.ndarray:
        return self.iou.max(1) if self.concepts else np.zeros(self.units)

    def units_of(self, concept: int) -> np.ndarray:
        """The numbers of the units that detect a concept (-1: of the unlabeled ones)."""
        return np.flatnonzero(self.concept_of_unit == concept)

    def units_per_concept(self) -> np.ndarray:
        return np.array([len(self.units_of(number)) for number in range(len(self.concepts))], dtype=int)

    def unit_intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """95 % interval (K,), (K,) of the number of units of each concept over the draws."""
        if not len(self.units_drawn):
            units = self.units_per_concept()
            return units, units
        low, high = np.quantile(self.units_drawn, (0.025, 0.975), axis=0)
        return low, high


def layer_stages(stage: str = "") -> list[tuple[str, float]]:
    """The stages of :func:`dissect_layer` with their usual shares of the time, in passes of the network."""
    return [(f"Thresholds{stage}", 0.08), (f"Overlaps{stage}", 0.12), (f"Chance{stage}", 0.04)]


def dissect_layer(
    cohort: Cohort,
    layer: str,
    folder: Path,
    model_name: str,
    digest: str,
    settings: DissectionSettings = DissectionSettings(),
    progress: Progress | None = None,
    stage: str = "",
) -> Dissection:
    """Dissect one layer of a cohort that has been through the network; files go to ``folder``.

    ``stage`` is added to the names of the stages of ``progress``, see :func:`layer_stages`.
    """
    sweep, figures = LayerSweep(cohort, layer, stage), cohort.figures[layer]
    concepts = cohort.vocabulary.concepts
    stride = sweep.stride()
    thresholds, counts, sizes, totals = _counted_overlaps(cohort, sweep, stride, settings, folder, progress)
    missed = np.abs(totals[:, 0] / sweep.store.voxel_count - thresholds.above.numpy()).max(initial=0.0)
    if stride > 1 and missed > LARGEST_RANK_ERROR:  # the part of the voxels was not like the whole
        thresholds, counts, sizes, totals = _counted_overlaps(cohort, sweep, 1, settings, folder, progress)
        missed = np.abs(totals[:, 0] / sweep.store.voxel_count - thresholds.above.numpy()).max(initial=0.0)
    rank_error = thresholds.rank_error + float(missed)
    area, overlap, size = totals[:, 0], totals[:, 1:], sizes.sum(0)
    iou = iou_of(overlap.astype(float), area.astype(float), size.astype(float))
    best = iou.argmax(1) if concepts else np.full(len(area), UNLABELLED)
    chance = _chance(sweep, thresholds, counts, sizes, iou, settings, progress)
    drawn = (
        bootstrap(counts, sizes.astype(float), best, settings.least_iou, chance.level, settings.draws, settings.seed)
        if concepts and settings.draws
        else None
    )
    low, high = drawn.interval() if drawn else (np.full(len(area), np.nan),) * 2
    top_values, top_images, top_samples = (part.numpy() for part in figures.top)
    return Dissection(
        layer=layer,
        model_name=model_name,
        model_digest=digest,
        concepts=tuple(concept.name for concept in concepts),
        codes=tuple(concept.code for concept in concepts),
        images=tuple(entry.name for entry in cohort.entries),
        concept_of_unit=detectors(iou, settings.least_iou, chance.level),
        thresholds=thresholds.values.numpy(),
        iou=iou,
        overlap=overlap,
        area=area,
        concept_voxels=size,
        concept_images=(sizes > 0).sum(0),
        voxels=sweep.store.voxel_count,
        low=low,
        high=high,
        units_drawn=drawn.units_per_concept if drawn else np.zeros((0, len(concepts)), dtype=np.int64),
        chance=chance.level,
        mean=figures.mean.numpy(),
        maximum=figures.maximum.numpy(),
        dead=(figures.minimum == figures.maximum).numpy(),
        top_values=top_values,
        top_images=top_images,
        top_samples=top_samples,
        rank_error=rank_error,
        settings={**settings.__dict__, "chance_samples": chance.samples},
    )


def _counted_overlaps(
    cohort: Cohort,
    sweep: LayerSweep,
    stride: int,
    settings: DissectionSettings,
    folder: Path,
    progress: Progress | None,
) -> tuple[UnitThresholds, ImageCounts, np.ndarray, np.ndarray]:
    """Thresholds, the counts of every image, the voxels (N, K) of each concept in each, and the counts of all."""
    figures, concepts = cohort.figures[sweep.layer], len(cohort.vocabulary)
    _stage(progress, f"Thresholds{sweep.stage}", len(sweep.store.records))
    thresholds = layer_thresholds(sweep, figures.minimum, figures.maximum, settings.quantile, stride, progress)
    _stage(progress, f"Overlaps{sweep.stage}", len(sweep.store.records))
    counts, sizes = _count_images(sweep, thresholds.values, len(cohort.entries), concepts, folder, progress)
    totals = sum(counts, np.zeros((sweep.store.units, 1 + concepts), dtype=np.int64))
    return thresholds, counts, sizes, totals


def layer_thresholds(
    sweep: LayerSweep,
    minimum: torch.Tensor,
    maximum: torch.Tensor,
    quantile: float,
    stride: int = 1,
    progress: Progress | None = None,
) -> UnitThresholds:
    """The thresholds of a layer's units, looking at every ``stride``-th voxel."""
    count, side = len(sweep.store.records), WANTED_SIDE * stride
    sampled = np.unique(np.linspace(0, count - 1, min(count, SAMPLED_IMAGES)).round().astype(int))
    window = sampled_window(sweep.activations(set(sampled.tolist())), quantile)
    sweeps = 0

    def activations() -> Iterator[tuple[torch.Tensor, BlockGrid]]:
        nonlocal sweeps
        sweeps += 1  # the first takes nearly all of the time
        return counted(sweep.activations(side=side), progress if sweeps == 1 else None)

    extremes, total = (minimum, maximum), sweep.looked_at(stride, side)
    return unit_thresholds(activations, total, window, extremes, quantile, tolerance=TOLERANCE, stride=stride)


def _count_images(
    sweep: LayerSweep,
    thresholds: torch.Tensor,
    images: int,
    concepts: int,
    folder: Path,
    progress: Progress | None,
) -> tuple[ImageCounts, np.ndarray]:
    """Counts of every image, and the voxels (N, K) of each concept in each image."""
    counts = ImageCounts(folder / "overlaps.counts", sweep.store.units, concepts)
    sizes = np.zeros((images, concepts), dtype=np.int64)
    total = np.zeros((sweep.store.units, 1 + concepts), dtype=np.int64)
    current = 0
    for sample, grid in counted(sweep.samples(), progress):
        if sample.image != current:
            counts.add(total)
            total[:], current = 0, sample.image
        area, inside = overlaps(sample, grid, thresholds)
        total[:, 0] += area.numpy().astype(np.int64)
        for column, concept in enumerate(sample.concepts):
            total[:, 1 + concept] += inside[:, column].numpy().astype(np.int64)
            sizes[sample.image, concept] += int(sample.masks[column].sum())
    counts.add(total)
    return counts, sizes


def _chance(
    sweep: LayerSweep,
    thresholds: UnitThresholds,
    counts: ImageCounts,
    sizes: np.ndarray,
    iou: np.ndarray,
    settings: DissectionSettings,
    progress: Progress | None,
) -> Chance:
    """Chance for the units whose IoU is high enough to be detectors, over images spread evenly over the cohort."""
    candidates = np.flatnonzero(iou.max(1, initial=0.0) > settings.least_iou)
    marked = np.flatnonzero(sizes.any(1))
    per_image = len(sweep.store.records) / max(1, len(sizes))
    most = int(np.clip(CHANCE_SAMPLES / per_image, 1, max(1, len(marked))))
    images = set(marked[np.unique(np.linspace(0, len(marked) - 1, most).round().astype(int))]) if len(marked) else ()
    chosen = {n for n, record in enumerate(sweep.store.records) if record.image in images and record.concepts}
    if len(candidates) and settings.rolls:
        _stage(progress, f"Chance{sweep.stage}", len(chosen))
    area = sum((row[:, 0] for n, row in enumerate(counts) if n in images), np.zeros(len(iou)))
    size = sizes[sorted(images)].sum(0) if images else np.zeros(iou.shape[1])
    return chance_overlaps(
        counted(sweep.samples(chosen), progress),
        thresholds.values,
        iou.argmax(1) if iou.shape[1] else candidates,
        candidates,
        area,
        size,
        settings.rolls,
        settings.seed,
    )


def _stage(progress: Progress | None, name: str, total: int) -> None:
    if progress is not None:
        progress.stage(name, total)
