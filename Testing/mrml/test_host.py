"""The stand-in for the application loads, saves and keeps what Slicer itself would."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from host.slice_picture import SliceView
from host.standard_views import StandardViews


@pytest.fixture
def an_oblique_volume_node(scene):
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    node = slicer.util.addVolumeFromArray(voxels, name="CT")
    turn = vtk.vtkTransform()
    turn.Translate(10, -20, 30)
    turn.RotateWXYZ(25, 1, 2, 3)
    turn.Scale(0.5, 0.75, 2.0)
    node.SetIJKToRASMatrix(turn.GetMatrix())
    return node


def ijk_to_ras(node) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".mha"])
def test_a_volume_keeps_values_and_geometry_through_a_file(an_oblique_volume_node, tmp_path, extension):
    path = str(tmp_path / ("ct" + extension))
    assert slicer.util.saveNode(an_oblique_volume_node, path)
    loaded = slicer.util.loadVolume(path)
    np.testing.assert_array_equal(
        slicer.util.arrayFromVolume(loaded), slicer.util.arrayFromVolume(an_oblique_volume_node)
    )
    np.testing.assert_allclose(ijk_to_ras(loaded), ijk_to_ras(an_oblique_volume_node), atol=1e-4)


def test_a_missing_file_is_an_error_that_names_it(scene, tmp_path):
    with pytest.raises(RuntimeError, match="absent.nrrd"):
        slicer.util.loadVolume(str(tmp_path / "absent.nrrd"))


def test_a_segmentation_keeps_segments_through_a_file(an_oblique_volume_node, tmp_path):
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lesions")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(an_oblique_volume_node)
    segmentation.GetSegmentation().AddEmptySegment("lesion_1", "Lesion 1", (1, 0, 0))
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[1:3, 2:4, 3:5] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, "lesion_1", an_oblique_volume_node)
    path = str(tmp_path / "lesions.seg.nrrd")
    assert slicer.util.saveNode(segmentation, path)
    loaded = slicer.util.loadSegmentation(path)
    assert loaded.GetSegmentation().GetSegment("lesion_1").GetName() == "Lesion 1"
    np.testing.assert_array_equal(
        slicer.util.arrayFromSegmentBinaryLabelmap(loaded, "lesion_1", an_oblique_volume_node), mask
    )


def test_a_scene_bundle_brings_back_volume_table_and_hierarchy(application, an_oblique_volume_node, tmp_path):
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Jane")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(an_oblique_volume_node), patient)
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Numbers")
    slicer.util.updateTableFromArray(table, np.array([[1.5, 2.5]]))
    expected = ijk_to_ras(an_oblique_volume_node)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)

    application.clear_scene()
    assert slicer.mrmlScene.GetFirstNodeByName("CT") is None
    slicer.util.loadScene(path)

    volume = slicer.util.getNode("CT")
    np.testing.assert_allclose(ijk_to_ras(volume), expected, atol=1e-4)
    assert slicer.util.getNode("Numbers").GetTable().GetValue(0, 1).ToDouble() == 2.5
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume))
    assert hierarchy.GetItemName(parent) == "Jane"


def test_subject_hierarchy_items_come_and_go_with_their_nodes(scene):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node)
    assert hierarchy.GetItemName(item) == "CT"
    slicer.mrmlScene.RemoveNode(node)
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), children)
    assert item not in [children.GetId(index) for index in range(children.GetNumberOfIds())]


def test_a_slice_picture_shows_the_foreground_where_it_is(scene):
    dark = slicer.util.addVolumeFromArray(np.zeros((20, 20, 20), np.int16), name="dark")
    spot = np.zeros((20, 20, 20), np.float32)
    spot[10, 2:6, 2:6] = 1.0  # small i and j: RAS right, anterior of the axial view
    bright = slicer.util.addVolumeFromArray(spot, name="bright")
    display = bright.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 1)
    view = SliceView("Red", "Axial", (200, 200))
    view.show(dark, bright, opacity=1.0)
    view.jump_to((10, 10, 10))
    rows, columns = np.nonzero(view.pixels()[..., 0] > 128)
    # Slicer shows the patient's right on the left; R grows with i here, so the spot lies on the right.
    assert rows.size > 100
    assert columns.min() > 100
    assert rows.min() > 100


def test_what_the_stand_in_lacks_raises(application):
    with pytest.raises(NotImplementedError, match="pythonConsole"):
        slicer.app.pythonConsole()


def test_a_saved_scene_opens_with_its_slice_views_as_they_were(application, an_oblique_volume_node, tmp_path):
    views = StandardViews((64, 64))
    heat = slicer.util.addVolumeFromArray(np.ones((4, 5, 6), np.float32), name="heat")
    views.show(an_oblique_volume_node, heat, 0.4)
    views.jump_to((11.0, -19.0, 31.0))
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    application.clear_scene()
    slicer.util.loadScene(path)
    layers = {}
    for index in range(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        composite = slicer.mrmlScene.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode")
        if composite.GetLayoutName() not in views.views:
            continue  # of another layout that a test has shown
        shown = [composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()]
        layers[composite.GetLayoutName()] = [slicer.mrmlScene.GetNodeByID(node).GetName() for node in shown]
        assert composite.GetForegroundOpacity() == pytest.approx(0.4)
    assert layers == {name: ["CT", "heat"] for name in ("Red", "Yellow", "Green")}
    red = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")
    center = [red.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
    np.testing.assert_allclose(center, [11.0, -19.0, 31.0], atol=1e-3)
