"""The report of a result in memory: what a task would write is written into a passing folder, and told from there."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import ItemsView, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..attribution.explanation import Explanation
from ..core.job import RESULT_NAME, Artifact, write_json, write_text_atomically
from ..core.job import Result as WrittenResult
from ..figures.prediction_picture import display_of
from ..io.segmentation import Mask, Segmentation
from ..io.segmentation_files import write_segmentation
from ..io.volume import Volume
from ..io.volume_files import write_volume
from .notebook import png_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRUCTURE_COLOR = (0.30, 0.65, 0.90)


class Told(Protocol):
    """What a report needs of a result of the API."""

    scan: Volume
    target: str
    value: float | None
    prediction: dict[str, float]
    notes: tuple[str, ...]
    provenance: dict[str, Any]
    seconds: float

    @property
    def uncertainty(self) -> Mapping[str, Any] | None: ...
    def items(self) -> ItemsView[str, Any]: ...
    def figure(self) -> Figure: ...


def report_of(result: Told, path: Path, with_scan: bool) -> Path:
    """Write the HTML page about a result and return its path. Raises ResourceError when it cannot be written."""
    from ..report.making import write_report

    with tempfile.TemporaryDirectory(prefix="xaiengine-report-") as name:
        folder = Path(name)
        scan = write_volume(folder / "scan.nrrd", result.scan)
        _write(result, folder)
        return write_report(folder, path, scan=scan if with_scan else None, with_scan=with_scan)


def _write(result: Told, folder: Path) -> None:
    artifacts: list[Artifact] = []
    rows = []
    for number, (key, item) in enumerate(result.items()):
        role = "attribution" if number == 0 else f"attribution-{number + 1}"
        moved = item.on(result.scan.grid)
        title = f"{item.title}, {key.split('/', 1)[1]}" if "/" in key else item.title
        name = f"{title} ({item.target})"
        artifacts.append(_volume(folder, role, name, moved.volume(), item.unit, moved, " ".join(item.notes)))
        if "uncertainty" in moved.extras:
            sd = Volume(moved.extras["uncertainty"], result.scan.grid, f"SD of {title}", item.unit)
            role = "uncertainty" if number == 0 else f"uncertainty-{number + 1}"
            about = "Standard deviation of the map over the runs."
            artifacts.append(_volume(folder, role, f"SD of {name}", sd, item.unit, None, about))
        rows.append({"method": title, "target": item.target, "unit": item.unit, **item.convergence})
    artifacts.append(_table(folder, "methods", rows))
    measured = result.uncertainty
    if measured is not None:
        artifacts.append(_table(folder, "uncertainty-runs", measured["runs"]))
    structures = {item.target: item.structure for _, item in result.items() if item.structure is not None}
    if structures:
        masks = [Mask(target, mask, STRUCTURE_COLOR) for target, mask in structures.items()]
        write_segmentation(
            folder / "target.seg.nrrd", Segmentation.from_masks(masks, result.scan.grid, "Explained target")
        )
        artifacts.append(Artifact(kind="segmentation", file="target.seg.nrrd", name="explained target", role="target"))
    (folder / "picture.png").write_bytes(png_bytes(result.figure()))
    artifacts.append(Artifact(kind="image", file="picture.png", name="picture", role="picture"))
    written = WrittenResult(
        status="finished",
        task="explain-segmentation" if structures else "explain-prediction",
        artifacts=artifacts,
        values=_values(result),
        warnings=list(result.notes),
        provenance={**_provenance(result), "seconds": result.seconds},
    )
    write_json(folder / RESULT_NAME, written)


def _volume(
    folder: Path, role: str, name: str, volume: Volume, unit: str, item: Explanation | None, about: str
) -> Artifact:
    file = f"{role}.nrrd"
    write_volume(folder / file, volume)
    display: Mapping[str, Any] = display_of(item) if item is not None else {"colors": "heat"}
    return Artifact(
        kind="volume", file=file, name=name, role=role, units=unit, description=about, display=dict(display)
    )


def _table(folder: Path, role: str, rows: Iterable[Mapping[str, Any]]) -> Artifact:
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomically(folder / f"{role}.csv", stream.getvalue())
    return Artifact(kind="table", file=f"{role}.csv", name=role.replace("-", " "), role=role)


def _values(result: Told) -> dict[str, Any]:
    values: dict[str, Any] = {"explained_target": result.target}
    if result.value is not None:
        values["target_value"] = result.value
    measured = result.uncertainty
    if measured is not None:
        values |= {
            "uncertainty_source": measured["over"],
            "uncertainty_runs": measured["count"],
            "stable_percent": 100 * next(iter(measured["stable_share"].values())),
            "target_sd": measured["target_sd"],
        }
    return values | {f"prediction: {label}": found for label, found in result.prediction.items()}


def _provenance(result: Told) -> dict[str, Any]:
    """How it was made, without the tables that the page has already."""
    known = {name: value for name, value in result.provenance.items() if name != "uncertainty"}
    return {**known, "scan": {"name": result.scan.name, "shape": list(result.scan.grid.shape)}}
