"""Points, boxes, segments, maps and series as the files of a job: where they lie in the world."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import slicer
from host.scan_geometries import IJK_TO_RAS, SHAPE
from SlicerXAILib.EngineErrors import NodeError
from SlicerXAILib.JobWriter import JobFolder
from SlicerXAILib.ResultLoader import loadResult
from xaiengine.io.segmentation_files import read_segmentation
from xaiengine.io.volume_files import read_volume
from xaiengine.targets.points import read_point
from xaiengine.tasks.evaluate_explanation.origin import origin_of


@pytest.fixture
def folder(tmp_path):
    return JobFolder(tmp_path)


def moveUnder(node, matrix):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Registration")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def turned():
    """A rotation by 30 degrees about S, and a shift."""
    angle = np.deg2rad(30)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = [5.0, -8.0, 20.0]
    return matrix


def test_a_point_is_given_in_world_coordinates(scene, folder):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Here")
    node.AddControlPoint(10.0, -20.0, 30.0)
    assert read_point(folder.writeInput("point", node)).tolist() == [10.0, -20.0, 30.0]
    moveUnder(node, turned())
    expected = (turned() @ [10.0, -20.0, 30.0, 1.0])[:3]
    np.testing.assert_allclose(read_point(folder.writeInput("point", node)), expected, atol=1e-3)
    assert "Registration" in folder.notes[0]


def test_a_markup_without_points_is_refused(scene, folder):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Nowhere")
    with pytest.raises(NodeError, match="Nowhere holds no point"):
        folder.writeInput("point", node)


def boxNode(center, size, name="Box"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
    node.SetCenter(*center)
    node.SetSize(*size)
    return node


def insideBox(scan, toWorld, center, size):
    """Which voxels lie in a box, by asking each of them: a slow definition."""
    matrix = slicer.util.arrayFromVTKMatrix(slicer.util.vtkMatrixFromArray(np.eye(4)))
    from vtk import vtkMatrix4x4

    ijkToRas = vtkMatrix4x4()
    scan.GetIJKToRASMatrix(ijkToRas)
    matrix = slicer.util.arrayFromVTKMatrix(ijkToRas)
    shape = scan.GetImageData().GetDimensions()
    found = np.zeros(shape, bool)
    for index in np.ndindex(*shape):
        ras = np.linalg.inv(toWorld) @ matrix @ [*index, 1.0]
        found[index] = np.all(np.abs(ras[:3] - center) <= np.array(size) / 2)
    return found


@pytest.mark.parametrize("geometry", IJK_TO_RAS)
@pytest.mark.parametrize("moved", [False, True])
def test_a_box_becomes_the_voxels_in_it(scan_on, folder, geometry, moved):
    scan = scan_on(geometry)
    middle = (IJK_TO_RAS[geometry] @ [*((np.array(SHAPE) - 1) / 2), 1.0])[:3]
    toWorld = turned() if moved else np.eye(4)
    center = (np.linalg.inv(toWorld) @ [*middle, 1.0])[:3]
    size = (7.3, 9.1, 11.7)
    box = boxNode(center, size)
    if moved:
        moveUnder(box, toWorld)
    job = folder.job("explain-prediction", {"roi": box, "volume": scan}, {})
    grid = read_volume(job["inputs"]["volume"]).grid
    mask = read_segmentation(job["inputs"]["roi"]).on_grid(grid).union()
    expected = insideBox(scan, toWorld, center, size)
    assert expected.any()
    np.testing.assert_array_equal(mask, expected)


def test_a_box_beside_the_scan_is_refused(a_scan, folder):
    with pytest.raises(NodeError, match="The box of Far away holds no voxel"):
        folder.job("explain-prediction", {"volume": a_scan, "roi": boxNode((900, 0, 0), (5, 5, 5), "Far away")}, {})


def organs(scan):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    node.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    for number, name in enumerate(("Liver", "Spleen", "Kidney")):
        identity = node.GetSegmentation().AddEmptySegment("", name)
        mask = np.zeros(SHAPE[::-1], np.uint8)
        mask[3:6, 4:9, 2 + 3 * number : 4 + 3 * number] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, identity, scan)
    return node


@pytest.mark.parametrize("wanted", ["Spleen", ["Liver", "Kidney"]])
def test_segments_are_written_by_name_alone(a_scan, folder, wanted):
    node = organs(a_scan)
    written = read_segmentation(folder.writeInput("roi", (node, wanted)))
    assert list(written.names) == ([wanted] if isinstance(wanted, str) else wanted)
    assert node.GetSegmentation().GetNumberOfSegments() == 3


def test_a_segment_that_is_not_there_is_refused_with_those_that_are(a_scan, folder):
    with pytest.raises(NodeError, match="Organs has no segment called Heart. Its segments are: Liver, Spleen, Kidney"):
        folder.writeInput("roi", (organs(a_scan), "Heart"))


def test_several_volumes_become_a_folder(scan_on, folder, tmp_path):
    scans = [scan_on("axial"), scan_on("oblique")]
    written = Path(folder.writeInput("scans", scans))
    assert [path.name for path in sorted(written.iterdir())] == ["0000.nrrd", "0001.nrrd"]
    np.testing.assert_allclose(read_volume(written / "0001.nrrd").grid.affine, IJK_TO_RAS["oblique"], atol=1e-5)


def test_a_sequence_becomes_a_folder(scan_on, folder):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Follow-up")
    for month in ("0", "6", "12"):
        sequence.SetDataNodeAtValue(scan_on("axial"), month)
    written = Path(folder.writeInput("scans", sequence))
    assert len([read_volume(path) for path in written.iterdir()]) == 3


def test_lists_of_an_option_stay_lists_of_files(scan_on, folder):
    job = folder.job("explain-segmentation", {}, {"channels": [scan_on("axial"), "flair.nrrd"], "steps": 3})
    first, second = job["options"]["channels"]
    assert Path(first).is_file() and second == "flair.nrrd"
    assert job["options"]["steps"] == 3


def test_a_table_is_written_as_csv(scene, folder):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Boxes")
    slicer.util.updateTableFromArray(node, np.arange(6.0).reshape(3, 2), ["x", "y"])
    lines = Path(folder.writeInput("boxes", node)).read_text().splitlines()
    assert len(lines) == 4 and "x" in lines[0]


def test_a_map_tells_the_engine_how_it_was_made(a_scan, result_folder, folder):
    result = json.loads((result_folder / "result.json").read_text(encoding="utf-8"))
    result |= {"task": "explain-prediction", "provenance": {"methods": {"gradcam": {}}, "options": {"target": "ball"}}}
    (result_folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    attribution = loadResult(result_folder, a_scan).nodes["attribution"]
    origin = origin_of(Path(folder.writeInput("explanation", attribution)))
    assert (origin.method, origin.options) == ("gradcam", {"target": "ball"})
