"""From a folder of images and options to dissections: reading, one pass, every layer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...core.errors import ResourceError
from ...models.explained_model import ExplainedModel
from ...semantics.dissection.clustering import cluster_units, pattern_names, sampled_places
from ...semantics.dissection.cohort import TOP_IMAGES, Cohort, LoadedImage, load_image, run_cohort
from ...semantics.dissection.concept_masks import ConceptMasks, ConceptSource, Vocabulary
from ...semantics.dissection.dissection import Dissection, DissectionSettings, dissect_layer, layer_stages
from ...semantics.dissection.image_list import ImageEntry, label_names, list_images
from ...semantics.dissection.layer_sweep import LayerSweep
from ...semantics.dissection.sampling import PreparedImage

if TYPE_CHECKING:
    from ..task import Context
    from .options import DissectOptions

USUAL_CLUSTERS = 12
LARGEST_DISK_SHARE = 0.8
FEW_IMAGES = 10
LABELS_FILE = "labels.csv"
PASS_SHARE = 1.6
"""The whole work in units of the passes: thresholds, overlaps and pictures come on top."""


@dataclass(frozen=True, eq=False)
class Dissected:
    """One model's cohort and what its layers detect. ``folder`` holds the stored activations."""

    model: ExplainedModel
    cohort: Cohort
    dissections: list[Dissection]
    source: ConceptSource
    folder: Path
    clustered: bool


def concept_source(options: DissectOptions) -> ConceptSource:
    """Names and boxes as the options give them. Raises InputError for tables that cannot be read."""
    images = Path(options.images)
    labels = Path(options.labels) if options.labels else images / LABELS_FILE
    names = label_names(labels if options.labels or labels.is_file() else None)
    boxes = Path(options.boxes) if options.boxes else None
    return ConceptSource.of(names, boxes, options.box_unit, options.naming)


def image_entries(options: DissectOptions) -> list[ImageEntry]:
    masks = Path(options.masks) if options.masks else None
    pairs = Path(options.pairs) if options.pairs else None
    return list_images(Path(options.images), masks, pairs)


