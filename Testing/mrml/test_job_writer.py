"""Nodes are written where they lie in the world, and the nodes themselves stay as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk
from host.scan_geometries import IJK_TO_RAS, SHAPE
from SlicerXAILib.EngineErrors import NodeError
from SlicerXAILib.JobWriter import JobFolder
from xaiengine.io.segmentation_files import read_segmentation
from xaiengine.io.volume_files import read_volume


@pytest.fixture
def folder(tmp_path):
    return JobFolder(tmp_path)


def transformNode(matrix: np.ndarray):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Registration")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


@pytest.mark.parametrize("geometry", IJK_TO_RAS)
def test_the_engine_reads_the_volume_that_slicer_shows(scan_on, folder, geometry):
    node = scan_on(geometry)
    volume = read_volume(folder.writeInput("volume", node))
    np.testing.assert_allclose(volume.grid.affine, IJK_TO_RAS[geometry], atol=1e-5)
    np.testing.assert_array_equal(volume.array, slicer.util.arrayFromVolume(node).transpose(2, 1, 0))
    assert folder.notes == []


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Chest 1.0", "Chest 1.0.nrrd"),
        ("3: CHEST W/O", "3 CHEST W O.nrrd"),
        ("Lunge ä", "volume.nrrd"),
        ("liver.seg", "volume.nrrd"),
        ("", "volume.nrrd"),
    ],
)
def test_the_file_of_a_scan_bears_its_name_where_every_system_takes_it(a_scan, folder, name, file):
    a_scan.SetName(name)
    path = Path(folder.writeInput("volume", a_scan))
    assert path.name == file and read_volume(path).name == path.name.removesuffix(".nrrd")


def test_a_linear_parent_transform_moves_the_written_volume_alone(a_scan, folder):
    registration = IJK_TO_RAS["oblique"] @ np.diag([1 / 1.1, 1 / 1.1, 0.5, 1])
    a_scan.SetAndObserveTransformNodeID(transformNode(registration).GetID())
    before = slicer.util.arrayFromVolume(a_scan).copy()
    volume = read_volume(folder.writeInput("volume", a_scan))
    np.testing.assert_allclose(volume.grid.affine, registration @ IJK_TO_RAS["oblique"], atol=1e-5)
    np.testing.assert_array_equal(volume.array.transpose(2, 1, 0), before)
    matrix = vtk.vtkMatrix4x4()
    a_scan.GetIJKToRASMatrix(matrix)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), IJK_TO_RAS["oblique"])
    assert a_scan.GetParentTransformNode() is not None
    assert len(folder.notes) == 1 and "Registration" in folder.notes[0]


def test_a_warping_parent_transform_resamples_a_copy(scan_on, folder):
    node = scan_on("axial")
    corner, center = IJK_TO_RAS["axial"][:3, 3], IJK_TO_RAS["axial"] @ [*(np.array(SHAPE) / 2), 1]
    landmarks = [vtk.vtkPoints(), vtk.vtkPoints()]
    for source, shift in ((corner, 0.0), (corner + [30, 5, 2], 0.0), (corner + [2, 40, 9], 0.0), (center[:3], 4)):
        landmarks[0].InsertNextPoint(source)
        landmarks[1].InsertNextPoint(np.asarray(source) + shift)
    warp = vtk.vtkThinPlateSplineTransform()
    warp.SetBasisToR()
    warp.SetSourceLandmarks(landmarks[0])
    warp.SetTargetLandmarks(landmarks[1])
    warpNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    warpNode.SetAndObserveTransformToParent(warp)
    node.SetAndObserveTransformNodeID(warpNode.GetID())
    before = slicer.util.arrayFromVolume(node).copy()
    volume = read_volume(folder.writeInput("volume", node))
    assert np.abs(volume.array.transpose(2, 1, 0).astype(float) - before).max() > 0
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), before)


def segmentationOn(scan, transform=None):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lungs")
    node.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    node.GetSegmentation().AddEmptySegment("left", "Left lung")
    node.GetSegmentation().AddEmptySegment("right", "Right lung")
    masks = np.zeros((2, *SHAPE[::-1]), np.uint8)
    masks[0, 3:9, 4:12, 1:6] = 1
    masks[1, 3:9, 4:12, 8:13] = 1
    for mask, name in zip(masks, ("left", "right")):
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, name, scan)
    return node, masks


def test_the_engine_reads_the_segments_that_slicer_shows(a_scan, folder):
    node, masks = segmentationOn(a_scan)
    scan = read_volume(folder.writeInput("volume", a_scan))
    segmentation = read_segmentation(folder.writeInput("lungs", node)).on_grid(scan.grid)
    assert segmentation.names == ("Left lung", "Right lung")
    for mask, name in zip(masks, segmentation.names):
        np.testing.assert_array_equal(segmentation.mask(name), mask.transpose(2, 1, 0).astype(bool))


def test_scan_and_segmentation_under_one_transform_still_fit_each_other(a_scan, folder):
    node, masks = segmentationOn(a_scan)
    shift = np.eye(4)
    shift[:3, 3] = [12.0, -7.0, 40.0]
    parent = transformNode(shift)
    for moved in (a_scan, node):
        moved.SetAndObserveTransformNodeID(parent.GetID())
    scan = read_volume(folder.writeInput("volume", a_scan))
    segmentation = read_segmentation(folder.writeInput("lungs", node)).on_grid(scan.grid)
    np.testing.assert_array_equal(segmentation.mask("Left lung"), masks[0].transpose(2, 1, 0).astype(bool))
    assert np.allclose(scan.grid.origin, IJK_TO_RAS["oblique"][:3, 3] + [12, -7, 40])


def test_a_job_names_files_and_leaves_out_what_is_not_given(a_scan, folder):
    job = folder.job(
        "quantify-lesions", {"volume": a_scan, "lungs": None, "layer": "conv"}, {"repeats": 2, "beta": None}, seed=7
    )
    assert job["task"] == "quantify-lesions"
    assert set(job["inputs"]) == {"volume", "layer"}
    assert job["inputs"]["layer"] == "conv"
    assert job["options"] == {"repeats": 2}
    assert job["seed"] == 7


@pytest.mark.parametrize(
    ("className", "reason"),
    [
        ("vtkMRMLScalarVolumeNode", "no voxels"),
        ("vtkMRMLSegmentationNode", "no segments"),
        ("vtkMRMLModelNode", "does not read"),
    ],
)
def test_a_node_that_cannot_be_used_is_refused_by_name(scene, folder, className, reason):
    node = slicer.mrmlScene.AddNewNodeByClass(className, "Poor input")
    with pytest.raises(NodeError, match=f"Poor input.*{reason}") as caught:
        folder.writeInput("volume", node)
    assert caught.value.remedy


def test_a_temporary_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(NodeError, match="nowhere"):
        JobFolder(tmp_path / "nowhere")


def test_remove_leaves_nothing(a_scan, folder):
    folder.writeInput("volume", a_scan)
    folder.remove()
    assert not folder.path.exists()


def test_a_folder_of_results_goes_only_if_there_are_none(tmp_path):
    failed, resumable = JobFolder(tmp_path, tmp_path / "failed"), JobFolder(tmp_path, tmp_path / "training")
    for folder in (failed, resumable):
        folder.output.mkdir()
        (folder.output / "result.json").write_text("{}", encoding="utf-8")
    (resumable.output / "state.safetensors").write_bytes(b"training goes on from here")
    for folder in (failed, resumable):
        folder.remove()
        folder.removeBareOutput()
    assert [path.name for path in tmp_path.iterdir()] == ["training"]
