"""Results as DICOM: read back exactly, at their place, with references to the series that was explained."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from support.dicom_series import write_multiframe, write_series, write_xray
from support.results import LESION, changed, example_result
from support.scans import GRIDS, SHEARED, thorax
from xaiengine.__main__ import main
from xaiengine.core.errors import InputError, ResourceError
from xaiengine.dicom_out.export import export_result
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation_files import read_segmentation
from xaiengine.io.volume_files import read_volume
from xaiengine.report.result_files import read_result_folder

pytest.importorskip("highdicom")

SEG, MAP, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.30", "1.2.840.10008.5.1.4.1.1.88.34"
LPS = np.diag([-1.0, -1.0, 1.0])


def exported(folder: Path, grid_name: str, **options) -> dict[str, list[pydicom.Dataset]]:
    example_result(folder / "result", grid_name)
    scan = thorax(GRIDS[grid_name])
    write_series(folder / "series", scan.array, scan.grid, FrameOfReferenceUID="1.2.3.4")
    files = export_result(folder / "result", folder / "out", source=folder / "series", **options)
    found: dict[str, list[pydicom.Dataset]] = {}
    for file in files:
        dataset = pydicom.dcmread(file)
        found.setdefault(str(dataset.SOPClassUID), []).append(dataset)
    return found


def frames_in_place(dataset: pydicom.Dataset, values: np.ndarray, grid: Grid, chosen: list[int] | None = None):
    """Frames put back at the indices that their positions (LPS) have on a grid, by the standard's formula."""
    array = np.zeros(grid.shape, values.dtype)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    across = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    between = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    groups_of = dataset.PerFrameFunctionalGroupsSequence
    for index in range(len(values)) if chosen is None else chosen:
        frame, groups = values[index], groups_of[index]
        first = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        last = first + across[0] * between[1] * (dataset.Columns - 1) + across[1] * between[0] * (dataset.Rows - 1)
        low, high = (grid.ras_to_index(LPS @ place) for place in (first, last))
        assert np.abs(low - np.rint(low)).max() < 1e-3 and np.abs(low[:2]).max() < 1e-3
        assert high[:2] == pytest.approx(np.array(grid.shape[:2]) - 1, abs=1e-3)
        array[:, :, int(round(low[2]))] = frame.T
    return array


@pytest.mark.parametrize("grid_name", ["axial", "sagittal_stored", "oblique", "anisotropic"])
def test_maps_and_segments_are_read_back_voxel_by_voxel_at_their_place(grid_name, tmp_path):
    found = exported(tmp_path, grid_name)
    grid = GRIDS[grid_name]
    (saved,) = found[MAP]
    heat = read_volume(tmp_path / "result" / "attribution.nrrd").array
    values = np.frombuffer(saved.FloatPixelData, np.float32).reshape(-1, saved.Rows, saved.Columns)
    assert np.array_equal(frames_in_place(saved, values, grid), heat)
    lesions = next(item for item in found[SEG] if len(item.SegmentSequence) == 2)
    segmentation = read_segmentation(tmp_path / "result" / "lesions.seg.nrrd")
    pixels = lesions.pixel_array.reshape(-1, lesions.Rows, lesions.Columns)
    numbers = [
        groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for groups in lesions.PerFrameFunctionalGroupsSequence
    ]
    for number, segment in enumerate(segmentation.segments, start=1):
        chosen = [index for index, value in enumerate(numbers) if value == number]
        assert np.array_equal(frames_in_place(lesions, pixels, grid, chosen) > 0, segmentation.mask(segment))
    assert [item.SegmentLabel for item in lesions.SegmentSequence] == ["Lesion 1", "Lesion 2"]


def test_objects_belong_to_the_study_and_point_to_each_other(tmp_path):
    found = exported(tmp_path, "axial")
    source = pydicom.dcmread(next((tmp_path / "series").iterdir()))
    everything = [item for items in found.values() for item in items]
    assert {item.StudyInstanceUID for item in everything} == {source.StudyInstanceUID}
    assert {item.FrameOfReferenceUID for item in everything if "FrameOfReferenceUID" in item} == {
        source.FrameOfReferenceUID
    }
    assert len({item.SOPInstanceUID for item in everything}) == len(everything) == 4
    (report,) = found[SR]
    text = str(report)
    for item in [*found[SEG], *found[MAP]]:
        assert item.SOPInstanceUID in text
    assert "130401" in text and "130404" in text and "126000" in text  # visual explanation, saliency, TID 1500
    volumes = _numbers(report, "118565006")
    mask = LESION.mask(GRIDS["axial"])
    assert volumes[0] == pytest.approx(mask.sum() * GRIDS["axial"].voxel_volume_ml, rel=1e-4)
    algorithm = found[SEG][0].SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert "lesion_model" in str(algorithm.AlgorithmParameters)
    quantity = found[MAP][0].SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert quantity.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == "130404"


