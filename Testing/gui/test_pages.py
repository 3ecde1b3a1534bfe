"""Each task's page is what the engine's description says; what is chosen is kept and reaches the job."""

from __future__ import annotations

import pytest
import slicer
from host.panel_driver import run_to_end, show_task
from host.qt_driver import check_item, choose, click, turn, type_text, wait_until
from host.translation import language
from PySide6 import QtWidgets
from SlicerXAILib.Parameters import Parameters
from SlicerXAILib.TaskDescriptions import cliModule, readTasks


def test_every_page_offers_its_inputs_and_options_as_the_engine_describes_them(panel, a_scan):
    for name, task in readTasks().items():
        page = show_task(panel, name)
        assert page.options() == {}, "untouched options are left to the engine"
        for field in task["options"]:
            if field["name"] == "model":
                assert panel.ui.modelSelector.isVisible()
                continue
            editor = page.editor(field["name"])
            assert editor.widget.toolTip.startswith(field["description"])
            if field["role"] == "option":
                assert editor.value() in (field["default"], field["default"] or "", None)
            if field["type"] in ("integer", "float"):
                assert field["unit"] in editor.widget.suffix
                assert field["minimum"] is None or editor.widget.minimum <= field["minimum"] + 1
                assert field["maximum"] is None or editor.widget.maximum <= field["maximum"]


def test_the_main_options_are_open_and_the_others_are_not(panel, a_scan):
    page = show_task(panel, "explain-prediction")
    assert page.editor("methods").widget.isVisible()
    assert not page.editor("masks").widget.isVisible()
    click(panel.ui.advancedButton.header)
    assert page.editor("masks").widget.isVisible()


def test_apply_says_why_it_is_off(panel, scene):
    ui = panel.ui
    assert not ui.applyButton.enabled
    assert ui.reasonLabel.isVisible() and "CT" in ui.reasonLabel.text
    assert ui.applyButton.toolTip == ui.reasonLabel.text
    show_task(panel, "evaluate-explanation")
    for word in ("Scan", "Explanation", "model"):
        assert word in ui.reasonLabel.text


def test_apply_is_on_once_everything_is_chosen(panel, a_scan):
    show_task(panel, "explain-prediction")
    assert panel.ui.reasonLabel.text == "Choose a model."
    type_text(panel.ui.modelSelector.lineEdit(), "some-model")
    assert panel.ui.applyButton.enabled
    assert not panel.ui.reasonLabel.isVisible()


def test_the_model_is_described_with_its_default_layer(panel, a_scan):
    wait_until(lambda: panel.model.report is not None)
    assert "healthy, lesion" in panel.ui.modelInfoLabel.text
    assert "features.3 (default)" in panel.ui.modelInfoLabel.text
    layers = panel.page.editor("layer").widget
    assert [layers.itemText(index) for index in range(layers.count)] == ["", "features.0", "features.3", "features.6"]
    assert "lesion" in panel.page.editor("target").widget.lineEdit().placeholderText


def test_the_shipped_models_and_those_used_before_are_offered(panel, a_scan):
    selector = panel.ui.modelSelector
    panel.model.remember("/models/mine")
    names = [selector.itemText(index) for index in range(selector.count)]
    assert {"lung_lesion_slice_classifier", "vessel_segmentation", "/models/mine"} <= set(names)


def test_what_is_chosen_reaches_the_job(panel, a_patient):
    scan, lungs = a_patient
    page = show_task(panel, "quantify-lesions")
    choose(page.editor("lungs").widget, "Lungs")
    choose(page.editor("threshold_method").widget, "otsu")
    type_text(page.editor("minimum_volume").widget, "0.5")
    page.editor("repeats").widget.stepUp()
    assert page.inputs() == {"volume": scan, "lungs": lungs}
    assert page.options() == {"threshold_method": "otsu", "minimum_volume": 0.5, "repeats": 2}


def test_methods_keep_the_order_in_which_they_were_checked(panel, a_scan):
    methods = show_task(panel, "explain-prediction").editor("methods")
    check_item(methods.widget, "saliency")
    check_item(methods.widget, "gradcam")
    assert methods.value() == ["iba", "saliency", "gradcam"]
    check_item(methods.widget, "iba")
    assert methods.value() == ["saliency", "gradcam"]


def test_the_segments_of_the_chosen_segmentation_are_offered(panel, a_patient):
    page = show_task(panel, "explain-segmentation")
    choose(page.editor("segmentation").widget, "Lungs")
    segments = page.editor("segment").widget
    assert [segments.itemText(index) for index in range(segments.count)] == ["", "Lungs"]


