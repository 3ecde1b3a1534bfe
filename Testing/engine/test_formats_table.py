"""Every cell of the table of formats and tasks in docs/formats.md, run."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from support.dicom_series import write_series, write_xray
from support.scans import GRIDS, Ball, thorax
from xaiengine.app.inspection import inspect_image
from xaiengine.app.run import run_job
from xaiengine.core.job import Job
from xaiengine.io.volume_files import write_volume
from xaiengine.models import load_model

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
GRAY = (np.arange(48 * 40).reshape(40, 48) % 251).astype(np.uint8)
FLAT = (".png", ".jpg", ".tif", ".bmp", "DICOM X-ray")


def table() -> dict[str, dict[str, str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(cells[0][1:], row[1:])) for row in cells[2:]}


def written(kind: str, folder: Path) -> Path:
    scan = thorax(GRIDS["axial"], [Ball()])
    path = folder / f"scan{kind}"
    if kind == ".nrrd":
        return write_volume(path, scan)
    if kind.startswith(".nii"):
        nibabel.save(nibabel.Nifti1Image(scan.array, scan.grid.affine), path)
    elif kind == ".mha":
        pytest.importorskip("support.slicer_readers", exc_type=ImportError).write_with_slicer(
            path, scan.array, scan.grid.affine
        )
    elif kind == "DICOM folder":
        path = folder / "series"
        write_series(path, scan.array, scan.grid)
    elif kind == "DICOM X-ray":
        path = write_xray(folder / "x.dcm", GRAY.astype(np.uint16), "MONOCHROME2")
    else:
        Image.fromarray(GRAY).save(path)
    return path


def model(folder: Path, dims: int, task: str) -> Path:
    convolution = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dims](1, 2, 3, padding=1)
    pool = {2: torch.nn.AdaptiveAvgPool2d, 3: torch.nn.AdaptiveAvgPool3d}[dims](1)
    layers = [convolution] if task == "segmentation" else [convolution, torch.nn.ReLU(), pool, torch.nn.Flatten()]
    torch.manual_seed(0)
    path = folder / f"{task}.ts"
    example = torch.zeros(1, 1, *[16] * dims)
    torch.jit.trace(torch.nn.Sequential(*layers).eval(), example).save(str(path))
    content = {"task": task, "labels": ["a", "b"], "spatial_dims": dims, "in_channels": 1}
    path.with_suffix(".json").write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("kind", table())
def test_each_cell(kind, tmp_path):
    dims = 2 if kind in FLAT else 3
    path = written(kind, tmp_path)
    row = table()[kind]
    found = {"inspect --image": "values" in inspect_image(load_model(model(tmp_path, dims, "classification")), path)}
    for task, does in (("explain-prediction", "classification"), ("explain-segmentation", "segmentation")):
        chosen = model(tmp_path, 2 if task == "explain-prediction" and dims == 2 else 3, does)
        result = run_job(
            Job(
                task=task,
                model=str(chosen),
                inputs={"volume": str(path)},
                options={"methods": ["saliency"]},
                output=str(tmp_path / task),
            )
        )
        found[task] = result.status == "finished"
        assert found[task] or result.error.remedy
    assert {task: "yes" if works else "no" for task, works in found.items()} == row
