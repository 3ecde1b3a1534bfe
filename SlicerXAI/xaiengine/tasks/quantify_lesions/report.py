"""Writes what was found: map, lesions, lungs, tables and picture, as artifacts of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...core.cancellation import interruptibly
from ...core.device import available_memory
from ...core.number_text import significant
from ...inference.scan_reading import doubts
from ...io.segmentation import Mask, Segmentation
from ...io.segmentation_files import read_segmentation, write_segmentation
from ...io.terminology import lung_lesion
from ...io.volume import Volume, check_volume
from ...io.volume_files import read_volume, write_volume
from ...lesions.estimate import memory_needed
from ...lesions.pipeline import LesionFindings, quantify_scan, scan_units
from ...lesions.regions import lung_regions
from ...lesions.settings import LesionSettings, lesion_settings
from ...lesions.slice_outcomes import (
    explained_voxels,
    information_sentence,
    information_share,
    outcome_sentence,
    slice_outcomes,
)
from ...models.provenance import model_provenance
from ..explained_voxels import write_explained_voxels
from .doubtful_places import COLOR as DOUBTFUL_COLOR
from .doubtful_places import write_doubtful_places
from .slice_classifier import slice_classifier

if TYPE_CHECKING:
    from ...models.explained_model import ExplainedModel
    from ..task import Context, Outcome
    from .options import QuantifyLesionsOptions

# Cold ones, which the warm colors of the map do not hide.
LESION_COLORS = ((0.18, 0.88, 0.78), (0.30, 0.65, 1.00), (0.40, 0.85, 0.35), (0.85, 0.95, 0.95), (0.10, 0.58, 0.56))
MOST_SEGMENTS = 200
STAGES = (
    ("Reading the scan", 5.0),
    ("Finding the lungs", 10.0),
    ("Preparing the scan", 4.0),
    ("Reading the slices", 4.0),
    ("Explaining the slices", 60.0),
    ("Measuring", 3.0),
    ("Writing", 8.0),
)


def quantify_and_write(options: QuantifyLesionsOptions, context: Context) -> Outcome:
    """The task quantify-lesions: read, find, measure, write."""
    from ..task import Outcome

    context.progress.plan(STAGES)
    context.progress.stage("Reading the scan", 1)
    model = slice_classifier(context.session.model(options.model, context.device, context.trust_model))
    settings = lesion_settings(model, options)
    target = model.label_index(options.target or model.target or len(model.labels) - 1)
    check = context.progress.check
    volume = interruptibly(check, read_volume, options.volume, series_uid=options.series)
    for text in doubts(volume, model):
        context.warn(text)
    check_volume(volume)
    reference = None
    if options.reference:
        reference = read_segmentation(options.reference).on_grid(volume.grid).union()
    given = read_segmentation(options.lungs) if options.lungs else None
    needed = _say_what_it_takes(volume, context)
    context.progress.stage("Finding the lungs", 1)
    regions = interruptibly(check, lung_regions, volume, given, check)
    findings = quantify_scan(
        volume,
        model,
        settings,
        regions,
        target=target,
        reference=reference,
        seed=context.seed,
        repeats=options.repeats,
        memory_gb=options.memory,
        progress=context.progress,
        warn=context.warn,
        expect=lambda text, seconds: context.expect(text, seconds, needed),
    )
    context.progress.stage("Writing", 6)
    _write(volume, findings, settings, model, context)
    return Outcome(values=_values(findings, model), provenance=_provenance(findings, settings, model, volume, target))


def _say_what_it_takes(volume: Volume, context: Context) -> int:
    """Say the memory in bytes, and warn when it is not there."""
    needed = memory_needed(volume.grid)
    context.log(f"{volume.name}: {volume.grid.describe()}; this takes about {needed / (1 << 30):.1f} GB of memory.")
    left = available_memory(torch.device("cpu"))
    if needed > left:
        context.warn(
            f"This takes about {needed / (1 << 30):.1f} GB of memory, but {left / (1 << 30):.1f} GB are free. "
            "Crop the scan to the chest, or close other programs, if it fails."
        )
    return needed


def _write(
    volume: Volume, found: LesionFindings, settings: LesionSettings, model: ExplainedModel, context: Context
) -> None:
    output, step = context.output, context.progress.advance
    unit = "bits/voxel" if settings.is_bottleneck else "weighted activation"
    write_volume(output.path("attribution.nrrd"), Volume(found.bits, volume.grid, f"{volume.name} attribution", unit))
    output.add(
        "volume",
        "attribution.nrrd",
        "attribution",
        "attribution",
        units=unit,
        description="What each voxel tells the model that there is a lesion.",
        display={
            "colors": "heat",
            "threshold": found.threshold.value,
            "window": [0.0, _upper_end(found)],
            "opacity": 0.5,
            "background": "input",
        },
    )
    step()
    write_segmentation(output.path("lesions.seg.nrrd"), lesion_segmentation(found, f"{volume.name} lesions"))
    output.add("segmentation", "lesions.seg.nrrd", "lesions", "lesions")
    step()
    write_segmentation(output.path("lungs.seg.nrrd"), found.regions.segmentation(f"{volume.name} lungs"))
    output.add("segmentation", "lungs.seg.nrrd", "lungs", "lungs", display={"visible": False})
    step()
    lesions = [
        {**lesion, **evidence.row()} for lesion, evidence in zip(found.quantification.lesion_rows(), found.evidence)
    ]
    columns = list(lesions[0]) if lesions else ["lesion", "volume (mL)", "max diameter (mm)", "lung"]
    output.table("lesions.csv", columns, lesions, "lesion table", "table")
    burdens = [{**row, **spread} for row, spread in zip(found.quantification.burden_rows(), _spreads(found))]
    output.table("burden.csv", list(burdens[0]), burdens, "burden table", "burden")
    outcomes = slice_outcomes(found)
    for sentence in (outcome_sentence(found, outcomes), information_sentence(found, _amount(settings))):
        if sentence:
            context.warn(sentence) if "did not end" in sentence else context.log(sentence)
    slices = [{**row, "outcome": outcome} for row, outcome in zip(slice_rows(found), outcomes)]
    output.table("slices.csv", list(slices[0]), slices, "slice table", "slices")
    step()
    write_explained_voxels(explained_voxels(found.maps, volume.grid), volume, context)
    write_doubtful_places(found, volume, context)
    if found.likeness is not None and found.likeness.ranges:
        rows = found.likeness.rows()
        output.table("scan.csv", list(rows[0]), rows, "scan beside the training scans", "scan_likeness")
    _picture(volume, found, settings, unit, context)
    step(2)


def _spreads(found: LesionFindings) -> list[dict[str, Any]]:
    """The spread over repeated runs for each region; nothing for a single run."""
    if found.spread[0].seeds < 2:
        return [{} for _ in found.spread]
    return [{key: value for key, value in spread.row().items() if key != "region"} for spread in found.spread]


def _upper_end(found: LesionFindings) -> float:
    """Window's end: what the strongest thousandth of the explained voxels reaches, so that one cell is not all."""
    positive = found.bits[found.bits > found.threshold.value]
    if positive.size == 0:
        return max(2.0 * found.threshold.value, 1e-6)
    return float(max(np.quantile(positive, 0.995), 2.0 * found.threshold.value, 1e-6))


