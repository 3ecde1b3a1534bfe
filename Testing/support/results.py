"""A small result folder with real files of every kind: a thorax, its map with a planted lesion, tables, a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from support.scans import GRIDS, Ball, coordinates, lung_mask, thorax
from xaiengine.core.job import RESULT_NAME, Artifact, Result, write_json
from xaiengine.figures.three_planes import MapLayer, Outline, draw_three_planes
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume

LESION = Ball((-28.0, 4.0, 6.0), 8.0)
OTHER = Ball((27.0, -4.0, -9.0), 5.0)
PEAK = 40.0


def write_table(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([columns, *rows])
    path.write_text(stream.getvalue(), encoding="utf-8")


def example_result(folder: Path, grid_name: str = "axial", name: str = "thorax", **changes: Any) -> Result:
    """Write a finished ``quantify-lesions`` into a folder, with the scan beside it; ``changes`` go into the result."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = GRIDS[grid_name]
    scan = thorax(grid, [LESION, OTHER], noise=12)
    write_volume(folder / "scan.nrrd", scan)
    distance = np.linalg.norm(coordinates(grid) - np.reshape(LESION.center, (3, 1, 1, 1)), axis=0)
    heat = (PEAK * np.exp(-((distance / 9) ** 2))).astype(np.float32)
    write_volume(folder / "attribution.nrrd", Volume(heat, grid, "attribution", "bits/voxel"))
    masks = [Mask(f"Lesion {n}", ball.mask(grid), (0.2, 0.9, 0.8)) for n, ball in enumerate((LESION, OTHER), start=1)]
    write_segmentation(folder / "lesions.seg.nrrd", Segmentation.from_masks(masks, grid, "lesions"))
    lungs = [Mask("lungs", lung_mask(grid), (0.7, 0.8, 0.9))]
    write_segmentation(folder / "lungs.seg.nrrd", Segmentation.from_masks(lungs, grid, "lungs"))
    write_table(
        folder / "lesions.csv",
        ["lesion", "volume (mL)", "mean_hu", "lung", "centroid R (mm)", "centroid A (mm)", "centroid S (mm)"],
        [
            [1, f"{LESION.volume_ml:.6g}", 19.8765, "left lung", *LESION.center],
            [2, f"{OTHER.volume_ml:.6g}", 21.2345, "right lung", *OTHER.center],
        ],
    )
    rows = [[number, 3 * number, 0.5 / (1 + number)] for number in range(20)]
    write_table(folder / "slices.csv", ["slice", "S (mm)", "probability"], rows)
    layer = MapLayer(heat, unit="bits per voxel", threshold=8.0)
    draw_three_planes(folder / "picture.png", scan, [layer], [Outline(LESION.mask(grid), "lesions")])
    result = Result(
        status="finished",
        task="quantify-lesions",
        warnings=["1 of 9 explained slices did not end in a lesion."],
        values={"burden_percent": 1.23456, "burden_ml": 2.6666, "lesion_count": 2, "receptive_rms_mm": 33.333},
        artifacts=[
            Artifact(
                kind="volume",
                file="attribution.nrrd",
                name="attribution",
                role="attribution",
                units="bits/voxel",
                display={"colors": "heat", "threshold": 8.0, "window": [0.0, PEAK]},
            ),
            Artifact(kind="segmentation", file="lesions.seg.nrrd", name="lesions", role="lesions"),
            Artifact(
                kind="segmentation", file="lungs.seg.nrrd", name="lungs", role="lungs", display={"visible": False}
            ),
            Artifact(kind="table", file="lesions.csv", name="lesion table", role="table"),
            Artifact(kind="table", file="slices.csv", name="slice table", role="slices"),
            Artifact(
                kind="plot",
                file="slices.csv",
                name="chart",
                role="slices-chart",
                display={"table": "slices", "x": "slice", "y": ["probability"], "title": "Probability of each slice"},
            ),
            Artifact(kind="image", file="picture.png", name="picture", role="picture"),
        ],
        provenance={
            "task": "quantify-lesions",
            "job": {"inputs": {"volume": str(folder / "scan.nrrd")}, "options": {"method": "iba"}},
            "scan": {"name": name},
            "model": {"name": "lesion_model", "digest": "ab" * 32, "source": ""},
            "seed": 3,
            "device": "cpu",
            "seconds": 12.3456,
            "versions": {"xaiengine": "0.1.0"},
        },
    ).model_copy(update=changes)
    write_json(folder / RESULT_NAME, result)
    return result


def changed(result: Result, folder: Path, **changes: Mapping[str, Any] | Any) -> Result:
    """Write a result again with other fields."""
    result = result.model_copy(update=changes)
    write_json(folder / RESULT_NAME, result)
    return result
