"""Writes what was found as artifacts of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...attribution.explanation import Explanation
from ...attribution.relations import channel_rows, region_rows
from ...core.number_text import percent, significant
from ...evaluation.segmentation_findings import Findings
from ...figures.segmentation_picture import draw_target_maps
from ...figures.three_planes import MapLayer, Outline
from ...inference.preprocessing import restore
from ...io.segmentation import Mask, Segmentation
from ...io.segmentation_files import write_segmentation
from ...io.volume import Volume
from ...io.volume_files import write_volume
from ..uncertainty_writing import write_uncertainty

if TYPE_CHECKING:
    from ..task import Context

TARGET_COLOR, STRUCTURE_COLOR = (0.95, 0.75, 0.20), (0.30, 0.65, 0.90)
ERROR_COLOR = (0.90, 0.25, 0.55)
WINDOW_QUANTILE = 0.999
MOST_MAGNITUDES = 1


def write_findings(found: Findings, context: Context) -> dict[str, Any]:
    """Write every artifact; the numbers of the first map come back."""
    names = _names(found)
    for number, item in enumerate(found.maps):
        _map(found, number, names[number], context)
        if number < MOST_MAGNITUDES and item.signed:
            _magnitude(found, number, context)
    context.progress.advance()
    _target(found, context)
    _tables(found, names, context)
    context.progress.advance()
    _corrections(found, context)
    _picture(found, names, context)
    values = _values(found)
    if found.uncertainty is not None:
        values |= _uncertainty(found, context)
    context.progress.advance(2)
    return values


def _names(found: Findings) -> list[str]:
    """A role for each map: the first is ``attribution``, others add method, layer and target where needed."""
    names = []
    for number, item in enumerate(found.maps):
        parts = ["attribution", item.method]
        parts += [found.chosen[item.row].key] if len(found.chosen) > 1 else []
        parts += [item.layer.replace(".", "-")] if _of_several_layers(found, item) else []
        names.append("attribution" if number == 0 else "-".join(parts))
    return names


def _of_several_layers(found: Findings, item: Explanation) -> bool:
    """Whether the map's method was asked at other layers too, so that its layer must be told."""
    return len({other.layer for other in found.maps if other.method == item.method}) > 1


def _window(values: np.ndarray) -> float:
    amount = np.abs(values)
    return float(np.quantile(amount, WINDOW_QUANTILE)) or float(amount.max()) or 1.0


def _display(item: Explanation, values: np.ndarray) -> dict[str, Any]:
    extreme = _window(values)
    if item.signed:
        return {"colors": "diverging", "window": [-extreme, extreme], "opacity": 0.6, "background": "input"}
    return {
        "colors": "heat",
        "window": [0.0, extreme],
        "threshold": 0.05 * extreme,
        "opacity": 0.5,
        "background": "input",
    }


def _map(found: Findings, number: int, role: str, context: Context) -> None:
    item, values = found.maps[number], found.restored[number]
    target = found.chosen[item.row].target
    title = f"{item.title} of {target.name}" + (f" at {item.layer}" if _of_several_layers(found, item) else "")
    file = f"{role.replace('+', 'p')}.nrrd"
    volume = Volume(np.asarray(values, dtype=np.float32), found.scan.volume.grid, title, item.unit)
    write_volume(context.output.path(file), volume)
    context.output.add(
        "volume", file, title, role, units=item.unit, description=_meaning(item), display=_display(item, values)
    )


def _meaning(item: Explanation) -> str:
    if item.family == "information":
        return "Bits that the segmentation of this structure needs from each voxel."
    return (
        "Positive: supports the explained target; negative: opposes it."
        if item.signed
        else ("How much the explained target depends on each place.")
    )


