"""The task dissect: tables, charts and pictures of what the units of a network detect."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import OptionError
from ...figures.charts import draw_units_per_concept
from ...figures.unit_sheet import draw_unit_sheet
from ...models.provenance import model_provenance
from ...network.layers import find_layer
from ...semantics.dissection.comparison import compare_dissections
from ...semantics.dissection.dissection import UNLABELLED, Dissection
from ...semantics.dissection.store import load_dissection, save_dissection, stored_path
from .dissecting import Dissected, concept_source, dissect_model, image_entries, stages
from .sheet_images import sheet_rows

if TYPE_CHECKING:
    from ...models.explained_model import ExplainedModel
    from ..task import Context, Outcome
    from .options import DissectOptions

WORK_FOLDER = "activations"
SECOND = " (second model)"
SHOWN_IMAGES = 5


def dissect_and_write(options: DissectOptions, context: Context) -> Outcome:
    """Dissect one or two models over the images and write everything."""
    from ..task import Outcome

    if options.second_model and options.earlier:
        raise OptionError(
            "A second model and an earlier dissection were given; one comparison is made.",
            "Leave one of them empty.",
        )
    earlier = load_dissection(Path(options.earlier)) if options.earlier else None
    model = _model(options.model, options.layers, context)
    source, entries = concept_source(options), image_entries(options)
    folder = context.output.path(WORK_FOLDER)
    second_layers = options.second_layers or options.layers
    plan = stages(max(1, len(options.layers)))
    if options.second_model:
        plan += stages(max(1, len(second_layers)), SECOND)
    context.progress.plan([*plan, ("Writing", 0.05)])
    try:
        found = dissect_model(model, entries, source, options.layers, options, context, folder / "first")
        second = None
        if options.second_model:
            other = _model(options.second_model, second_layers, context)
            second = dissect_model(other, entries, source, second_layers, options, context, folder / "second", SECOND)
        compared = [earlier] if earlier else second.dissections if second else []
        _write(found, compared, options, context)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(values=_values(found), provenance=_provenance(found, compared))


def _model(name: str, layers: list[str], context: Context) -> ExplainedModel:
    model = context.session.model(name, context.device, context.trust_model)
    model.capabilities.require("layers", "Dissection")
    for layer in layers:
        if layer.strip():
            find_layer(model.network, layer.strip())
    return model


def _write(found: Dissected, compared: list[Dissection], options: DissectOptions, context: Context) -> None:
    context.progress.stage("Writing", 4)
    for number, dissection in enumerate(found.dissections):
        _write_dissection(dissection, number, options, context)
    several = len(found.dissections) > 1
    _write_concepts(found, several, context)
    context.progress.advance()
    _write_units(found, context)
    _write_images(found, context)
    context.progress.advance()
    if compared:
        _write_comparison(found.dissections, compared, context)
    first = found.dissections[0]
    rows = sheet_rows(found, first, options.sheet_units, SHOWN_IMAGES, options.most_slices)
    if rows:
        outlines = "yellow: where the unit is on" + ("" if found.clustered else "; cyan: the concept")
        draw_unit_sheet(context.output.path("sheet.png"), rows, f"{first.model_name}, {first.layer} ({outlines})")
        context.output.add("image", "sheet.png", "sheet of units", "sheet")
    context.progress.advance()
    _say_what_matters(found, context)


def _write_dissection(dissection: Dissection, number: int, options: DissectOptions, context: Context) -> None:
    name = "dissection" if number == 0 else f"dissection-{dissection.layer.replace('.', '-')}"
    save_dissection(context.output.path(f"{name}.safetensors"), dissection)
    context.output.add("data", f"{name}.safetensors", f"dissection of {dissection.layer}", name)
    context.output.add("data", f"{name}.json", f"dissection of {dissection.layer} (words)", f"{name}-words")
    if options.keep:
        kept = stored_path(dissection.model_digest, dissection.layer)
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_dissection(kept, dissection)
        context.log(f"explain-semantics finds this dissection of {dissection.layer} for {dissection.model_name}.")


def concept_rows(dissection: Dissection, label_layer: bool = False) -> list[dict[str, Any]]:
    """A row per concept, those with most units first, then one for the unlabeled units."""
    low, high = dissection.unit_intervals()
    units = dissection.units_per_concept()
    masks = dissection.kind == "masks"
    rows = []
    for number in sorted(range(len(units)), key=lambda n: (-units[n], n)):
        best = int(dissection.iou[:, number].argmax())
        label = dissection.concepts[number]
        row = {
            "concept": f"{label} ({dissection.layer})" if label_layer else label,
            "code": dissection.codes[number],
            "layer": dissection.layer,
            "units": int(units[number]),
            "units low": float(low[number]) if masks else None,
            "units high": float(high[number]) if masks else None,
            "share of units (%)": 100 * units[number] / dissection.units,
            "best unit": best,
            "best IoU": float(dissection.iou[best, number]) if masks else None,
            "IoU by chance": _number(dissection.chance[number]),
            "images with it": int(dissection.concept_images[number]) if masks else None,
            "share of voxels (%)": 100 * dissection.concept_voxels[number] / max(1, dissection.voxels)
            if masks
            else None,
        }
        rows.append(row)
    unlabeled = len(dissection.units_of(UNLABELLED))
    label = f"unlabeled ({dissection.layer})" if label_layer else "unlabeled"
    share = 100 * unlabeled / dissection.units
    rows.append({"concept": label, "layer": dissection.layer, "units": unlabeled, "share of units (%)": share})
    return rows


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _write_concepts(found: Dissected, several: bool, context: Context) -> None:
    rows = [row for dissection in found.dissections for row in concept_rows(dissection, several)]
    columns = list(concept_rows(found.dissections[0])[0])
    description = "Units that detect each concept, with 95 % intervals over draws of images."
    context.output.table("concepts.csv", columns, rows, "concepts", "concepts", description=description)
    context.output.add(
        "plot",
        "concepts.csv",
        "units per concept",
        "concepts-chart",
        display={
            "table": "concepts",
            "x": "concept",
            "y": ["units"],
            "type": "bar",
            "title": "Units per concept",
            "y_title": "units",
        },
    )
    first = found.dissections[0]
    rows = concept_rows(first)[:-1]
    ends = [[row["units"] if row[end] is None else row[end] for end in ("units low", "units high")] for row in rows]
    bars = [(row["concept"], row["units"], *interval) for row, interval in zip(rows, ends)]
    words = "Groups of units" if found.clustered else "Units per concept"
    draw_units_per_concept(
        context.output.path("picture.png"),
        bars,
        f"{words}: {first.model_name}, {first.layer}, {len(first.images)} images",
    )
    context.output.add("image", "picture.png", "units per concept (picture)", "picture")


def _write_units(found: Dissected, context: Context) -> None:
    rows = []
    for dissection in found.dissections:
        best = dissection.best_concept
        masks = dissection.kind == "masks"
        for unit in range(dissection.units):
            label = int(dissection.concept_of_unit[unit])
            strongest = [dissection.images[image] for image in dissection.top_images[unit][:SHOWN_IMAGES]]
            rows.append(
                {
                    "layer": dissection.layer,
                    "unit": unit,
                    "concept": dissection.concepts[label] if label >= 0 else "",
                    "nearest concept": dissection.concepts[best[unit]] if best[unit] >= 0 else "",
                    "IoU" if masks else "share": float(dissection.best_iou[unit]),
                    "IoU low": _number(dissection.low[unit]),
                    "IoU high": _number(dissection.high[unit]),
                    "threshold": float(dissection.thresholds[unit]) if masks else None,
                    "on (% of voxels)": 100 * dissection.area[unit] / max(1, dissection.voxels) if masks else None,
                    "mean": float(dissection.mean[unit]),
                    "maximum": float(dissection.maximum[unit]),
                    "dead": "yes" if dissection.dead[unit] else "no",
                    "strongest images": " ".join(strongest),
                }
            )
    context.output.table("units.csv", list(rows[0]), rows, "units", "units")


def _write_images(found: Dissected, context: Context) -> None:
    cohort = found.cohort
    rows = [{"image": entry.name, "used": "yes", "note": ""} for entry in cohort.entries]
    for row in rows:
        if row["image"] in cohort.moved:
            row["note"] = "masks of another geometry, moved"
    rows += [{"image": item.name, "used": "no", "note": item.reason} for item in cohort.skipped]
    rows += [{"image": name, "used": "no", "note": "no masks"} for name in cohort.unmarked]
    context.output.table("images.csv", ["image", "used", "note"], rows, "images", "images")


def _write_comparison(first: list[Dissection], second: list[Dissection], context: Context) -> None:
    rows = []
    for one, other in zip(first, second):
        for change in compare_dissections(one, other):
            row = asdict(change)
            paired = row.pop("paired")
            rows.append(
                {
                    "layer": one.layer,
                    "second layer": other.layer,
                    **row,
                    "same images": "yes" if paired else "no",
                }
            )
    rows = [{key.replace("_", " "): value for key, value in row.items()} for row in rows]
    if not rows:
        return
    context.output.table(
        "comparison.csv",
        list(rows[0]),
        rows,
        "comparison",
        "comparison",
        description="change: share of units in the second model minus that in the first, with its 95 % interval.",
    )
    context.output.add(
        "plot",
        "comparison.csv",
        "units in two models",
        "comparison-chart",
        display={
            "table": "comparison",
            "x": "concept",
            "y": ["first units", "second units"],
            "type": "bar",
            "title": "Units per concept in two models",
            "y_title": "units",
        },
    )
    if rows[0]["same images"] == "no":
        context.warn("The two dissections are of different images: differences may come from these.")


def _say_what_matters(found: Dissected, context: Context) -> None:
    for dissection in found.dissections:
        dead = int(dissection.dead.sum())
        if dead:
            context.warn(
                f"{dead} of {dissection.units} units of {dissection.layer} never change: they detect nothing."
            )
        if dissection.kind == "masks" and dissection.concepts and not (dissection.concept_of_unit >= 0).any():
            context.warn(f"No unit of {dissection.layer} detects any of the concepts.")


def _values(found: Dissected) -> dict[str, Any]:
    first = found.dissections[0]
    return {
        "images_used": len(found.cohort.entries),
        "images_skipped": len(found.cohort.skipped) + len(found.cohort.unmarked),
        "layer": first.layer,
        "units": first.units,
        "detectors": int((first.concept_of_unit >= 0).sum()),
        "concepts_found": len(set(first.concept_of_unit[first.concept_of_unit >= 0].tolist())),
        "dead_units": int(first.dead.sum()),
        "rank_error": 100 * first.rank_error,
    }


def _provenance(found: Dissected, compared: list[Dissection]) -> dict[str, Any]:
    def words(dissection: Dissection) -> dict[str, Any]:
        names = ("layer", "model_name", "model_digest", "kind", "settings")
        return {name: getattr(dissection, name) for name in names}

    return {
        "model": model_provenance(found.model),
        "dissections": [words(item) for item in found.dissections],
        "compared_with": [words(item) for item in compared],
        "chance": "masks shifted in a circle by random offsets within each image; highest of a concept's units",
    }