def dissect_model(
    model: ExplainedModel,
    entries: list[ImageEntry],
    source: ConceptSource,
    layers: list[str],
    options: DissectOptions,
    context: Context,
    folder: Path,
    stage: str = "",
) -> Dissected:
    """Dissect a model over images; activations are stored in ``folder`` until it is removed.

    ``stage`` is added to the names of the stages, which :func:`stages` lists.

    Raises:
        InputError: no image can be used, or too few units respond for clusters.
        ModelError: the model cannot take the images, or a layer has no positions.
        ResourceError: the disk has no room for the activations.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clustered = options.clusters > 0 or not any(source.marks(entry) for entry in entries)
    cohort = Cohort(vocabulary=Vocabulary(() if clustered else options.concepts))
    if clustered:
        source = ConceptSource(source.names, {}, source.box_unit, source.naming)
        entries = [ImageEntry(entry.name, entry.path) for entry in entries]
    elif options.without_masks == "leave out":
        cohort.unmarked = [entry.name for entry in entries if not source.marks(entry)]
        entries = [entry for entry in entries if source.marks(entry)]
    cohort.most_of_image = max(1, TOP_IMAGES // max(1, len(entries)))
    context.progress.stage(f"Reading the images{stage}", len(entries))
    images = _loaders(model, entries, source, cohort, options, context, folder)
    run_cohort(images, model, layers, folder, cohort, context.progress)
    _say_what_was_left_out(cohort, clustered, len(entries), context)
    dissections = []
    for number, layer in enumerate(cohort.layers):
        name = _stage_of_layer(stage, number, len(cohort.layers))
        if clustered:
            dissections.append(_clusters_of(cohort, layer, model, options, context, name))
            continue
        dissections.append(
            dissect_layer(
                cohort,
                layer,
                folder,
                model.name,
                model.digest,
                _settings(options, context.seed),
                context.progress,
                name,
            )
        )
    return Dissected(model, cohort, dissections, source, folder, clustered)


def stages(layers: int, stage: str = "") -> list[tuple[str, float]]:
    """The stages of :func:`dissect_model` with their usual shares of the time."""
    found = [(f"Reading the images{stage}", 1.0)]
    for number in range(layers):
        found += layer_stages(_stage_of_layer(stage, number, layers))
    return found


def _stage_of_layer(stage: str, number: int, layers: int) -> str:
    return f"{stage}, layer {number + 1}" if layers > 1 else stage


def _settings(options: DissectOptions, seed: int) -> DissectionSettings:
    return DissectionSettings(options.quantile, options.least_iou, options.draws, options.rolls, seed)


def _loaders(
    model: ExplainedModel,
    entries: list[ImageEntry],
    source: ConceptSource,
    cohort: Cohort,
    options: DissectOptions,
    context: Context,
    folder: Path,
) -> Iterator[tuple[ImageEntry, Callable[[], LoadedImage]]]:
    started, said = time.perf_counter(), False
    for number, entry in enumerate(entries):

        def load(entry: ImageEntry = entry) -> LoadedImage:
            image, found = load_image(entry, model, source, cohort.vocabulary, options.most_slices)
            if found.moved:
                cohort.moved.append(entry.name)
            return image.samples.tensor, _masks_by_sample(image, found)

        yield entry, load
        if cohort.entries and not said:  # one batch has been through the network
            said = True
            _say_what_it_takes(cohort, number, len(entries), time.perf_counter() - started, context, folder)


def _masks_by_sample(image: PreparedImage, found: ConceptMasks) -> list[dict[int, np.ndarray]]:
    return [image.masks_of(found.masks, sample) for sample in range(len(image.samples.tensor))]


def _say_what_it_takes(cohort: Cohort, done: int, total: int, seconds: float, context: Context, folder: Path) -> None:
    stored = sum(path.stat().st_size for path in folder.iterdir())
    used = max(1, len(cohort.entries))
    disk = stored / used * total
    expected = seconds / max(1, done) * total * PASS_SHARE
    free = shutil.disk_usage(folder).free
    if disk > LARGEST_DISK_SHARE * free:
        raise ResourceError(
            f"The activations of {total} images take {disk / 2**30:.1f} GB of disk; {free / 2**30:.1f} GB are free.",
            "Choose an output folder on another disk, a deeper layer, fewer slices or fewer images.",
        )
    context.expect(
        f"{total} images take about {max(1, round(expected / 60))} min and {disk / 2**30:.1f} GB of disk meanwhile.",
        expected,
    )


def _say_what_was_left_out(cohort: Cohort, clustered: bool, total: int, context: Context) -> None:
    if cohort.skipped:
        first = ", ".join(f"{item.name} ({item.reason})" for item in cohort.skipped[:3])
        context.warn(
            f"{len(cohort.skipped)} of {total} images could not be used: {first}"
            f"{' ...' if len(cohort.skipped) > 3 else '.'}"
        )
    if cohort.unmarked:
        context.warn(
            f"Images without masks, left out: {len(cohort.unmarked)}. The option without_masks takes them as free of "
            "every concept."
        )
    if cohort.moved:
        context.warn(
            f"Images whose masks have another geometry: {len(cohort.moved)}. The masks were moved to the image's."
        )
    if clustered:
        return
    if len(cohort.entries) < FEW_IMAGES:
        context.warn(
            f"Few images ({len(cohort.entries)}): intervals are drawn over images and mean little with fewer than "
            f"{FEW_IMAGES}."
        )
    for name in cohort.vocabulary.missing:
        context.warn(f"The concept {name} is in none of the images.")
    if len(cohort.vocabulary) == 1:
        context.warn(
            f"There is one concept only ({cohort.vocabulary.names[0]}): a unit can detect it or nothing, and what "
            "resembles it cannot be told from it."
        )
    if not len(cohort.vocabulary):
        context.warn("The masks hold none of the concepts; no unit can be named.")


def _clusters_of(
    cohort: Cohort, layer: str, model: ExplainedModel, options: DissectOptions, context: Context, stage: str
) -> Dissection:
    """Groups of units instead of concepts, as a dissection without overlaps."""
    sweep, figures = LayerSweep(cohort, layer), cohort.figures[layer]
    context.progress.stage(f"Overlaps{stage}", 1)
    count = options.clusters or USUAL_CLUSTERS
    places = sampled_places((item for item, _ in sweep.activations()), len(sweep.store.records), context.seed)
    label, share = cluster_units(places, count, options.cluster_method, context.seed)
    context.progress.advance()
    settings = {"clusters": count, "cluster_method": options.cluster_method, "seed": context.seed}
    images = tuple(entry.name for entry in cohort.entries)
    return clustered_dissection(
        layer,
        model,
        label,
        share,
        figures.mean,
        figures.maximum,
        figures.minimum,
        figures.top,
        images,
        settings,
        sweep.store.voxel_count,
    )


def clustered_dissection(
    layer: str,
    model: ExplainedModel,
    label: np.ndarray,
    share: np.ndarray,
    mean: torch.Tensor,
    maximum: torch.Tensor,
    minimum: torch.Tensor,
    top: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    images: tuple[str, ...],
    settings: dict,
    voxels: int = 0,
) -> Dissection:
    """A dissection whose concepts are clusters; ``iou`` holds how much each unit belongs to each of them."""
    units, clusters = share.shape
    nothing = np.zeros(units, dtype=np.int64)
    top_values, top_images, top_samples = (part.cpu().numpy() for part in top)
    return Dissection(
        layer=layer,
        model_name=model.name,
        model_digest=model.digest,
        concepts=pattern_names(clusters),
        codes=("",) * clusters,
        images=images,
        concept_of_unit=label,
        thresholds=maximum.cpu().numpy(),
        iou=share,
        overlap=np.zeros((units, clusters), dtype=np.int64),
        area=nothing,
        concept_voxels=np.zeros(clusters, dtype=np.int64),
        concept_images=np.zeros(clusters, dtype=np.int64),
        voxels=voxels,
        low=np.full(units, np.nan),
        high=np.full(units, np.nan),
        units_drawn=np.zeros((0, clusters), dtype=np.int64),
        chance=np.full(clusters, np.nan),
        mean=mean.cpu().numpy(),
        maximum=maximum.cpu().numpy(),
        dead=(minimum == maximum).cpu().numpy(),
        top_values=top_values,
        top_images=top_images,
        top_samples=top_samples,
        rank_error=0.0,
        kind="clusters",
        settings=settings,
    )
