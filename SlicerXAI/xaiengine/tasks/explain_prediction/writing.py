"""Writes explanations of a prediction as artifacts: maps, tables of regions, agreement and methods, a picture."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...attribution.explanation import Explanation
from ...attribution.regions import region_table
from ...attribution.units import named_unit
from ...evaluation.agreement import Agreement, agreement
from ...figures.overlay import draw_overlay
from ...figures.prediction_picture import display_of, draw_explanations
from ...figures.three_planes import has_opposing
from ...io.volume import Volume
from ...io.volume_files import write_volume
from ...targets.targets import predicted_probabilities
from ..explained_voxels import write_explained_voxels
from ..uncertainty_writing import ROLE, write_uncertainty
from .explaining import Explained

if TYPE_CHECKING:
    from ..task import Context

CONVERGENCE_COLUMNS = (
    "completeness_error",
    "steps",
    "total_bits",
    "converged_share",
    "predicted_from_noise",
    "relative_standard_error",
    "kept_share",
    "fit_r2",
    "stable_share",
)


def write_explained(found: Explained, context: Context, *, extra_maps: bool = False) -> dict[str, Any]:
    """Write every artifact; the returned values describe the prediction and the first map."""
    volume = found.view.volume
    restored = [
        replace(item, unit=named_unit(item.unit, item.target))
        for item in (e.on(volume.grid) for e in found.explanations)
    ]
    asked = explained_voxels(found)
    for number, explanation in enumerate(restored):
        role = "attribution" if number == 0 else f"attribution-{explanation.method}"
        _write_map(context, explanation, role, volume.name)
        if extra_maps:
            _write_extras(context, explanation, role)
        context.progress.advance()
    _write_methods(context, restored)
    _write_prediction(context, found)
    if found.segments is not None:
        _write_regions(context, found, restored)
    if len(restored) > 1:
        _write_agreement(context, found, restored)
    caption = f"{volume.name}: {found.target.name}"
    write_explained_voxels(asked, volume, context)
    for path in draw_explanations(context.output.path("picture.png"), volume, restored, caption, explained=asked):
        context.output.add("image", path.name, path.stem.replace("-", " "), path.stem)
    if volume.grid.shape[2] == 1:
        draw_overlay(context.output.path("overlay.png"), volume.array, restored[0].map)
        context.output.add("image", "overlay.png", "overlay of the first map, pixel by pixel", "overlay")
    values = _values(found, restored[0])
    if found.uncertainty is not None:
        values |= write_uncertainty(found.uncertainty, restored, volume, context, explained=asked)
    context.progress.advance()
    return values


def explained_voxels(found: Explained) -> np.ndarray:
    """Where on the scan (I, J, K) bool the explained samples lie; a map of 0 beside them says nothing."""
    view = found.view
    asked = view.volume_of(np.ones_like(view.rows_of(found.explanations[0].map, found.rows)), found.rows)
    return np.asarray(view.prepared.restored(asked)) > 0.5


def _write_map(context: Context, explanation: Explanation, role: str, scan: str) -> None:
    file = f"{role.replace('+', 'p')}.nrrd"
    write_volume(context.output.path(file), explanation.volume(f"{scan} {explanation.title}"))
    sign = "Positive: supports it, negative: opposes it. " if has_opposing(explanation.map) else ""
    context.output.add(
        "volume",
        file,
        f"{explanation.title} ({explanation.target})",
        role,
        units=explanation.unit,
        description=f"Evidence for the {explanation.target}. {sign}{' '.join(explanation.notes)}".strip(),
        display=display_of(explanation),
    )


def _write_extras(context: Context, explanation: Explanation, role: str) -> None:
    for name, values in explanation.extras.items():
        if name == ROLE:
            continue
        title = f"{explanation.title}, {name.replace('_', ' ')}"
        file = f"{role}-{name}.nrrd".replace("+", "p")
        write_volume(context.output.path(file), Volume(values, explanation.grid, title, explanation.unit))
        context.output.add("volume", file, title, f"{role}-{name}", units=explanation.unit, display={"colors": "heat"})


def _write_methods(context: Context, explanations: list[Explanation]) -> None:
    rows = []
    for item in explanations:
        figures = {name: item.convergence.get(name) for name in CONVERGENCE_COLUMNS}
        rows.append(
            {
                "method": item.title,
                "layers": " ".join(item.provenance["layers"]),
                "unit": item.unit,
                "sum": float(item.map.sum()),
                "largest": float(item.map.max()),
                **figures,
                "seconds": item.provenance["seconds"],
                "notes": " ".join(item.notes),
            }
        )
    context.output.table("methods.csv", list(rows[0]), rows, "methods", "methods")


def _write_prediction(context: Context, found: Explained) -> None:
    """What the model says of each sample, and which were explained."""
    explained = set(int(row) for row in found.rows)
    rows = []
    for number, output in enumerate(found.view.outputs):
        named = predicted_probabilities(found.view.model, output[None])
        rows.append({"sample": number, "explained": "yes" if number in explained else "no", **named})
    context.output.table("prediction.csv", list(rows[0]), rows, "prediction", "prediction")


def _write_regions(context: Context, found: Explained, explanations: list[Explanation]) -> None:
    """How much of each map lies in each segment of the given segmentation."""
    grid = found.view.volume.grid
    masks = {segment.name: found.segments.mask(segment) for segment in found.segments.segments}
    rows = []
    measured = found.uncertainty.maps if found.uncertainty is not None else [None] * len(explanations)
    for explanation, spread in zip(explanations, measured):
        for row in region_table(explanation.map, masks, grid.voxel_volume_ml):
            more = spread.region_columns(row.segment) if spread is not None else {}
            rows.append({"method": explanation.title, **row.row(), **more})
    context.output.table(
        "regions.csv",
        list(rows[0]),
        rows,
        "regions",
        "regions",
        description="Of each segment: sum, part of the absolute map, net of supporting and opposing, density, rank.",
    )


def _write_agreement(context: Context, found: Explained, explanations: list[Explanation]) -> Agreement:
    """Ranks are compared inside the explained slices only, where every method had its say."""
    inner = {item.title: found.view.rows_of(item.map, found.rows) for item in found.explanations}
    compared = agreement(inner)
    rows = [asdict(pair) for pair in compared.pairs]
    context.output.table(
        "agreement.csv",
        list(rows[0]),
        rows,
        "agreement",
        "agreement",
        description="Spearman's rank correlation, and the share of the top 5 % of voxels that two methods share.",
    )
    for values, role, name in (
        (compared.consensus, "consensus", "Consensus of the methods"),
        (compared.disagreement, "disagreement", "Disagreement of the methods"),
    ):
        first = explanations[0]
        restored = found.view.prepared.restored(found.view.volume_of(values, found.rows)).astype(np.float32)
        write_volume(context.output.path(f"{role}.nrrd"), Volume(restored, first.grid, name, "rank"))
        context.output.add(
            "volume",
            f"{role}.nrrd",
            name,
            role,
            units="rank",
            description="Mean (or SD) over the methods of each voxel's rank, 0 lowest to 1 highest.",
            display={"colors": "heat", "window": [0.0, 1.0], "threshold": 0.5, "opacity": 0.5, "background": "input"},
        )
    return compared


def _values(found: Explained, first: Explanation) -> dict[str, Any]:
    values = found.target.value(found.view.outputs[found.rows])
    peak = first.grid.index_to_ras(np.unravel_index(int(first.map.argmax()), first.map.shape))
    result: dict[str, Any] = {
        "explained_target": found.target.name,
        "target_value": float(values.max()),
        "explained_samples": len(found.rows),
        "map_sum": float(first.map.sum()),
        "peak": ", ".join(f"{axis} {coordinate:.1f}" for axis, coordinate in zip("RAS", peak)),
    }
    for name in ("total_bits", "completeness_error"):
        if name in first.convergence:
            result[name] = float(first.convergence[name])
    return result