def _magnitude(found: Findings, number: int, context: Context) -> None:
    values = np.abs(found.restored[number]).astype(np.float32)
    extreme = _window(values)
    title = f"Magnitude of {found.maps[number].title.lower()}"
    volume = Volume(values, found.scan.volume.grid, title, found.maps[number].unit)
    write_volume(context.output.path("magnitude.nrrd"), volume)
    context.output.add(
        "volume",
        "magnitude.nrrd",
        title,
        "magnitude",
        units=found.maps[number].unit,
        description="Absolute value of the attribution.",
        display={
            "colors": "heat",
            "window": [0.0, extreme],
            "threshold": 0.05 * extreme,
            "opacity": 0.5,
            "background": "input",
        },
    )


def _target(found: Findings, context: Context) -> None:
    """The predicted structures and, where they differ, the voxels that were explained."""
    masks = []
    for item in found.chosen:
        structure = item.structure.cpu().numpy()
        support = item.target.full_mask().cpu().numpy()
        color = ERROR_COLOR if item.error else STRUCTURE_COLOR
        masks.append(Mask(f"{item.label} ({item.key})", _on_scan(found, structure), color))
        if not np.array_equal(structure, support) and not support.all():
            masks.append(Mask(f"explained: {item.target.name}", _on_scan(found, support), TARGET_COLOR))
    segmentation = Segmentation.from_masks(masks, found.scan.volume.grid, "Explained target")
    write_segmentation(context.output.path("target.seg.nrrd"), segmentation)
    description = "The structure as the model segments it, and the voxels that were explained."
    context.output.add("segmentation", "target.seg.nrrd", "explained target", "target", description=description)


def _on_scan(found: Findings, mask: np.ndarray) -> np.ndarray:
    return restore(mask.astype(np.uint8), found.scan.grid, found.scan.volume.grid, "nearest") > 0


def _tables(found: Findings, names: list[str], context: Context) -> None:
    output = context.output
    rows = [_summary(found, number) for number in range(len(found.maps))]
    output.table("summary.csv", list(rows[0]), rows, "summary", "summary")
    for number, curve in enumerate(found.curves):
        role = "distance" if number == 0 else f"distance-{names[number].removeprefix('attribution-')}"
        title = f"distance, {found.maps[number].title}"
        distances = curve.rows()
        output.table(f"{role}.csv", list(distances[0]), distances, title, role)
        output.add(
            "plot",
            f"{role}.csv",
            f"{title} (chart)",
            f"{role}-chart",
            display={
                "table": role,
                "x": "distance (mm)",
                "y": ["share up to here (%)"],
                "title": "Where the model looks",
                "x_title": "distance from the surface (mm)",
                "y_title": "share of the attribution (%)",
            },
        )
    regions, channels = [], []
    for number, item in enumerate(found.maps):
        target = found.chosen[item.row].target
        if found.structures:
            more = found.uncertainty.maps[number].region_columns if found.uncertainty is not None else None
            regions += region_rows(
                found.on_network_grid[number],
                found.structures,
                found.scan.grid.voxel_volume_ml,
                target.name,
                item.title,
                more,
            )
        if item.channels is not None:
            channels += channel_rows(item.channels, found.scan.model.channel_names, target, item.title)
    if regions:
        output.table("regions.csv", list(regions[0]), regions, "region table", "regions")
    if channels:
        output.table("channels.csv", list(channels[0]), channels, "channel table", "channels")
    if found.matrix is not None:
        columns, rows = found.matrix
        output.table(
            "matrix.csv",
            [*columns, "method"],
            rows,
            "structure matrix",
            "matrix",
            units="%",
            description="Share of each segmentation's attribution in each structure.",
        )


def _summary(found: Findings, number: int) -> dict[str, Any]:
    item, curve = found.maps[number], found.curves[number]
    chosen = found.chosen[item.row]
    row = {
        "target": chosen.target.name,
        "value": found.values[item.row],
        "method": item.title,
        "layer": item.layer,
        "50 % within (mm)": curve.radius_50_mm,
        "90 % within (mm)": curve.radius_90_mm,
        "outside (%)": 100 * curve.outside_share,
    }
    for key, name in (("completeness_error", "completeness error (%)"), ("relative_standard_error", "noise (%)")):
        row[name] = 100 * item.convergence[key] if key in item.convergence else None
    if "stable_share" in item.convergence:
        row["stable (%)"] = 100 * item.convergence["stable_share"]
    row["total (bits)"] = item.convergence.get("total_bits")
    return row