def lesion_segmentation(found: LesionFindings, name: str) -> Segmentation:
    """One segment for each lesion, largest first, with SNOMED terminology; the smallest ones share the last."""
    masks = []
    lesions = found.quantification.lesions
    for lesion in lesions[: MOST_SEGMENTS - 1]:
        color = LESION_COLORS[(lesion.label - 1) % len(LESION_COLORS)]
        side = lesion.lung.split()[0] if lesion.lung else ""
        voxels = found.labels == lesion.label
        masks.append(Mask(f"Lesion {lesion.label}", voxels, color, lung_lesion(side), f"lesion_{lesion.label}"))
    if len(lesions) >= MOST_SEGMENTS:
        masks.append(Mask("Smaller lesions", found.labels >= MOST_SEGMENTS, LESION_COLORS[0], lung_lesion(), "rest"))
    return Segmentation.from_masks(masks, found.regions.lungs.grid, name)


def slice_rows(found: LesionFindings) -> list[dict[str, Any]]:
    """What the model says of each slice, and how many bits that takes."""
    maps = found.maps
    center = (np.array(maps.grid.shape) - 1) / 2.0
    rows = []
    for number, probability in enumerate(maps.probability):
        center[maps.slice_axis] = number
        place = maps.grid.index_to_ras(center)
        rows.append(
            {
                "slice": number,
                f"{'RAS'[maps.slice_axis]} (mm)": float(place[maps.slice_axis]),
                "probability": float(probability),
                "explained": "yes" if maps.explained[number] else "no",
                "information (bits)": float(maps.bits[number]),
                "steps": int(maps.steps[number]),
            }
        )
    return rows


