"""The whole way with the real engine: a CT node in, lesions where they are out, on any geometry."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from host.bright_lesion import LESION_HU, LESION_RADIUS_MM, make_patient, write_model
from host.scan_geometries import IJK_TO_RAS
from SlicerXAILib.EngineErrors import EngineError
from SlicerXAILib.Logic import XAILogic

SHAPE = (28, 30, 32)
VOXEL_MM = 6.0
LESION_ML = 4 / 3 * np.pi * LESION_RADIUS_MM**3 / 1000


def placement(geometry: str) -> np.ndarray:
    """One of the geometries with voxels of 6 mm, or 6 x 6 x 9 mm: patient-sized with few voxels."""
    matrix = IJK_TO_RAS[geometry].copy()
    spacing = [VOXEL_MM, VOXEL_MM, 9.0] if geometry == "anisotropic" else [VOXEL_MM] * 3
    matrix[:3, :3] *= np.array(spacing) / np.linalg.norm(matrix[:3, :3], axis=0)
    return matrix


def lesionCenter(matrix: np.ndarray) -> np.ndarray:
    middle = matrix @ [*((np.array(SHAPE) - 1) / 2), 1.0]
    return middle[:3] + [20.0, -12.0, 16.0]


def centroid(segmentationNode, segmentId: str) -> np.ndarray:
    """The RAS centroid in mm of a segment, from the label map and matrix that the node itself holds."""
    labels = segmentationNode.GetBinaryLabelmapInternalRepresentation(segmentId)
    matrix = vtk.vtkMatrix4x4()
    labels.GetImageToWorldMatrix(matrix)
    value = segmentationNode.GetSegmentation().GetSegment(segmentId).GetLabelValue()
    voxels = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentationNode, segmentId)
    first = np.array(labels.GetExtent())[[0, 2, 4]]
    index = np.argwhere(voxels == value)[:, ::-1].mean(0) + first
    return (slicer.util.arrayFromVTKMatrix(matrix) @ [*index, 1.0])[:3]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "bright")


@pytest.fixture(scope="module")
def logic(application):
    logic = XAILogic()
    yield logic
    logic.close()


def quantify(logic, model, geometry, **options):
    matrix = placement(geometry)
    center = lesionCenter(matrix)
    scan, lungs = make_patient(matrix, SHAPE, center)
    options = {"method": "grad-cam", "threshold_method": "otsu", **options}
    return logic.quantifyLesions(scan, model=model, lungs=lungs, **options), center


@pytest.mark.slow
@pytest.mark.parametrize("geometry", IJK_TO_RAS)
def test_the_lesion_is_found_where_it_is_before_and_after_saving(application, scene, logic, model, geometry, tmp_path):
    result, center = quantify(logic, model, geometry)
    segmentation = result.lesions
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 1
    largest = segmentation.GetSegmentation().GetNthSegmentID(0)
    tolerance = np.linalg.norm(placement(geometry)[:3, :3], axis=0).max()
    assert np.linalg.norm(centroid(segmentation, largest) - center) <= tolerance
    # Voxels of 6 mm blur the ball's rim, so that less than its whole volume is bright.
    assert 0.4 < result.values["burden_ml"] / LESION_ML < 1.1
    assert result.values["lesion_count"] == 1
    assert result.table.GetNumberOfRows() == 1

    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    application.clear_scene()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    reloaded = slicer.util.getNode("CT lesions")
    assert np.linalg.norm(centroid(reloaded, largest) - center) <= tolerance
    evidence = slicer.util.arrayFromVolume(slicer.util.getNode("CT attribution"))
    inside = slicer.util.arrayFromVolume(slicer.util.getNode("CT")) == LESION_HU
    assert evidence[inside].mean() > 20 * evidence[~inside].mean()


@pytest.mark.slow
def test_a_second_run_finds_the_engine_warm(scene, logic, model):
    first, _ = quantify(logic, model, "axial")
    process = logic.engine.processId
    second, _ = quantify(logic, model, "axial", seed=0)
    assert logic.engine.processId == process
    assert second.attribution.GetName() == "CT attribution 2"
    np.testing.assert_array_equal(
        slicer.util.arrayFromVolume(first.attribution), slicer.util.arrayFromVolume(second.attribution)
    )


@pytest.mark.slow
def test_the_engines_refusal_reaches_the_caller_with_its_remedy(scene, logic, model):
    with pytest.raises(EngineError) as caught:
        quantify(logic, model, "axial", layer="net.layer_9")
    assert "net.layer_9" in caught.value.message
    assert caught.value.remedy
    assert slicer.mrmlScene.GetFirstNodeByName("CT attribution") is None


@pytest.mark.slow
def test_the_engine_describes_its_tasks(logic):
    tasks = {task["name"]: task for task in logic.describe()["tasks"]}
    options = {option["name"] for option in tasks["quantify-lesions"]["options"]}
    assert {"volume", "model", "threshold_method"} <= options