def _corrections(found: Findings, context: Context) -> None:
    scan = found.scan
    for key, correction in found.corrections.items():
        values = restore(correction.change.sum(0).numpy(), scan.grid, scan.volume.grid)
        role, title = f"correction-{key}", f"What would correct {key.replace('-', ' ')}"
        write_volume(context.output.path(f"{role}.nrrd"), Volume(values, scan.volume.grid, title, "input units"))
        context.output.add(
            "volume",
            f"{role}.nrrd",
            title,
            role,
            units="input units",
            description=f"A change of the network's input that corrects {correction.corrected:.0%} of the error.",
            display={
                "colors": "diverging",
                "window": [-correction.largest_change, correction.largest_change],
                "opacity": 0.6,
                "background": "input",
            },
        )
        if correction.rows:
            context.output.table(
                f"{role}.csv", list(correction.rows[0]), correction.rows, f"{title} (table)", f"{role}-table"
            )


def _picture(found: Findings, names: list[str], context: Context) -> None:
    """A picture for each explained structure with every map of it."""
    for number, chosen in enumerate(found.chosen):
        maps = [index for index, item in enumerate(found.maps) if item.row == number]
        if not maps:
            continue
        layers = [MapLayer(found.restored[index], found.maps[index].title, found.maps[index].unit) for index in maps]
        curve = found.curves[maps[0]]
        role = "picture" if number == 0 else f"picture-{chosen.key}"
        title = f"{layers[0].title}: {chosen.target.name}" if len(layers) == 1 else chosen.target.name
        written = draw_target_maps(
            context.output.path(f"{role}.png"),
            found.scan.volume,
            layers,
            _on_scan(found, chosen.structure.cpu().numpy()),
            chosen.label,
            title=title,
            caption=f"{layers[0].title}: half of |map| within {significant(curve.radius_50_mm)} mm of the target, "
            f"90 % within {significant(curve.radius_90_mm)} mm; {percent(curve.outside_share)} outside it",
        )
        for sheet, path in enumerate(written):
            name = role if sheet == 0 else f"{role}-{sheet + 1}"
            context.output.add("image", path.name, name.replace("-", " "), name)


def _uncertainty(found: Findings, context: Context) -> dict[str, Any]:
    """Volumes, table and picture of what the runs differ in."""
    measured = found.uncertainty
    assert measured is not None
    scan = found.scan
    first = found.chosen[found.maps[0].row]
    outline = Outline(_on_scan(found, first.structure.cpu().numpy()), first.label)
    sd = measured.probability_sd
    return write_uncertainty(
        measured,
        [item.on(scan.volume.grid) for item in found.maps],
        scan.volume,
        context,
        probability_sd=None if sd is None else restore(sd, scan.grid, scan.volume.grid),
        outlines=[outline],
    )


def _values(found: Findings) -> dict[str, Any]:
    curve, chosen = found.curves[0], found.chosen[found.maps[0].row]
    values: dict[str, Any] = {
        "radius_50_mm": curve.radius_50_mm,
        "radius_90_mm": curve.radius_90_mm,
        "outside_percent": 100 * curve.outside_share,
        "target_value": found.values[found.maps[0].row],
        "target_ml": float(chosen.structure.sum()) * found.scan.grid.voxel_volume_ml,
        "windows": len(found.scan.windows.windows_of([item.target for item in found.chosen])),
    }
    if found.view is not None:
        values["receptive_50_mm"] = found.view.radius_50_mm
        values["receptive_90_mm"] = found.view.radius_90_mm
        values["receptive_rms_mm"] = found.view.rms_mm
    for item in found.maps:
        if "total_bits" in item.convergence:
            values.setdefault("total_bits", item.convergence["total_bits"])
    for key, correction in found.corrections.items():
        values[f"corrected_{key}_percent"] = 100 * correction.corrected
    return values