def _amount(settings: LesionSettings) -> str:
    return "information" if settings.is_bottleneck else "attribution"


def _picture(volume: Volume, found: LesionFindings, settings: LesionSettings, unit: str, context: Context) -> None:
    from ...figures.gray_window import LUNG
    from ...figures.three_planes import MapLayer, Outline, PictureText, draw_three_planes

    total = found.quantification.total
    where = found.quantification.lesions[0].centroid_ras if found.quantification.lesions else None
    layer = MapLayer(
        found.bits,
        "",
        "bits at the layer, per voxel" if settings.is_bottleneck else unit,
        found.threshold.value,
        _upper_end(found),
        explained_voxels(found.maps, volume.grid),
    )
    outlines = [Outline(found.labels > 0, "lesions", LESION_COLORS[0])]
    if found.doubtful is not None and found.doubtful.lesions:
        outlines.append(Outline(found.doubtful.labels > 0, "not counted", DOUBTFUL_COLOR))
    caption = f"{significant(total.lesion_ml)} mL of lesions, {significant(total.percent)} % of the lungs"
    draw_three_planes(
        context.output.path("picture.png"),
        volume,
        [layer],
        outlines,
        text=PictureText(volume.name, caption),
        center_ras=where,
        window=LUNG if volume.unit in ("", "HU") else "auto",
        close_up=True,
    )
    context.output.add("image", "picture.png", "picture", "picture")


def _values(found: LesionFindings, model: ExplainedModel) -> dict[str, Any]:
    total = found.quantification.total
    values: dict[str, Any] = {
        "burden_percent": total.percent,
        "burden_ml": total.lesion_ml,
        "lung_ml": total.region_ml,
        "lesion_count": len(found.quantification.lesions),
    }
    if found.doubtful is not None:
        values["not_counted_ml"] = float(sum(lesion.volume_ml for lesion in found.doubtful.lesions))
    if model.grading == "covid-19":
        values["severity"] = f"COVID-19 CT extent, {found.quantification.severity.label} of 0-4"
    if found.likeness is not None and found.likeness.ranges:
        values["like_training_scans"] = "no" if found.likeness.unlike else "yes"
    share = information_share(found)
    if share is not None:
        values["in_lesions_percent"] = 100 * share
    if found.spread and found.spread[0].seeds > 1:
        values["burden_sd_percent"] = found.spread[0].sd_percent
    if found.comparison is not None:
        values["reference_ml"] = found.comparison.reference_ml
        values["reference_dice"] = found.comparison.dice
        values["reference_volume_error_percent"] = _finite(found.comparison.volume_error_percent)
        values["outside_reference_ml"] = found.comparison.false_ml
    return values


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _provenance(
    found: LesionFindings, settings: LesionSettings, model: ExplainedModel, volume: Volume, target: int
) -> dict[str, Any]:
    maps = found.maps
    step = float(np.linalg.norm(maps.grid.affine[:3, maps.slice_axis]))
    unit = scan_units(volume.grid, step) if settings.is_bottleneck else 1.0
    return {
        "model": model_provenance(model),
        "target": model.labels[target],
        "layer": maps.layer,
        "layer_centers_measured": maps.cells_measured,
        "threshold": {
            "value": found.threshold.value,
            "density": found.threshold.value / unit,
            "method": found.threshold.method,
            "origin": found.threshold.origin,
        },
        "settings": settings.model_dump(mode="json", exclude={"methods"}),
        "slices": {"total": len(maps.probability), "explained": int(maps.explained.sum())},
        "optimization_steps": [int(step) for step in maps.steps[maps.explained]],
        "lungs": "given" if found.regions.given else "found in the CT",
        "scan": {"name": volume.name, "shape": list(volume.grid.shape), "spacing_mm": list(volume.grid.spacing)},
    }
