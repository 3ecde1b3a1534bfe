"""From a CT to measured lesions, in memory: explain, restore, threshold, measure.

CT -> model's preprocessing -> slices -> probability -> map of the slices called lesion
   -> the scan's own grid -> threshold -> connected parts of the lungs -> volumes, burden, severity
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..attribution.bottleneck.reference_store import find_statistics
from ..attribution.bottleneck.statistics import ReferenceStatistics
from ..core.cancellation import interruptibly
from ..core.progress import Progress
from ..inference.preprocessing import Preprocessed, preprocess
from ..io.grid import Grid
from ..io.resample import resample
from ..io.volume import Volume
from .comparison import LesionComparison, compare_lesions
from .components import Refinement, find_lesions
from .estimate import in_words, seconds_needed
from .plausibility import Evidence, apart, weigh_evidence
from .quantify import Lesion, Quantification, quantify_lesions
from .regions import LungRegions
from .repeatability import BurdenSpread, spread_over_seeds
from .scan_likeness import ScanLikeness, compare_with_training, scan_measures
from .settings import LesionSettings
from .slice_maps import SliceMaps, explain_slices, own_statistics, predict_slices, slices_of, slices_to_explain
from .threshold import Threshold, absolute_threshold, otsu_threshold

if TYPE_CHECKING:
    from ..models.explained_model import ExplainedModel

GIGABYTE = 1 << 30


@dataclass(frozen=True, eq=False)
class LesionFindings:
    """Everything found in one scan. ``bits`` (I, J, K) float32 and ``labels`` int32 are on the scan's grid.

    ``evidence`` belongs to the lesions of ``quantification``; ``doubtful`` is what was not counted.
    """

    maps: SliceMaps
    bits: np.ndarray
    labels: np.ndarray
    regions: LungRegions
    threshold: Threshold
    quantification: Quantification
    spread: tuple[BurdenSpread, ...]
    comparison: LesionComparison | None
    evidence: tuple[Evidence, ...] = ()
    doubtful: Doubtful | None = None
    likeness: ScanLikeness | None = None


@dataclass(frozen=True, eq=False)
class Doubtful:
    """Places that the map shows and that are not counted: ``labels`` (I, J, K) int32, numbers, and the reasons."""

    labels: np.ndarray
    lesions: tuple[Lesion, ...]
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, eq=False)
class _Measured:
    bits: np.ndarray
    labels: np.ndarray
    threshold: Threshold
    quantification: Quantification
    evidence: tuple[Evidence, ...]
    doubtful: Doubtful


def quantify_scan(
    volume: Volume,
    model: ExplainedModel,
    settings: LesionSettings,
    regions: LungRegions,
    *,
    target: int,
    reference: np.ndarray | None = None,
    seed: int = 0,
    repeats: int = 1,
    memory_gb: float = 4.0,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda text: None,
    expect: Callable[[str, float], None] = lambda text, seconds: None,
) -> LesionFindings:
    """Find and measure the lesions of one scan.

    ``reference`` (I, J, K) bool: known lesions to compare with. ``repeats``: runs with the seeds seed, seed + 1...;
    maps and lesions are those of the first. ``expect`` is told the time that explaining takes before it begins.
    """
    progress = progress or Progress()
    for text in regions.lungs.warnings:
        warn(text)
    progress.stage("Preparing the scan", 1)
    shown = seen_by_model(volume, regions, settings)
    prepared = interruptibly(progress.check, preprocess, shown, model.preprocessing())
    slices, axis = slices_of(prepared, model.inferer.plane)
    progress.stage("Reading the slices", len(slices))
    start = time.perf_counter()
    probability = predict_slices(model, slices, target, progress.advance)
    pace = (time.perf_counter() - start) / len(slices)
    likeness = interruptibly(progress.check, _likeness, model, settings, prepared, volume, regions)
    if likeness.warning:
        warn(likeness.warning)
    statistics = _statistics(model, settings, slices, warn)
    called = len(slices_to_explain(probability, prepared, axis, settings))
    seconds = seconds_needed(called, pace, settings.method, repeats)
    work = f"{called} of {len(slices)} slices are called {model.labels[target]}; explaining them takes"
    expect(f"{work} {in_words(seconds)}.", seconds)
    progress.stage("Explaining the slices", 1000)
    runs: list[tuple[SliceMaps, _Measured]] = []
    for number in range(repeats):
        maps = explain_slices(
            model,
            prepared,
            settings,
            target,
            probability=probability,
            statistics=statistics,
            seed=seed + number,
            memory_budget=int(memory_gb * GIGABYTE / 4),
            advance=lambda share, number=number: progress.update(int(1000 * (number + share) / repeats), 1000),
        )
        measured = interruptibly(progress.check, _measure, maps, prepared, volume, regions, settings)
        runs.append((maps, measured))
    maps, first = runs[0]
    for text in maps.warnings:
        warn(text)
    progress.stage("Measuring", 1)
    comparison = None if reference is None else compare_lesions(first.labels, reference, volume.grid)
    spread = spread_over_seeds([measured.quantification for _, measured in runs])
    return LesionFindings(
        maps,
        first.bits,
        first.labels,
        regions,
        first.threshold,
        first.quantification,
        spread,
        comparison,
        first.evidence,
        first.doubtful,
        likeness,
    )


def _likeness(
    model: ExplainedModel,
    settings: LesionSettings,
    prepared: Preprocessed,
    volume: Volume,
    regions: LungRegions,
) -> ScanLikeness:
    """The scan beside what the model was trained on."""
    lungs = regions.lungs
    slices, axis = slices_of(prepared, model.inferer.plane)
    # The scan's axis that is nearest to the one along which the model's slices follow one another.
    along = prepared.grid.directions[:, axis] @ volume.grid.directions
    own = int(np.abs(along).argmax())
    measures = scan_measures(volume.array, lungs, volume.grid, own)
    area = lungs.combined.sum(axis=tuple(a for a in range(3) if a != own)) * (
        volume.grid.voxel_volume_ml * 1000.0 / volume.grid.spacing[own]
    )
    if len(area) != len(slices):  # resampled along the slices: every slice speaks
        area = np.full(len(slices), np.inf)
    elif along[own] < 0:  # the model's slices run the other way
        area = area[::-1]
    return compare_with_training(
        model, settings.layer_of(model), slices, np.asarray(area, float), measures, settings.training_scans
    )


def seen_by_model(volume: Volume, regions: LungRegions, settings: LesionSettings) -> Volume:
    """The scan as the model was trained to see it: the lungs alone where its settings say so."""
    if settings.outside_lungs is None:
        return volume
    outside = np.asarray(settings.outside_lungs, volume.array.dtype)
    return volume.with_array(np.where(regions.lungs.combined, volume.array, outside))


def scan_units(grid: Grid, slice_step_mm: float) -> float:
    """Bits per voxel of the scan for one bit per cm² of slice.

    A slice speaks for a slab as thick as the distance to the next; the map's sum over the scan is then the total of
    bits of all slices, whatever the voxels' size.
    """
    return grid.voxel_volume_ml * 10.0 / slice_step_mm


def restore_density(maps: SliceMaps, grid: Grid) -> np.ndarray:
    """The maps' density (I, J, K) float32 on the scan's grid, linear between cells and slices."""
    return resample(maps.density, maps.grid, grid, "linear", outside=0.0)


def refinement_of(settings: LesionSettings) -> Refinement | None:
    """How the coarse map is fitted to the scan's densities; None where the model asks for nothing."""
    floor = None if settings.denser_than <= -1024 else settings.denser_than
    if floor is None and not settings.closing:
        return None
    return Refinement(
        hu_floor=floor,
        growth_mm=settings.growth if floor is not None else 0.0,
        smoothing_mm=settings.smoothing,
        closing_mm=settings.closing,
    )


