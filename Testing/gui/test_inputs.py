"""Files, folders, points and boxes as a user gives them: typed, chosen, found in dialogs, placed in the views."""

from __future__ import annotations

import pytest
import slicer
from host.panel_driver import show_task
from host.qt_driver import choose, click, turn, type_text
from PySide6 import QtCore, QtTest, QtWidgets
from SlicerXAILib.TaskDescriptions import readTasks


def empty(line: QtWidgets.QLineEdit) -> None:
    """Delete what stands in a line, by keys."""
    line.setFocus()
    line.selectAll()
    QtTest.QTest.keyClick(line, QtCore.Qt.Key_Delete)
    turn()


def items(box) -> list[str]:
    return [box.itemText(index) for index in range(box.count)]


def kept(panel, name: str):
    return panel._parameters.value(f"{panel.page.task['name']}.{name}")


def test_the_shipped_generator_is_chosen_from_a_list(panel, a_scan):
    editor = show_task(panel, "explain-counterfactual").editor("generator")
    assert editor.value() is None, "nothing is chosen by itself"
    assert items(editor.selector) == ["chest_xray_counterfactual"]
    choose(editor.selector, "chest_xray_counterfactual")
    assert panel.page.inputs()["generator"] == kept(panel, "generator") == "chest_xray_counterfactual"


def test_a_generator_is_found_as_a_folder_or_as_a_file(panel, a_scan, monkeypatch):
    editor = show_task(panel, "find-directions").editor("generator")
    opened = []
    monkeypatch.setattr(
        QtWidgets.QFileDialog, "getExistingDirectory", lambda *given: opened.append(given[2]) or "/data/generator"
    )
    click(editor.folderButton)
    assert editor.value() == kept(panel, "generator") == "/data/generator"
    monkeypatch.setattr(
        QtWidgets.QFileDialog, "getOpenFileName", lambda *given: (opened.append(given[2]) or "/data/stylegan.pt", "")
    )
    click(editor.fileButton)
    assert editor.value() == kept(panel, "generator") == "/data/stylegan.pt"
    assert opened == ["", "/data/generator"], "the next dialog opens where the last one ended"
    monkeypatch.setattr(QtWidgets.QFileDialog, "getOpenFileName", lambda *_given: ("", ""))
    click(editor.fileButton)
    assert editor.value() == "/data/stylegan.pt", "a dialog that is closed changes nothing"


def test_a_second_model_is_chosen_like_the_first(panel, a_scan):
    editor = show_task(panel, "dissect").editor("second_model")
    assert "lung_lesion_slice_classifier" in items(editor.selector)


def test_what_is_deleted_is_no_longer_given(panel, a_scan):
    editor = show_task(panel, "dissect").editor("pairs")
    assert editor.folderButton is None
    type_text(editor.widget, "/data/pairs.csv")
    assert panel.page.inputs()["pairs"] == "/data/pairs.csv"
    empty(editor.selector.lineEdit())
    assert "pairs" not in panel.page.inputs() and kept(panel, "pairs") is None


def test_a_folder_of_images_is_asked_for_as_a_folder(panel, a_scan, monkeypatch):
    editor = show_task(panel, "fit-reference").editor("scans")
    assert editor.fileButton is None
    monkeypatch.setattr(QtWidgets.QFileDialog, "getExistingDirectory", lambda *_given: "/data/healthy")
    click(editor.folderButton)
    assert panel.page.inputs()["scans"] == "/data/healthy"


def placing() -> tuple:
    """The class and the node that the next click in a view places; None and None if it places nothing."""
    logic = slicer.app.applicationLogic()
    if logic.GetInteractionNode().GetCurrentInteractionMode() != slicer.vtkMRMLInteractionNode.Place:
        return None, None
    selection = logic.GetSelectionNode()
    return selection.GetActivePlaceNodeClassName(), slicer.mrmlScene.GetNodeByID(selection.GetActivePlaceNodeID())


def test_a_point_is_placed_in_a_view(panel, a_scan):
    editor = show_task(panel, "explain-segmentation").editor("point")
    click(editor.placeButton)
    node = editor.value()
    assert placing() == ("vtkMRMLMarkupsFiducialNode", node)
    node.AddControlPoint(1.0, 2.0, 3.0)  # as the click does
    assert panel.page.options()["point"] is node
    click(editor.placeButton)
    assert editor.value() is node and node.GetNumberOfControlPoints() == 0, "the same point is placed again"
    slicer.app.applicationLogic().GetInteractionNode().SetCurrentInteractionMode(
        slicer.vtkMRMLInteractionNode.ViewTransform
    )


@pytest.mark.parametrize("task", ["explain-prediction", "explain-segmentation"])
def test_a_box_is_drawn_in_a_view_where_a_segmentation_may_stand_too(panel, a_patient, task):
    editor = show_task(panel, task).editor("roi")
    choose(editor.selector, "Lungs")
    click(editor.placeButton)
    assert editor.value().IsA("vtkMRMLMarkupsROINode")
    assert placing() == ("vtkMRMLMarkupsROINode", editor.value())
    assert panel.page.inputs()["roi"] is editor.value()
    slicer.app.applicationLogic().GetInteractionNode().SetCurrentInteractionMode(
        slicer.vtkMRMLInteractionNode.ViewTransform
    )


def test_tool_tips_say_what_may_be_entered(panel, a_scan):
    fields = {field["name"]: field for field in readTasks()["quantify-lesions"]["options"]}
    page = show_task(panel, "quantify-lesions")
    tip = page.editor("healthy_fraction").widget.toolTip
    assert tip.startswith(fields["healthy_fraction"]["description"])
    for bound in ("minimum", "maximum"):
        assert f"{fields['healthy_fraction'][bound]:g}" in tip.splitlines()[-1]
    assert "otsu" in page.editor("threshold_method").widget.toolTip.splitlines()[-1]
    volume = page.editor("minimum_volume").widget.toolTip.splitlines()[-1]
    assert volume == "At least 0 (in mL)"
