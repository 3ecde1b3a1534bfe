"""A result folder with an artifact of every kind, written with the engine's own writers."""

from __future__ import annotations

from pathlib import Path

import nrrd
import numpy as np
from xaiengine.core.job import RESULT_NAME, Artifact, Result, write_json
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.terminology import lung_lesion
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume

PEAK_BITS = 2.5


def write_example_result(folder: Path, shape: tuple[int, int, int], ijk_to_ras: np.ndarray) -> Path:
    """Write a finished result: one lesion of 3 x 4 x 5 voxels from index (4, 5, 6), brightest at (5, 7, 8)."""
    folder.mkdir(parents=True)
    grid = Grid(shape, ijk_to_ras)
    lesion = np.zeros(shape, bool)
    lesion[4:7, 5:9, 6:11] = True
    bits = np.where(lesion, 1.0, 0.0).astype(np.float32)
    bits[5, 7, 8] = PEAK_BITS
    signed = bits.copy()
    signed[0, 0, 0] = -1.0
    write_volume(folder / "attribution.nrrd", Volume(bits, grid, "Attribution map", "bits/voxel"))
    write_volume(folder / "contrast.nrrd", Volume(signed, grid, "Contrast map"))
    mask = Mask("Lesion 1", lesion, (1.0, 0.0, 0.0), lung_lesion("left"))
    write_segmentation(folder / "lesions.seg.nrrd", Segmentation.from_masks([mask], grid))
    _write_sequence(folder / "series.seq.nrrd", bits, grid)
    table = "lesion,volume_ml,side,mean_hu\n1,7.5,left,-40.5\n2,0.5,right,\n"
    (folder / "table.csv").write_text(table, encoding="utf-8")
    (folder / "report.txt").write_text("Größte Läsion: 7.5 mL\n", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"")
    write_json(folder / RESULT_NAME, _result())
    return folder


def _write_sequence(path: Path, bits: np.ndarray, grid: Grid) -> None:
    """Write two frames of one volume, as Slicer stores a volume sequence."""
    directions = np.diag([-1.0, -1.0, 1.0]) @ grid.affine[:3, :3]
    header = {
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.vstack([np.full(3, np.nan), directions.T]),
        "space origin": np.diag([-1.0, -1.0, 1.0]) @ grid.origin,
        "encoding": "raw",
        "axis 0 index type": "numeric",
        "axis 0 index values": "0.1 0.9",
    }
    nrrd.write(str(path), np.stack([bits, 2 * bits]), header)


def _result() -> Result:
    def artifact(kind: str, file: str, name: str, role: str, **more) -> Artifact:
        return Artifact(kind=kind, file=file, name=name, role=role, **more)

    heat = {"colors": "heat", "window": [0.0, 2.0], "threshold": 0.5, "opacity": 0.6}
    return Result(
        status="finished",
        task="quantify-lesions",
        warnings=["No reference statistics were found."],
        values={"burden_ml": 8.0, "severity": "CT-1"},
        artifacts=[
            artifact("volume", "attribution.nrrd", "attribution", "attribution", units="bits/voxel", display=heat),
            artifact("volume", "contrast.nrrd", "contrast", "contrast", display={"colors": "diverging"}),
            artifact("segmentation", "lesions.seg.nrrd", "lesions", "lesions"),
            artifact("table", "table.csv", "lesion table", "table"),
            artifact(
                "plot",
                "table.csv",
                "volumes",
                "plot",
                display={"table": "table", "x": "lesion", "y": "volume_ml", "type": "bar"},
            ),
            artifact("sequence", "series.seq.nrrd", "series", "series", display={"colors": "heat"}),
            artifact("text", "report.txt", "report", "report"),
            artifact("image", "picture.png", "picture", "picture"),
        ],
        provenance={"task": "quantify-lesions", "seed": 3, "versions": {"xaiengine": "0.1.0"}},
    )