def _numbers(dataset: pydicom.Dataset, code: str) -> list[float]:
    found = []
    for item in dataset.get("ContentSequence", []):
        name = item.get("ConceptNameCodeSequence")
        if name and name[0].get("CodeValue") == code and "MeasuredValueSequence" in item:
            found.append(float(item.MeasuredValueSequence[0].NumericValue))
        found += _numbers(item, code)
    return found


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian: dicom3tools)")
@pytest.mark.parametrize(
    "kind", ["axial", "sagittal_stored", "oblique", "anisotropic", "chest", "breast", "multiframe", "no DICOM"]
)
def test_the_validator_finds_no_error(kind, tmp_path):
    parts = {"chest": {"BodyPartExamined": "CHEST"}, "breast": {"BodyPartExamined": "BREAST", "Laterality": "L"}}
    name = kind if kind in GRIDS else "axial"
    example_result(tmp_path / "result", name)
    scan = thorax(GRIDS[name])
    source = None
    if kind == "multiframe":
        source = write_multiframe(tmp_path / "enhanced.dcm", scan.array, scan.grid)
    elif kind != "no DICOM":
        source = tmp_path / "series"
        write_series(source, scan.array, scan.grid, FrameOfReferenceUID="1.2.3.4", **parts.get(kind, {}))
    export_result(tmp_path / "result", tmp_path / "out", source=source)
    for file in sorted((tmp_path / "out").iterdir()):
        said = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        assert [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")] == []


def test_a_scan_without_dicom_gets_a_new_study_and_it_is_said(tmp_path, capsys):
    example_result(tmp_path)
    assert main(["export-dicom", str(tmp_path)]) == 0
    assert "new study of an unnamed patient" in capsys.readouterr().err
    files = sorted((tmp_path / "dicom").iterdir())
    assert [file.name for file in files] == [
        "01_segments.dcm", "02_segments.dcm", "03_map.dcm", "04_measurements.dcm"
    ]  # fmt: skip
    assert {str(pydicom.dcmread(file).PatientName) for file in files} == {""}


def test_multi_frame_sources_work_too(tmp_path):
    example_result(tmp_path / "result")
    scan = thorax(GRIDS["axial"])
    source = write_multiframe(tmp_path / "enhanced.dcm", scan.array, scan.grid)
    files = export_result(tmp_path / "result", tmp_path / "out", source=source)
    saved = next(item for item in map(pydicom.dcmread, files) if item.SOPClassUID == MAP)
    values = np.frombuffer(saved.FloatPixelData, np.float32).reshape(-1, saved.Rows, saved.Columns)
    heat = read_volume(tmp_path / "result" / "attribution.nrrd").array
    assert np.array_equal(frames_in_place(saved, values, scan.grid), heat)


def test_another_series_is_refused_with_the_difference(tmp_path):
    example_result(tmp_path / "result")
    scan = thorax(GRIDS["axial"])
    shifted = Grid(scan.grid.shape, np.diag([1, 1, 1, 1]) @ scan.grid.affine + np.outer([0, 0, 3.5, 0], [0, 0, 0, 1]))
    write_series(tmp_path / "shifted", scan.array, shifted)
    with pytest.raises(InputError, match="3.50 mm beside"):
        export_result(tmp_path / "result", source=tmp_path / "shifted")
    write_series(tmp_path / "smaller", scan.array[:, :, :-2], scan.grid.cropped((0, 0, 0), (50, 40, 30)))
    with pytest.raises(InputError, match="the series 50 x 40 x 30"):
        export_result(tmp_path / "result", source=tmp_path / "smaller")
    xray = write_xray(tmp_path / "xray.dcm", np.zeros((40, 50), np.uint16), "MONOCHROME2")
    with pytest.raises(InputError, match="without a place"):
        export_result(tmp_path / "result", source=xray)
    with pytest.raises(InputError, match="does not exist"):
        export_result(tmp_path / "result", source=tmp_path / "nowhere")
    assert not (tmp_path / "result" / "dicom").exists()


def test_an_uneven_series_is_refused_with_the_place_of_the_gap(tmp_path):
    example_result(tmp_path / "result")
    scan = thorax(GRIDS["axial"])
    write_series(tmp_path / "series", scan.array, scan.grid)[7].unlink()
    with pytest.raises(InputError, match=r"missing after -27\.40 mm") as error:
        export_result(tmp_path / "result", source=tmp_path / "series")
    assert "save it as .nrrd" in error.value.remedy


def test_a_tilted_gantry_is_refused(tmp_path):
    from xaiengine.dicom_out.source_series import SourceSeries, check_same_place

    with pytest.raises(InputError, match="tilted gantry"):
        check_same_place(SHEARED, SourceSeries([], SHEARED), "map")


def test_generated_images_are_refused_unless_asked_for_and_then_marked(tmp_path):
    result = example_result(tmp_path)
    changed(result, tmp_path, task="explain-counterfactual")
    with pytest.raises(InputError, match="generated images"):
        export_result(tmp_path)
    files = export_result(tmp_path, synthetic=True)
    assert all(pydicom.dcmread(file).SeriesDescription.startswith("SYNTHETIC") for file in files)


def test_unfinished_and_incomplete_results_are_refused(tmp_path):
    result = example_result(tmp_path)
    changed(result, tmp_path, status="cancelled")
    with pytest.raises(InputError, match="did not finish"):
        export_result(tmp_path)
    changed(result, tmp_path)
    (tmp_path / "attribution.nrrd").unlink()
    assert read_result_folder(tmp_path).missing == ("attribution.nrrd",)
    with pytest.raises(InputError, match=r"lacks its file attribution\.nrrd"):
        export_result(tmp_path)
    assert not (tmp_path / "dicom").exists()


def test_the_missing_package_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ResourceError) as error:
        export_result(tmp_path)
    assert 'pip install "slicerxai[dicom]"' in error.value.remedy
