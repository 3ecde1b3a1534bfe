"""DICOM objects as other programs read them: dcmqi turns them into volumes, Slicer's readers say where those lie."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from support.dicom_series import write_multiframe, write_series
from support.results import example_result
from support.scans import GRIDS, thorax
from xaiengine.dicom_out.export import export_result
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation_files import read_segmentation
from xaiengine.io.volume_files import read_volume

pytest.importorskip("highdicom")
pytest.importorskip("slicer_core")

from support.slicer_readers import Read, read_with_slicer  # noqa: E402

EXACT_MM = 1e-3
NAMES = {"1.2.840.10008.5.1.4.1.1.66.4": "segments", "1.2.840.10008.5.1.4.1.1.30": "map"}


def program(name: str) -> str:
    """A program of dcmqi, beside this interpreter or on the path."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} of dcmqi is not installed")
    return found


def exported(folder: Path, grid: Grid, name: str, multiframe: bool = False) -> dict[str, Path]:
    """Files of the map and of the lesions."""
    example_result(folder / "result", name)
    scan = thorax(grid)
    if multiframe:
        source = write_multiframe(folder / "series.dcm", scan.array, scan.grid)
    else:
        write_series(folder / "series", scan.array, scan.grid, FrameOfReferenceUID="1.2.3.4")
        source = folder / "series"
    found = {}
    for file in export_result(folder / "result", folder / "out", source=source):
        dataset = pydicom.dcmread(file)
        kind = NAMES.get(str(dataset.SOPClassUID))
        if kind == "map" or (kind == "segments" and dataset.SegmentSequence[0].SegmentLabel == "Lesion 1"):
            found[kind] = file
    return found


def unpacked(name: str, file: Path, folder: Path) -> tuple[list[Path], dict]:
    """The NRRD files that dcmqi makes of an object, and what it says of it."""
    folder.mkdir()
    options = ["--inputDICOM", str(file), "--outputDirectory", str(folder)]
    options += ["--outputType", "nrrd"]
    done = subprocess.run([program(name), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (described,) = folder.glob("*.json")
    return sorted(folder.glob("*.nrrd")), json.loads(described.read_text(encoding="utf-8"))


def places(read: Read) -> np.ndarray:
    """RAS positions (n, 3) of the voxels that are not 0, sorted."""
    index = np.argwhere(np.squeeze(read.array))
    ras = index @ read.affine[:3, :3].T + read.affine[:3, 3]
    return ras[np.lexsort(np.round(ras, 2).T)]


@pytest.mark.parametrize("grid_name", ["axial", "sagittal_stored", "oblique", "anisotropic"])
def test_segments_are_read_by_dcmqi_and_lie_where_they_lay(grid_name, tmp_path):
    grid = GRIDS[grid_name]
    file = exported(tmp_path, grid, grid_name)["segments"]
    files, described = unpacked("segimage2itkimage", file, tmp_path / "dcmqi")
    segmentation = read_segmentation(tmp_path / "result" / "lesions.seg.nrrd")
    assert [item["SegmentLabel"] for group in described["segmentAttributes"] for item in group] == [
        "Lesion 1",
        "Lesion 2",
    ]
    assert len(files) == 2
    for path, segment in zip(files, segmentation.segments):
        found = places(read_with_slicer(path))
        expected = places(Read(segmentation.mask(segment), grid.affine))
        assert len(found) == len(expected)
        assert np.abs(found - expected).max() < EXACT_MM


@pytest.mark.parametrize("grid_name", ["axial", "oblique"])
def test_maps_are_read_by_dcmqi_value_by_value(grid_name, tmp_path):
    grid = GRIDS[grid_name]
    file = exported(tmp_path, grid, grid_name)["map"]
    (path,), described = unpacked("paramap2itkimage", file, tmp_path / "dcmqi")
    read = read_with_slicer(path)
    heat = read_volume(tmp_path / "result" / "attribution.nrrd")
    index = np.argwhere(heat.array > 1)
    there = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    back = (there - read.affine[:3, 3]) @ np.linalg.inv(read.affine[:3, :3]).T
    assert np.abs(back - np.rint(back)).max() * max(grid.spacing) < EXACT_MM
    values = np.squeeze(read.array)[tuple(np.rint(back).astype(int).T)]
    assert np.array_equal(values.astype(np.float32), heat.array[tuple(index.T)])
    assert described["QuantityValueCode"]["CodeMeaning"] == "Saliency"


def test_objects_of_a_multi_frame_series_are_read_too(tmp_path):
    grid = GRIDS["axial"]
    file = exported(tmp_path, grid, "axial", multiframe=True)["segments"]
    files, _ = unpacked("segimage2itkimage", file, tmp_path / "dcmqi")
    mask = read_segmentation(tmp_path / "result" / "lesions.seg.nrrd").mask("Lesion 1")
    assert np.abs(places(read_with_slicer(files[0])) - places(Read(mask, grid.affine))).max() < EXACT_MM
