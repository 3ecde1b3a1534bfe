"""A result is known for what it is as long as its nodes live: after saving, reloading and without its engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer
import vtk
from SlicerXAILib.EngineErrors import EngineError
from SlicerXAILib.LoadedResult import Picture
from SlicerXAILib.ResultAttributes import ROLE
from SlicerXAILib.ResultLoader import loadResult
from SlicerXAILib.ResultRecord import TaskCall, callOf, keepRecord, recordOf, resultOf
from SlicerXAILib.Series import browserOf, imageOf, itemText

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
PNG = b"\x89PNG\r\n\x1a\n\x00\xff"


def reload(tmp_path):
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear(False)
    slicer.util.loadScene(path)


def test_provenance_is_readable_and_complete(logic, a_scan):
    found = logic.quantifyLesions(a_scan, model="my model", repeats=3, seed=9)
    provenance = logic.provenance(found.attribution)
    assert provenance.content["job"]["options"] == {"repeats": 3}
    for line in ("Task: quantify-lesions", "Volume: CT", "Model: my model", "Options: repeats = 3"):
        assert line in provenance.text.splitlines()
    assert "xaiengine 0.1.0" in str(provenance)


def test_what_is_no_result_has_no_provenance(logic, a_scan):
    for node, name in ((a_scan, "CT"), (None, "Nothing")):
        with pytest.raises(EngineError, match=f"{name} is no result of SlicerXAI"):
            logic.provenance(node)


def test_a_result_survives_saving_and_reloading(logic, a_scan, result_folder, tmp_path):
    (result_folder / "picture.png").write_bytes(PNG)
    before = loadResult(result_folder, a_scan)
    text = logic.provenance(before.lesions).text
    roles = set(before.nodes)
    reload(tmp_path)
    lesions = slicer.util.getNode("CT lesions")
    assert logic.provenance(lesions).text == text
    found = resultOf(lesions)
    assert set(found.nodes) == roles
    assert found.values == before.values and found.warnings == before.warnings
    assert found.pictures["picture"].content == PNG
    assert found.attribution.GetName() == "CT attribution"
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    assert hierarchy.GetItemName(found.folderItem) == "CT Quantify lesions"


@pytest.mark.parametrize("saved", [False, True])
def test_a_result_is_made_again_from_itself(logic, a_scan, tmp_path, saved):
    first = logic.quantifyLesions(a_scan, model="my model", repeats=2, seed=7, device="cpu")
    expected = first.provenance["job"]
    if saved:
        reload(tmp_path)
    second = logic.rerun(slicer.util.getNode("CT lesions"))
    job = second.provenance["job"]
    for name in ("task", "model", "options", "seed", "device"):
        assert job[name] == expected[name]
    assert second.attribution.GetName() == "CT attribution 2"


def test_a_rerun_can_differ(logic, a_scan):
    first = logic.quantifyLesions(a_scan, repeats=2)
    job = logic.rerun(first.table, repeats=3, seed=4).provenance["job"]
    assert job["options"] == {"repeats": 3} and job["seed"] == 4


def test_trust_is_not_repeated_but_given_again(logic, a_scan):
    first = logic.quantifyLesions(a_scan, trustModel=True)
    assert first.provenance["job"]["trust_model"] is True
    assert logic.rerun(first.table).provenance["job"]["trust_model"] is False
    assert logic.rerun(first.table, trustModel=True).provenance["job"]["trust_model"] is True


def test_a_missing_input_is_named_and_another_can_take_its_place(logic, a_scan, scan_on):
    first = logic.quantifyLesions(a_scan)
    slicer.mrmlScene.RemoveNode(a_scan)
    with pytest.raises(EngineError, match="CT, which was given as volume, is no longer in the scene"):
        logic.rerun(first.attribution)
    other = scan_on("axial")
    other.SetName("Follow-up")
    assert logic.rerun(first.attribution, volume=other).attribution.GetName() == "Follow-up attribution"


def test_segments_and_points_are_remembered(logic, a_scan):
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(a_scan)
    segmentation.GetSegmentation().AddEmptySegment("", "Lung")
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        (slicer.util.arrayFromVolume(a_scan) > 0).astype("uint8"), segmentation, "Segment_1", a_scan
    )
    first = logic.quantifyLesions(a_scan, lungs=(segmentation, "Lung"))
    assert "Lungs: Organs (Lung)" in logic.provenance(first.table).text
    assert "lungs" in logic.rerun(first.table).provenance["job"]["inputs"]


def test_a_record_goes_when_nothing_of_its_result_is_left(logic, a_scan, result_folder):
    first = loadResult(result_folder, a_scan)
    for node in first.nodes.values():
        slicer.mrmlScene.RemoveNode(node)
    second = loadResult(result_folder, a_scan)
    records = [node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")]
    assert second.record.GetID() in records and first.record.GetID() not in records


def test_a_result_read_from_a_folder_is_made_again_from_its_files(logic, a_scan, result_folder):
    loaded = logic.loadResult(result_folder)
    with pytest.raises(EngineError, match="not known how this result was asked for"):
        logic.rerun(loaded.table)


def test_only_pictures_are_kept_as_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.bin").write_bytes(PNG)
    (tmp_path / "empty.png").write_bytes(b"")
    kept = [Picture.fromFile(tmp_path / name, name) for name in ("a.png", "b.bin", "empty.png")]
    assert [picture and picture.mediaType for picture in kept] == ["image/png", None, None]


def test_a_scan_that_is_gone_is_not_taken_for_the_node_with_its_identifier(scene, result_folder):
    loaded = loadResult(result_folder, inputName="CT", keepFiles=True)
    other_scene = slicer.vtkMRMLScene()
    gone = other_scene.AddNode(slicer.vtkMRMLScalarVolumeNode())
    while gone.GetID() != loaded.attribution.GetID():
        gone = other_scene.AddNode(slicer.vtkMRMLScalarVolumeNode())
    gone.SetName("CT")
    keepRecord(loaded, TaskCall(loaded.task, {"volume": gone}))
    with pytest.raises(EngineError, match="CT, which was given as volume, is no longer in the scene"):
        callOf(loaded.record)


def test_a_map_is_not_shown_over_itself_when_its_scan_is_gone(logic, a_scan, monkeypatch):
    shown = []
    monkeypatch.setattr("SlicerXAILib.Display.showResult", lambda loaded, background: shown.append(background))
    logic.quantifyLesions(a_scan)
    ended = []
    run = logic.quantifyLesions(a_scan, finished=ended.append, failed=ended.append)
    slicer.mrmlScene.RemoveNode(a_scan)
    while not run.hasEnded:
        logic.processEvents()
    assert shown[:1] == [a_scan]
    assert shown[1:] in ([], [None]), "either the run failed, or nothing lies below its map"
    assert ended


@pytest.mark.parametrize("hasBrowser", [False, True])
def test_a_series_begins_with_an_image_that_keeps_its_name(scene, result_folder, a_scan, monkeypatch, hasBrowser):
    """Slicer's own reader makes no browser, or one that has chosen no image."""
    made = slicer.util.loadSequence

    def load(*arguments, **more):
        node = made(*arguments, **more)
        if hasBrowser:
            browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
            browser.AddSynchronizedSequenceNode(node)
            browser.SetSelectedItemNumber(-1)
        return node

    monkeypatch.setattr(slicer.util, "loadSequence", load)
    loaded = loadResult(result_folder, a_scan)
    image = imageOf(loaded.series)
    for index in (0, 1):
        browserOf(loaded.series).SetSelectedItemNumber(index)
        assert image.GetName() == "CT series image"
        assert image.GetAttribute(ROLE) == "series"
        assert recordOf(image) is loaded.record
    assert imageOf(loaded.series) is image


def test_what_a_series_says_of_an_image(scene, result_folder, a_scan):
    loaded = loadResult(result_folder, a_scan)
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    for title, values in (("frame", [0, 1]), ("shift (SD)", [-1.875, 0.5]), ("prediction", [0.302595, 0.5])):
        column = vtk.vtkDoubleArray()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(value)
        table.AddColumn(column)
    browserOf(loaded.series).SetSelectedItemNumber(0)
    assert itemText(loaded.series, [table]) == "1 / 2, shift -1.88 SD, prediction 0.303"
    assert itemText(loaded.series, []).startswith("1 / 2, ")
