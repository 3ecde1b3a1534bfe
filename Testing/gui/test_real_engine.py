"""The panel with the real engine where it matters: warm starts, crashes, saved scenes, and the preparing tasks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import slicer
from host.bright_lesion import make_small_patient
from host.panel_driver import run_to_end, show_task
from host.processes import is_running
from host.qt_driver import choose, click, turn, type_text, wait_until
from SlicerXAILib.ProcessTree import killProcessTree

pytestmark = pytest.mark.slow

WEIGHTS = Path("models") / "model.safetensors"


@pytest.fixture
def a_patient(scene):
    """A CT with one bright ball, and the segmentation of its lungs: small, so that a run takes moments."""
    return make_small_patient()[:2]


@pytest.fixture
def own_model(bright_model, tmp_path) -> str:
    """A copy of the model that a test may spoil."""
    return str(shutil.copytree(bright_model, tmp_path / "model"))


def set_model(panel, model: str) -> None:
    type_text(panel.ui.modelSelector.lineEdit(), model)
    wait_until(lambda: panel.model.report is not None)


def prepare(panel, model: str) -> None:
    """Choose the task that finds lesions, with the lungs given."""
    show_task(panel, "quantify-lesions")
    set_model(panel, model)
    choose(panel.page.editor("lungs").widget, "Lungs")
    choose(panel.page.editor("threshold_method").widget, "otsu")


def finished(panel) -> None:
    run_to_end(panel)
    assert panel.ui.messageLabel.text == "" and panel.ui.stageLabel.text == "Done."


def values_of(name: str) -> np.ndarray:
    return slicer.util.arrayFromVolume(slicer.util.getNode(name)).copy()


def test_the_second_run_reads_no_model(real_panel, a_patient, own_model):
    """The file is spoiled between the runs, with its size and its time as before: whoever read it would fail."""
    panel = real_panel
    prepare(panel, own_model)
    finished(panel)
    process, weights = panel._logic.engine.processId, Path(own_model) / WEIGHTS
    state = weights.stat()
    weights.write_bytes(b"\0" * state.st_size)
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    finished(panel)
    assert panel._logic.engine.processId == process
    np.testing.assert_array_equal(values_of("CT attribution"), values_of("CT attribution 2"))


def test_an_engine_that_dies_is_told_and_the_next_apply_works(real_panel, a_patient, bright_model):
    panel = real_panel
    prepare(panel, bright_model)
    process = panel._logic.engine.processId
    click(panel.ui.applyButton)
    wait_until(lambda: panel._logic.engine.currentJob is not None)
    killProcessTree(panel._logic.engine._connection._process)
    wait_until(lambda: not panel.run.isRunning)
    assert not is_running(process)
    assert "engine" in panel.ui.messageLabel.text and "Try again" in panel.ui.messageLabel.text
    assert list(Path(slicer.app.temporaryPath).glob("xai-job-*")) == []
    assert slicer.mrmlScene.GetFirstNodeByName("CT attribution") is None
    finished(panel)
    assert values_of("CT attribution").max() > 0


def test_a_saved_scene_reopens_with_its_result_which_is_made_again(real_panel, a_patient, bright_model, tmp_path):
    panel = real_panel
    prepare(panel, bright_model)
    panel.ui.seedSpinBox.value = 4
    finished(panel)
    before, told, made = values_of("CT attribution"), panel.ui.valuesLabel.text, panel.ui.provenanceLabel.text
    file = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(file)
    slicer.mrmlScene.Clear(False)
    turn()
    assert not panel.ui.resultsButton.isVisible()
    slicer.util.loadScene(file)
    turn()
    assert panel.ui.resultsButton.isVisible() and panel.ui.valuesLabel.text == told
    assert panel.ui.provenanceLabel.text == made
    assert panel.model.model == bright_model and panel.ui.seedSpinBox.value == 4
    np.testing.assert_array_equal(values_of("CT attribution"), before)
    click(panel.ui.rerunButton)
    wait_until(lambda: not panel.run.isRunning)
    assert panel.ui.messageLabel.text == ""
    np.testing.assert_array_equal(values_of("CT attribution 2"), before)
    assert panel.ui.resultSelector.count == 2


def test_a_network_is_dissected_by_clicks(real_panel, a_patient, bright_model, tmp_path, monkeypatch):
    panel, (scan, lungs) = real_panel, a_patient
    for name, node in (("images", scan), ("masks", lungs)):
        (tmp_path / name).mkdir()
        suffix = "seg.nrrd" if node is lungs else "nrrd"
        assert slicer.util.saveNode(node, str(tmp_path / name / f"case.{suffix}"))
    show_task(panel, "dissect")
    set_model(panel, bright_model)
    for name in ("images", "masks"):
        monkeypatch.setattr(
            "PySide6.QtWidgets.QFileDialog.getExistingDirectory", lambda *_given, name=name: str(tmp_path / name)
        )
        click(panel.page.editor(name).folderButton)
    finished(panel)
    assert panel.ui.tableSelector.count >= 1 and panel.ui.resultTable.rowCount >= 1
    (note,) = [text for text in panel.ui.warningsLabel.text.splitlines() if "kept in" in text]
    assert Path(slicer.app.defaultScenePath).name in note


def test_a_task_that_fails_leaves_no_folder_among_the_documents(real_panel, scene, tmp_path):
    """Its files would lie there for other tasks; there are none."""
    panel = real_panel
    kept = Path(slicer.app.defaultScenePath) / "SlicerXAI"
    before = sorted(kept.glob("*"))
    show_task(panel, "find-directions")
    set_model(panel, "chest_xray_consolidation_classifier")
    type_text(panel.page.editor("generator").widget, str(tmp_path / "none"))
    run_to_end(panel)
    assert "none" in panel.ui.messageLabel.text
    assert sorted(kept.glob("*")) == before


def test_directions_are_found_by_clicks(real_panel, scene):
    panel = real_panel
    show_task(panel, "find-directions")
    set_model(panel, "chest_xray_consolidation_classifier")
    choose(panel.page.editor("generator").selector, "chest_xray_counterfactual")
    panel.ui.advancedButton.collapsed = False
    type_text(panel.page.editor("methods").widget, "covariance")
    type_text(panel.page.editor("samples").widget, "60")
    type_text(panel.page.editor("judged").widget, "2")
    finished(panel)
    assert panel.ui.resultTable.rowCount == 1
    assert "covariance" in [
        panel.ui.resultTable.item(0, column).text() for column in range(panel.ui.resultTable.columnCount)
    ]
    kept = Path(slicer.app.defaultScenePath) / "SlicerXAI"
    assert list(kept.glob("*find-directions/directions.safetensors"))
