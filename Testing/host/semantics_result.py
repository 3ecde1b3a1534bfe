"""Results of dissect and explain-semantics on scans of an oblique geometry, made in a process of their own.

    python -m host.semantics_result FOLDER

Writes ``FOLDER/CT.nrrd``, ``FOLDER/dissect`` and ``FOLDER/explain``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from support.planted_findings import FINDINGS, BuiltDetectors, finding_batch, model_around
from support.prediction_models import session_with
from xaiengine.app.run import run_job
from xaiengine.core.job import Job
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume

from host.scan_geometries import IJK_TO_RAS

SLICES = 4


def main(folder: Path) -> int:
    """Returns 0 when both tasks have finished."""
    images = finding_batch(np.random.default_rng(3), 6 * SLICES)
    grid = Grid((48, 48, SLICES), IJK_TO_RAS["oblique"])
    for name in ("images", "masks"):
        (folder / "cohort" / name).mkdir(parents=True)
    for number in range(6):
        part = images[number * SLICES : (number + 1) * SLICES]
        masks = [
            Mask(kind, np.stack([image.masks.get(kind, np.zeros((48, 48), bool)) for image in part], -1))
            for kind in FINDINGS
        ]
        pixels = np.stack([image.pixels for image in part], -1)
        write_volume(folder / "cohort" / "images" / f"scan{number}.nrrd", Volume(pixels, grid))
        segments = Segmentation.from_masks(masks, grid)
        write_segmentation(folder / "cohort" / "masks" / f"scan{number}.seg.nrrd", segments)
        if number == 0:
            write_volume(folder / "CT.nrrd", Volume(pixels, grid))
    session = session_with(model_around(BuiltDetectors()))
    jobs = [
        Job(
            task="dissect",
            model="planted",
            inputs={"images": str(folder / "cohort")},
            options={"layers": ["units"], "draws": 10, "rolls": 5, "keep": False},
            output=str(folder / "dissect"),
        ),
        Job(
            task="explain-semantics",
            model="planted",
            options={"target": "finding", "slices": "all"},
            inputs={"volume": str(folder / "CT.nrrd"), "dissection": str(folder / "dissect" / "dissection.json")},
            output=str(folder / "explain"),
        ),
    ]
    results = [run_job(job, session=session) for job in jobs]
    for result in results:
        if result.error is not None:
            print(result.error.message, result.error.details, file=sys.stderr)
    return 0 if all(result.status == "finished" for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