def _measure(
    maps: SliceMaps, prepared: Preprocessed, volume: Volume, regions: LungRegions, settings: LesionSettings
) -> _Measured:
    step = float(np.linalg.norm(prepared.grid.affine[:3, maps.slice_axis]))
    unit = scan_units(volume.grid, step) if settings.is_bottleneck else 1.0
    bits = restore_density(maps, volume.grid)
    bits *= unit
    threshold = _threshold(settings, bits, regions, unit)
    lungs, hu = regions.lungs.combined, volume.array
    everything = find_lesions(
        bits,
        lungs,
        volume.grid,
        threshold.value,
        minimal_volume_ml=settings.minimum_volume,
        hu=hu,
        refinement=refinement_of(settings),
    )
    evidence = weigh_evidence(
        everything,
        bits,
        lungs,
        volume.grid,
        maps,
        hu=hu if settings.denser_than > -1024 else None,
        relative_peak=settings.relative_peak,
    )
    labels, left_out = apart(everything, evidence)
    counted = quantify_lesions(labels, bits, volume.grid, regions.lungs, hu=hu, lobes=regions.lobes)
    others = quantify_lesions(left_out, bits, volume.grid, regions.lungs, hu=hu, lobes=regions.lobes)
    return _Measured(
        bits,
        labels,
        threshold,
        counted,
        tuple(item for item in evidence if not item.reason),
        Doubtful(left_out, others.lesions, tuple(item for item in evidence if item.reason)),
    )


def _threshold(settings: LesionSettings, bits: np.ndarray, regions: LungRegions, unit: float) -> Threshold:
    if settings.threshold_method == "absolute":
        return absolute_threshold(settings.threshold or 0.0)
    calibrated = settings.chosen.threshold(settings.fraction) * unit if settings.chosen.healthy else 0.0
    if settings.threshold_method == "otsu":
        # calibration is the floor: a healthy lung has two classes by Otsu as well
        inside = bits[regions.lungs.combined]
        return otsu_threshold(inside[inside > 0] if (inside > 0).any() else inside, floor=calibrated)
    share = settings.fraction
    calibrated = settings.chosen.threshold(share) * unit
    return Threshold(calibrated, "calibrated", f"exceeded by {share:.3%} of the lungs in lesion-free scans")


def _statistics(model, settings, slices, warn) -> ReferenceStatistics | None:
    if not settings.is_bottleneck:
        return None
    layer = settings.layer_of(model)
    statistics = find_statistics(model, layer)
    if statistics is not None:
        return statistics
    warn(
        f"There are no reference statistics for the layer {layer} of {model.name}: the noise is drawn from this "
        "scan's own slices. Fit them over healthy scans with the task fit-reference."
    )
    return own_statistics(model, slices, layer)
