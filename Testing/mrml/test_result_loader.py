"""Results become nodes, whatever the task: named after the input, under its patient, never in another's place."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import slicer
import vtk
from host.example_result import PEAK_BITS
from host.scan_geometries import IJK_TO_RAS
from SlicerXAILib.EngineErrors import EngineError
from SlicerXAILib.ResultLoader import loadResult
from SlicerXAILib.SubjectHierarchy import childNames


def nodeNames(scene) -> list[str]:
    """The nodes of the scene by class and name, without those that every scene has."""
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    return [f"{node.GetClassName()} {node.GetName()}" for node in nodes if not node.GetSingletonTag()]


def ijkToRas(node) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def test_every_kind_of_artifact_becomes_its_node(a_scan, result_folder):
    loaded = loadResult(result_folder, a_scan)
    classes = {role: node.GetClassName() for role, node in loaded.nodes.items()}
    assert classes == {
        "attribution": "vtkMRMLScalarVolumeNode",
        "contrast": "vtkMRMLScalarVolumeNode",
        "lesions": "vtkMRMLSegmentationNode",
        "table": "vtkMRMLTableNode",
        "plot": "vtkMRMLPlotChartNode",
        "series": "vtkMRMLSequenceNode",
        "report": "vtkMRMLTextNode",
    }
    assert loaded.files == {}, "the folder of a job goes"
    assert loaded.values == {"burden_ml": 8.0, "severity": "CT-1"}
    assert loaded.warnings == ["No reference statistics were found."]


def test_nodes_are_named_after_the_input_and_lie_beside_it_under_its_patient(a_scan, result_folder):
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Jane")
    study = hierarchy.CreateStudyItem(patient, "2024-05-01")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(a_scan), study)
    loaded = loadResult(result_folder, a_scan)
    assert loaded.nodes["attribution"].GetName() == "CT attribution"
    assert childNames(study) == ["CT", "CT Quantify lesions"]
    for node in loaded.nodes.values():
        if node.IsA("vtkMRMLSequenceNode"):
            assert not hierarchy.GetItemByDataNode(node), "Slicer's hierarchy shows no sequences"
            continue
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == loaded.folderItem


def test_a_second_result_leaves_the_first_as_it_is(a_scan, result_folder):
    first = loadResult(result_folder, a_scan)
    slicer.util.arrayFromVolume(first.nodes["attribution"])[:] = 7.0
    second = loadResult(result_folder, a_scan)
    names = {node.GetName() for result in (first, second) for node in result.nodes.values()}
    assert len(names) == len(first.nodes) + len(second.nodes)
    assert slicer.util.arrayFromVolume(first.nodes["attribution"]).min() == 7.0
    assert slicer.util.arrayFromVolume(second.nodes["attribution"]).max() == PEAK_BITS
    assert first.folderItem != second.folderItem


def test_a_result_without_its_input_is_loaded_at_the_top(scene, result_folder):
    loaded = loadResult(result_folder, inputName="CT")
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    assert hierarchy.GetItemParent(loaded.folderItem) == hierarchy.GetSceneItemID()
    assert loaded.nodes["lesions"].GetName() == "CT lesions"


def test_an_input_deleted_meanwhile_does_not_lose_the_result(a_scan, result_folder):
    slicer.mrmlScene.RemoveNode(a_scan)
    loaded = loadResult(result_folder, a_scan)
    assert loaded.nodes["attribution"].GetName() == "CT attribution"


def test_volumes_keep_values_and_place(a_scan, result_folder):
    node = loadResult(result_folder, a_scan).nodes["attribution"]
    values = slicer.util.arrayFromVolume(node)
    assert np.unravel_index(values.argmax(), values.shape) == (8, 7, 5)
    np.testing.assert_allclose(ijkToRas(node), IJK_TO_RAS["oblique"], atol=1e-5)


def test_segments_keep_name_color_terminology_and_voxels(a_scan, result_folder):
    node = loadResult(result_folder, a_scan).nodes["lesions"]
    segment = node.GetSegmentation().GetNthSegment(0)
    assert segment.GetName() == "Lesion 1"
    assert segment.GetColor() == (1.0, 0.0, 0.0)
    terminology = vtk.reference("")
    assert segment.GetTag("TerminologyEntry", terminology)
    assert "SCT^52988006^Lesion" in str(terminology)
    assert "SCT^39607008^Lung" in str(terminology)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, "Segment_1", a_scan)
    expected = np.zeros(mask.shape, np.uint8)
    expected[6:11, 5:9, 4:7] = 1
    np.testing.assert_array_equal(mask, expected)


def test_table_columns_hold_numbers_where_they_can(a_scan, result_folder):
    table = loadResult(result_folder, a_scan).nodes["table"].GetTable()
    columns = [table.GetColumn(index) for index in range(table.GetNumberOfColumns())]
    assert [column.GetName() for column in columns] == ["lesion", "volume_ml", "side", "mean_hu"]
    assert [column.GetClassName() for column in columns] == [
        "vtkStringArray",  # numbers that name the bars of the chart
        "vtkDoubleArray",
        "vtkStringArray",
        "vtkDoubleArray",
    ]
    assert columns[0].GetValue(1) == "2"
    assert columns[3].GetValue(0) == -40.5
    assert math.isnan(columns[3].GetValue(1))


def test_a_chart_draws_the_columns_of_the_table_that_it_names(a_scan, result_folder):
    loaded = loadResult(result_folder, a_scan)
    series = loaded.nodes["plot"].GetNthPlotSeriesNode(0)
    assert series.GetTableNode() is loaded.nodes["table"]
    assert (series.GetLabelColumnName(), series.GetYColumnName()) == ("lesion", "volume_ml")
    assert not series.GetXColumnName(), "bars are counted, and named by words"
    assert series.GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeBar
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1


def test_a_sequence_can_be_browsed(a_scan, result_folder):
    sequence = loadResult(result_folder, a_scan).nodes["series"]
    assert sequence.GetNumberOfDataNodes() == 2
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequence)
    proxy = browser.GetProxyNode(sequence)
    peaks = []
    for item in range(2):
        browser.SetSelectedItemNumber(item)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        peaks.append(float(slicer.util.arrayFromVolume(proxy).max()))
    assert peaks == [PEAK_BITS, 2 * PEAK_BITS]
    np.testing.assert_allclose(ijkToRas(proxy), IJK_TO_RAS["oblique"], atol=1e-5)


def test_text_keeps_its_letters(a_scan, result_folder):
    assert loadResult(result_folder, a_scan).nodes["report"].GetText() == "Größte Läsion: 7.5 mL\n"


def test_every_node_says_what_it_is_and_how_it_was_made(a_scan, result_folder):
    for role, node in loadResult(result_folder, a_scan).nodes.items():
        assert node.GetAttribute("XAI.Role") == role
        assert json.loads(node.GetAttribute("XAI.Provenance"))["seed"] == 3
        assert node.GetNodeReference("XAI.Input") is a_scan


def test_no_node_refers_to_a_folder_that_will_go(a_scan, result_folder):
    loadResult(result_folder, a_scan)
    files = [
        slicer.mrmlScene.GetNthNodeByClass(index, "vtkMRMLStorageNode").GetFileName() or ""
        for index in range(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLStorageNode"))
    ]
    assert not [name for name in files if str(result_folder) in name]


@pytest.mark.parametrize("damage", ["missing file", "broken volume", "file elsewhere"])
def test_a_damaged_result_is_an_error_and_leaves_no_node(a_scan, result_folder, damage):
    before = nodeNames(slicer.mrmlScene)
    folders = childNames(slicer.mrmlScene.GetSubjectHierarchyNode().GetSceneItemID())
    if damage == "missing file":
        (result_folder / "lesions.seg.nrrd").unlink()
    elif damage == "broken volume":
        (result_folder / "contrast.nrrd").write_bytes(b"NRRD0004\ntype: float\n\n")
    else:
        path = result_folder / "result.json"
        (result_folder.parent / "secret.txt").write_text("x", encoding="utf-8")
        path.write_text(path.read_text(encoding="utf-8").replace('"report.txt"', '"../secret.txt"'), "utf-8")
    with pytest.raises(EngineError):
        loadResult(result_folder, a_scan)
    assert nodeNames(slicer.mrmlScene) == before
    assert childNames(slicer.mrmlScene.GetSubjectHierarchyNode().GetSceneItemID()) == folders


def test_a_folder_without_a_result_is_named(scene, tmp_path):
    with pytest.raises(EngineError, match="result.json"):
        loadResult(tmp_path)


def test_a_saved_scene_brings_back_results_with_display_and_provenance(application, a_scan, result_folder, tmp_path):
    loadResult(result_folder, a_scan)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    application.clear_scene()
    slicer.util.loadScene(path)
    node = slicer.util.getNode("CT attribution")
    values = slicer.util.arrayFromVolume(node)
    assert np.unravel_index(values.argmax(), values.shape) == (8, 7, 5)
    np.testing.assert_allclose(ijkToRas(node), IJK_TO_RAS["oblique"], atol=1e-4)
    display = node.GetDisplayNode()
    assert display.GetColorNode().GetName() == "XAI Heat"
    assert display.GetColorNode().GetLookupTable().GetTableValue(0)[3] == 0.0
    assert (display.GetLowerThreshold(), display.GetApplyThreshold()) == (0.5, 1)
    assert node.GetNodeReference("XAI.Input") is slicer.util.getNode("CT")
    assert json.loads(node.GetAttribute("XAI.Provenance"))["task"] == "quantify-lesions"
    assert slicer.util.getNode("CT lesion table").GetTable().GetColumn(0).GetValue(1) == "2"
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
    assert hierarchy.GetItemName(parent) == "CT Quantify lesions"


def test_files_of_a_folder_that_stays_are_told(scene, result_folder):
    loaded = loadResult(result_folder, inputName="CT", keepFiles=True)
    assert loaded.files == {"picture": result_folder / "picture.png"}
