"""Apply, progress, Cancel and everything that can go wrong, with an engine that misbehaves on demand."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
import slicer
from host.panel_driver import run_to_end
from host.qt_driver import choose, click, type_text, wait_until
from SlicerXAILib.EngineProcess import EngineProcess

FAKE_ENGINE = Path(__file__).resolve().parents[1] / "mrml" / "fake_engine.py"


def temporary_jobs() -> list[Path]:
    return list(Path(slicer.app.temporaryPath).glob("xai-job-*"))


def set_model(panel, name: str) -> None:
    type_text(panel.ui.modelSelector.lineEdit(), name)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def hang(panel) -> None:
    """Start a run that would never end."""
    set_model(panel, "hang")
    click(panel.ui.applyButton)
    wait_until(lambda: panel.ui.progressBar.value == 50)


def test_apply_runs_the_task_and_shows_its_numbers(panel, a_scan):
    run_to_end(panel)
    assert slicer.util.getNode("CT attribution") is not None
    assert panel.ui.resultsButton.isVisible()
    assert "burden_ml = 8.0" in panel.ui.log.toPlainText()
    assert "8 mL" in panel.ui.valuesLabel.text
    assert "No reference statistics were found." in panel.ui.warningsLabel.text
    assert panel.ui.stageLabel.text == "Done."
    assert temporary_jobs() == []


def test_progress_tells_stage_percent_and_time_left(panel, a_scan):
    seen = []
    update = panel.run._onProgress

    def watch(fraction, text):
        update(fraction, text)
        seen.append((panel.ui.progressBar.isVisible(), panel.ui.progressBar.value, panel.ui.stageLabel.text))

    panel.run._onProgress = watch
    run_to_end(panel)
    assert (True, 25, "Explaining, about 40 s left") in seen


def test_apply_is_cancel_while_running_and_cancel_leaves_nothing(panel, a_scan):
    hang(panel)
    process = panel._logic.engine.processId
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    assert panel.ui.applyButton.text == "Cancel"
    began = time.monotonic()
    click(panel.ui.applyButton)
    assert panel.ui.stageLabel.text == "Stopping ..."
    wait_until(lambda: not panel.run.isRunning)
    print(f"cancelled after {time.monotonic() - began:.2f} s")
    assert panel.ui.applyButton.text == "Apply" and panel.ui.stageLabel.text == "Cancelled."
    assert not is_alive(process)
    assert temporary_jobs() == []
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert panel.ui.messageLabel.text == ""


def test_a_crash_is_told_with_the_last_words_and_apply_works_again(panel, a_scan):
    set_model(panel, "crash")
    run_to_end(panel)
    assert "Segmentation fault at 0x0" in panel.ui.messageLabel.text
    assert "Try again" in panel.ui.messageLabel.text
    set_model(panel, "")
    run_to_end(panel)
    assert panel.ui.messageLabel.text == ""
    assert panel.ui.stageLabel.text == "Done."


def test_an_error_is_told_with_its_remedy_and_its_details_go_to_the_log(panel, a_scan):
    set_model(panel, "fail")
    run_to_end(panel)
    assert panel.ui.messageLabel.text == "The volume is empty.\nLoad another."
    assert "where" in panel.ui.log.toPlainText().splitlines()


def test_the_log_can_be_copied(panel, a_scan):
    run_to_end(panel)
    click(panel.ui.logButton.header)
    click(panel.ui.copyLogButton)
    assert "burden_ml = 8.0" in slicer.app.clipboard().text()


def test_closing_the_scene_stops_the_run(panel, a_scan):
    hang(panel)
    slicer.mrmlScene.Clear(False)
    wait_until(lambda: not panel.run.isRunning)
    assert temporary_jobs() == []
    assert not panel.ui.resultsButton.isVisible()
    assert not panel.ui.applyButton.enabled


def test_closing_the_application_ends_the_engine(gui, open_panel, fake_engine, a_scan):
    panel = open_panel(fake_engine)
    run_to_end(panel)
    process = fake_engine.processId
    assert is_alive(process)
    panel.close()
    panel._logic.close()
    assert not is_alive(process)


def test_deleting_the_scan_while_it_is_explained_keeps_the_result(panel, a_scan):
    panel.run.applied.connect(lambda: slicer.mrmlScene.RemoveNode(a_scan))
    run_to_end(panel)
    assert panel.ui.messageLabel.text == ""
    assert slicer.util.getNode("CT attribution") is not None
    assert [node.GetName() for node in panel.page.inputs().values()] == []


def test_a_temporary_folder_that_cannot_be_written_is_told(panel, a_scan, monkeypatch, tmp_path):
    monkeypatch.setattr(slicer.app, "temporaryPath", str(tmp_path / "missing"))
    run_to_end(panel)
    assert "cannot be written" in panel.ui.messageLabel.text
    assert "Application Settings" in panel.ui.messageLabel.text
    assert panel.ui.applyButton.text == "Apply"


def test_a_scan_under_a_transform_is_explained_where_it_is_shown_and_that_is_said(panel, a_scan):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Registration")
    transform.HideFromEditorsOn()
    a_scan.SetAndObserveTransformNodeID(transform.GetID())
    run_to_end(panel)
    assert "Registration" in panel.ui.warningsLabel.text


def test_two_windows_work_at_the_same_time(open_panel, fake_engine, a_scan):
    other_engine = EngineProcess([sys.executable, "-u", str(FAKE_ENGINE)])
    first, second = open_panel(fake_engine), open_panel(other_engine)
    hang(first)
    set_model(second, "")
    run_to_end(second)
    assert second.ui.stageLabel.text == "Done."
    assert first.run.isRunning
    click(first.ui.applyButton)
    wait_until(lambda: not first.run.isRunning)
    other_engine.shutdown(timeout=0)


@pytest.mark.parametrize(
    ("problem", "torch"),
    [("These Python packages are needed: torch>=2.6.", ""), ("torch 2.6 is installed in part", "x")],
)
def test_missing_packages_are_named_and_nothing_is_installed_without_consent(
    panel, a_scan, monkeypatch, problem, torch
):
    from SlicerXAILib import Dependencies

    monkeypatch.setattr(Dependencies, "whyNotReady", lambda: problem)
    monkeypatch.setattr(Dependencies, "torchProblem", lambda: torch)
    asked = []
    monkeypatch.setattr(Dependencies, "install", lambda confirm: asked.append(confirm) or False)
    panel.setActive(True)
    assert panel.ui.dependencyFrame.isVisible() and panel.ui.dependencyLabel.text == problem
    assert panel.ui.installButton.enabled == (not torch)
    click(panel.ui.applyButton)
    assert len(asked) == (0 if torch else 1), "a torch that is installed in part is taken out by hand first"
    assert not panel.run.isRunning
    assert problem in panel.ui.messageLabel.text
    click(panel.ui.offlineButton)
    assert "pip download" in panel.ui.log.toPlainText()


def test_a_second_run_uses_the_process_of_the_first(panel, a_scan):
    run_to_end(panel)
    process = panel._logic.engine.processId
    choose(panel.page.editor("threshold_method").widget, "otsu")
    run_to_end(panel)
    assert panel._logic.engine.processId == process
    assert len(slicer.util.getNodes("CT attribution*")) == 2, "nothing is overwritten"
