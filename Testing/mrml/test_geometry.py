"""A map planted at a point of the patient lies on that point in the node, on any scan, before and after saving."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from host.scan_geometries import IJK_TO_RAS, SHAPE
from SlicerXAILib.JobWriter import JobFolder
from SlicerXAILib.ResultLoader import loadResult
from xaiengine.core.job import Artifact, Result, write_json
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume_files import read_volume, write_volume


def explainPoint(jobFolder: JobFolder, scanNode, point: np.ndarray):
    """Do what a task does: read the scan, mark the voxel at a RAS point in map and segmentation, write both."""
    scan = read_volume(jobFolder.writeInput("volume", scanNode))
    index = tuple(np.rint(scan.grid.ras_to_index(point)).astype(int))
    values = np.zeros(scan.grid.shape, np.float32)
    values[index] = 3.0
    jobFolder.output.mkdir()
    write_volume(jobFolder.output / "map.nrrd", scan.with_array(values))
    mask = Mask("Point", values > 0)
    write_segmentation(jobFolder.output / "point.seg.nrrd", Segmentation.from_masks([mask], scan.grid))
    artifacts = [
        Artifact(kind="volume", file="map.nrrd", name="map", role="map"),
        Artifact(kind="segmentation", file="point.seg.nrrd", name="point", role="point"),
    ]
    write_json(jobFolder.output / "result.json", Result(status="finished", task="mark", artifacts=artifacts))
    return loadResult(jobFolder.output, scanNode)


def peakInWorld(volumeNode) -> np.ndarray:
    """The RAS point in mm at which Slicer shows a volume's brightest voxel."""
    values = slicer.util.arrayFromVolume(volumeNode)
    k, j, i = np.unravel_index(values.argmax(), values.shape)
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    ras = np.array(matrix.MultiplyPoint((float(i), float(j), float(k), 1.0)))[:3]
    if volumeNode.GetParentTransformNode() is None:
        return ras
    toWorld = vtk.vtkGeneralTransform()
    volumeNode.GetParentTransformNode().GetTransformToWorld(toWorld)
    return np.array(toWorld.TransformPoint(ras))


def segmentCenter(segmentationNode) -> np.ndarray:
    """The RAS point in mm of a segment's center, by Slicer's own reckoning."""
    segmentId = segmentationNode.GetSegmentation().GetNthSegmentID(0)
    return np.array(segmentationNode.GetSegmentCenterRAS(segmentId))


@pytest.mark.parametrize("index", [(3, 12, 17), (11, 2, 5)])
@pytest.mark.parametrize("geometry", IJK_TO_RAS)
def test_a_map_lies_on_the_point_it_is_about(application, scan_on, tmp_path, geometry, index):
    scanNode = scan_on(geometry)
    point = (IJK_TO_RAS[geometry] @ [*index, 1.0])[:3]
    loaded = explainPoint(JobFolder(tmp_path), scanNode, point)
    np.testing.assert_allclose(peakInWorld(loaded.nodes["map"]), point, atol=1e-3)
    halfVoxel = np.linalg.norm(IJK_TO_RAS[geometry][:3, :3], axis=0).max() / 2
    assert np.linalg.norm(segmentCenter(loaded.nodes["point"]) - point) <= halfVoxel

    sceneFile = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(sceneFile)
    application.clear_scene()
    slicer.util.loadScene(sceneFile)
    np.testing.assert_allclose(peakInWorld(slicer.util.getNode("CT map")), point, atol=1e-3)
    assert np.linalg.norm(segmentCenter(slicer.util.getNode("CT point")) - point) <= halfVoxel


def test_the_map_of_a_transformed_scan_lies_where_the_scan_is_shown(scan_on, tmp_path):
    scanNode = scan_on("axial")
    registration = np.eye(4)
    registration[:3, :3] = IJK_TO_RAS["oblique"][:3, :3] / np.linalg.norm(IJK_TO_RAS["oblique"][:3, :3], axis=0)
    registration[:3, 3] = [5.0, -6.0, 7.0]
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Registration")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(registration))
    scanNode.SetAndObserveTransformNodeID(transform.GetID())
    inScan = IJK_TO_RAS["axial"] @ [4, 5, 6, 1.0]
    shown = (registration @ inScan)[:3]
    loaded = explainPoint(JobFolder(tmp_path), scanNode, shown)
    np.testing.assert_allclose(peakInWorld(loaded.nodes["map"]), shown, atol=1e-3)


def test_the_brightest_voxel_of_a_map_is_the_brightest_of_its_scan(scan_on, tmp_path):
    """Slicer's world coordinates, not index arithmetic, tell whether map and scan coincide."""
    scanNode = scan_on("left-handed")
    slicer.util.arrayFromVolume(scanNode)[9, 4, 10] = 3000
    point = peakInWorld(scanNode)
    loaded = explainPoint(JobFolder(tmp_path), scanNode, point)
    np.testing.assert_allclose(peakInWorld(loaded.nodes["map"]), point, atol=1e-3)
    assert loaded.nodes["map"].GetImageData().GetDimensions() == SHAPE