def test_a_point_and_a_box_are_chosen_by_their_nodes(panel, a_scan):
    point = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Here")
    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    choose(show_task(panel, "explain-segmentation").editor("point").selector, "Here")
    assert panel.page.options()["point"] is point
    choose(show_task(panel, "explain-prediction").editor("roi").selector, "Box")
    assert panel.page.inputs()["roi"] is box


def test_a_saved_scene_brings_the_settings_back(panel, a_patient, tmp_path):
    page = show_task(panel, "quantify-lesions")
    choose(page.editor("lungs").widget, "Lungs")
    type_text(page.editor("minimum_volume").widget, "0.75")
    panel.ui.seedSpinBox.value = 7
    panel.ui.deviceSelector.setCurrentIndex(1)
    show_task(panel, "explain-segmentation")
    panel.page.editor("matrix").widget.checked = True
    file = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(file)
    slicer.mrmlScene.Clear(False)
    turn()
    assert panel.page.task["name"] == "quantify-lesions" and panel.ui.seedSpinBox.value == 0
    slicer.util.loadScene(file)
    turn()
    assert panel.page.task["name"] == "explain-segmentation"
    assert panel.page.options() == {"matrix": True}
    assert panel.ui.seedSpinBox.value == 7 and panel.ui.deviceSelector.currentIndex == 1
    page = show_task(panel, "quantify-lesions")
    assert page.options() == {"minimum_volume": 0.75}
    assert page.inputs()["volume"].GetName() == "CT" and page.inputs()["lungs"].GetName() == "Lungs"


def test_what_others_write_into_the_parameter_node_is_shown(panel, a_patient):
    """As an undo, a script, or a second panel does."""
    node = panel._parameters.node
    others = Parameters(node)
    others.setValue("seed", 5)
    others.setValue("device", "cpu")
    others.setValue("quantify-lesions.minimum_volume", 0.25)
    others.setReference("quantify-lesions.lungs", slicer.util.getNode("Lungs"))
    wait_until(lambda: panel.ui.seedSpinBox.value == 5)
    assert panel.machine.device == "cpu" and panel.page.options() == {"minimum_volume": 0.25}
    assert panel.page.inputs()["lungs"].GetName() == "Lungs"
    others.setValue("task", "explain-prediction")
    wait_until(lambda: panel.page.task["name"] == "explain-prediction")
    panel.ui.seedSpinBox.value = 8
    assert others.value("seed") == 8


def test_a_panel_that_is_gone_is_not_told(open_panel, fake_engine, a_scan):
    panel = open_panel(fake_engine)
    node = panel._parameters.node
    panel.close()
    Parameters(node).setValue("seed", 5)
    turn()
    assert panel.ui.seedSpinBox.value == 0


def test_the_scan_is_chosen_once_for_all_tasks(panel, a_scan):
    second = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, a_scan, "Second CT")
    choose(panel.page.editor("volume").widget, "Second CT")
    for name in ("explain-prediction", "explain-segmentation"):
        assert show_task(panel, name).inputs()["volume"] is second


def test_nothing_guesses_a_second_volume(panel, a_scan):
    assert show_task(panel, "evaluate-explanation").inputs() == {"volume": a_scan}


def test_the_host_would_not_pass_a_connection_that_does_not_exist(gui):
    with pytest.raises(AttributeError, match="no signal"):
        QtWidgets.QPushButton().connect("clickd(bool)", print)


@pytest.fixture
def marked():
    """A language in which every text says its context before it."""
    readTasks.cache_clear()
    with language(lambda context, text: f"{context}| {text}"):
        yield
    readTasks.cache_clear()


def test_the_whole_panel_speaks_the_language_of_the_application(marked, panel, a_scan):
    """What code shows is translated; what goes to the engine is not."""
    for name, task in readTasks().items():
        page = show_task(panel, name)
        context = f"CLI_{cliModule(name)}| "
        assert panel.ui.taskDescriptionLabel.text.startswith(context)
        for field in task["options"]:
            if field["name"] != "model":
                assert page.editor(field["name"]).widget.toolTip.startswith(context), field["name"]
        for widget in (page.inputsWidget, page.optionsWidget, page.advancedWidget):
            labels = [label for label in widget.findChildren(QtWidgets.QLabel) if label.text.strip()]
            assert [label.text for label in labels if "| " not in label.text] == []
    page = show_task(panel, "quantify-lesions")
    choose(page.editor("threshold_method").widget, "CLI_XAIQuantifyLesions| otsu")
    assert page.options() == {"threshold_method": "otsu"}
    assert panel.ui.applyButton.text == "Widgets.RunControls| Apply"
    run_to_end(panel)
    assert panel.ui.stageLabel.text == "Widgets.RunControls| Done."
    assert "CLI_XAIQuantifyLesions| " in panel.ui.valuesLabel.text
    assert "SlicerXAILib.Provenance| Seed: 3" in panel.ui.provenanceLabel.text
