"""Apply, progress, Cancel and everything that can go wrong, with an engine that misbehaves on demand."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
import types
from pathlib import Path

import pytest
import slicer
from host.bright_lesion import make_patient
from host.panel_driver import run_to_end
from host.processes import is_running
from host.qt_driver import choose, click, turn, type_text, wait_until
from host.scan_geometries import IJK_TO_RAS, SHAPE
from SlicerXAILib.EngineProcess import EngineProcess
from SlicerXAILib.NrrdFile import readVoxels

FAKE_ENGINE = Path(__file__).resolve().parents[1] / "mrml" / "fake_engine.py"


def temporary_jobs() -> list[Path]:
    return list(Path(slicer.app.temporaryPath).glob("xai-job-*"))


def set_model(panel, name: str) -> None:
    type_text(panel.ui.modelSelector.lineEdit(), name)


def settle(panel) -> None:
    """Let every timer of the panel that was started run out."""
    timers = (panel.model._delay, panel._timer, panel._suggestion)
    wait_until(lambda: not any(timer.isActive() for timer in timers))


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
    assert not is_running(process)
    assert temporary_jobs() == []
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert panel.ui.messageLabel.text == ""


def test_a_process_that_is_ended_leaves_nothing_half_written(panel, a_scan, tmp_path):
    """Where the results were to stay, and in the documents, where a folder was made for them alone.

    A folder of the user's that bears the same beginning of a name stays.
    """
    kept, documents = tmp_path / "kept", Path(slicer.app.defaultScenePath) / "SlicerXAI"
    before = sorted(documents.glob("*"))
    foreign = kept / ".partial-notes"
    foreign.mkdir(parents=True)
    for task, output in (("quantify-lesions", str(kept)), ("find-directions", "")):
        run = panel._logic.startTask(task, {"volume": a_scan}, {}, "hang", output=output)
        place = kept if output else documents
        wait_until(lambda place=place: list(place.rglob(".partial-*/attribution.nrrd")))
        process = panel._logic.engine.processId
        run.cancel()
        wait_until(lambda run=run: panel._logic.processEvents() or run.error is not None)
        assert not is_running(process)
    assert list(kept.iterdir()) == [foreign] and sorted(documents.glob("*")) == before
    assert temporary_jobs() == []


def estimate(panel) -> None:
    if not panel.ui.estimateButton.isVisible():
        click(panel.ui.advancedButton.header)
    click(panel.ui.estimateButton)


def test_an_estimate_is_cancelled_by_the_same_button_as_a_run(panel, a_scan):
    set_model(panel, "hang")
    estimate(panel)
    assert panel.ui.estimateText.text == "Trying the model ..."
    assert panel.ui.applyButton.text == "Cancel" and not panel.ui.rerunButton.enabled
    wait_until(lambda: panel.ui.progressBar.value == 50)
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.run.isRunning)
    assert panel.ui.stageLabel.text == "Cancelled." and panel.ui.estimateText.text == "-"
    assert temporary_jobs() == [] and panel._logic.engine.processId is None
    set_model(panel, "")
    run_to_end(panel)
    assert panel.ui.stageLabel.text == "Done."


def test_an_estimate_that_fails_says_why(panel, a_scan):
    set_model(panel, "fail")
    estimate(panel)
    wait_until(lambda: not panel.run.isRunning)
    assert panel.ui.messageLabel.text == "The volume is empty.\nLoad another."
    assert panel.ui.estimateText.text == "-" and panel.ui.estimateButton.enabled


def test_an_estimate_starts_no_engine_that_lacks_its_packages(panel, a_scan, monkeypatch):
    from SlicerXAILib import Dependencies

    missing = "These Python packages are needed: torch>=2.6."
    monkeypatch.setattr(Dependencies, "whyNotReady", lambda: missing)
    monkeypatch.setattr(Dependencies, "torchProblem", lambda: "")
    monkeypatch.setattr(Dependencies, "install", lambda *_confirm, **_more: False)
    panel.setActive(True)
    estimate(panel)
    assert panel._logic.engine.processId is None
    assert missing in panel.ui.messageLabel.text and panel.ui.estimateText.text == "-"


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
    turn()
    wait_until(lambda: not panel.run.isRunning)
    assert temporary_jobs() == []
    assert not panel.ui.resultsButton.isVisible()
    assert not panel.ui.applyButton.enabled


@pytest.mark.parametrize("running", [False, True])
def test_closing_the_scene_ends_the_engine_and_the_next_apply_starts_another(panel, a_patient, running):
    """Nothing starts it before: not the panel's question about the model either."""
    if running:
        hang(panel)
    else:
        set_model(panel, "")
        run_to_end(panel)
    process = panel._logic.engine.processId
    assert is_running(process)
    slicer.mrmlScene.Clear(False)
    turn()
    wait_until(lambda: not is_running(process))
    assert temporary_jobs() == []
    assert not panel.run.isRunning
    settle(panel)
    assert panel._logic.engine.processId is None
    make_patient(IJK_TO_RAS["oblique"], SHAPE, (0.0, 0.0, 0.0))
    turn()
    set_model(panel, "")
    run_to_end(panel)
    assert panel.ui.stageLabel.text == "Done."
    assert panel._logic.engine.processId not in (None, process)


def test_closing_the_scene_while_a_question_is_open_starts_no_engine(panel, a_scan):
    """What was asked about a model is not asked of a new process by itself."""
    wait_until(lambda: panel.model.report is not None)
    process = panel._logic.engine.processId
    panel._logic.engine.askAboutModel("slow")
    slicer.mrmlScene.Clear(False)
    turn()
    settle(panel)
    assert panel._logic.engine.processId is None
    wait_until(lambda: not is_running(process))


@pytest.fixture
def held(monkeypatch):
    """While it is set, the segmentation of a result is not read further; other files before it are."""
    reading, go = threading.Event(), threading.Event()

    def read(header, values, isStopped):
        reading.set()
        while not (go.is_set() or isStopped()):
            go.wait(0.01)
        readVoxels(header, values, isStopped)

    monkeypatch.setattr("SlicerXAILib.VoxelNodes.readVoxels", read)
    yield types.SimpleNamespace(isReading=reading.is_set, go=go.set)
    go.set()


def test_closing_the_scene_while_the_result_is_loaded_leaves_nothing(panel, a_scan, held):
    turn()
    click(panel.ui.applyButton)
    wait_until(held.isReading)
    assert slicer.mrmlScene.GetFirstNodeByName("CT contrast") is not None
    assert panel.run.isRunning and panel.ui.applyButton.text == "Cancel"
    process = panel._logic.engine.processId
    slicer.mrmlScene.Clear(False)
    turn()
    assert not panel.run.isRunning and temporary_jobs() == []
    settle(panel)
    assert slicer.mrmlScene.GetFirstNodeByName("CT attribution") is None
    wait_until(lambda: not is_running(process))


def test_cancel_while_the_result_is_loaded_leaves_nothing(panel, a_scan, held):
    turn()
    click(panel.ui.applyButton)
    wait_until(held.isReading)
    click(panel.ui.applyButton)
    assert panel.ui.stageLabel.text == "Cancelled." and not panel.run.isRunning
    assert slicer.mrmlScene.GetFirstNodeByName("CT attribution") is None
    assert temporary_jobs() == []


def test_the_panel_says_that_the_result_is_loaded_and_goes_on_with_it(panel, a_scan, held):
    turn()
    click(panel.ui.applyButton)
    wait_until(held.isReading)
    assert panel.ui.stageLabel.text == "Loading the result" and panel.ui.progressBar.value == 100
    assert not panel.ui.resultsButton.isVisible()
    held.go()
    wait_until(lambda: not panel.run.isRunning)
    assert panel.ui.stageLabel.text == "Done." and panel.ui.resultsButton.isVisible()


def test_a_run_is_not_replaced_by_another_while_its_result_is_loaded(panel, a_scan, held):
    held.go()
    run_to_end(panel)
    click(panel.ui.applyButton)
    assert not panel.ui.rerunButton.enabled
    panel.results.rerunAsked.emit(panel.results.record)  # as a click that was on its way
    assert "A run is on its way" in panel.ui.messageLabel.text
    wait_until(lambda: not panel.run.isRunning)
    assert panel.ui.resultSelector.count == 2


def test_closing_the_application_ends_the_engine(gui, open_panel, fake_engine, a_scan):
    panel = open_panel(fake_engine)
    run_to_end(panel)
    process = fake_engine.processId
    assert is_running(process)
    panel.close()
    panel._logic.close()
    assert not is_running(process)


def test_deleting_the_scan_while_it_is_explained_keeps_the_result(panel, a_scan):
    panel.run.applied.connect(lambda: slicer.mrmlScene.RemoveNode(a_scan))
    run_to_end(panel)
    assert panel.ui.messageLabel.text == ""
    assert slicer.util.getNode("CT attribution") is not None
    assert [node.GetName() for node in panel.page.inputs().values()] == []


def missing_folder(folder: Path, _monkeypatch) -> Path:
    return folder / "missing"


def read_only_folder(folder: Path, monkeypatch) -> Path:
    """A folder without leave to write; refused by hand where the user may write everywhere, as root may."""
    folder.chmod(0o500)
    make = tempfile.mkdtemp

    def refuse(*given, dir=None, **more):
        if dir == str(folder):
            raise PermissionError(13, "Permission denied", dir)
        return make(*given, dir=dir, **more)

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    return folder


@pytest.mark.parametrize("spoiled", [missing_folder, read_only_folder])
def test_a_temporary_folder_that_cannot_be_written_is_told(panel, a_scan, monkeypatch, tmp_path, spoiled):
    monkeypatch.setattr(slicer.app, "temporaryPath", str(spoiled(tmp_path, monkeypatch)))
    run_to_end(panel)
    assert "cannot be written" in panel.ui.messageLabel.text
    assert "Application Settings" in panel.ui.messageLabel.text
    assert panel.ui.applyButton.text == "Apply" and panel.ui.applyButton.enabled


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
    monkeypatch.setattr(Dependencies, "install", lambda confirm, **_more: asked.append(confirm) or False)
    panel.setActive(True)
    assert panel.ui.dependencyFrame.isVisible() and panel.ui.dependencyLabel.text == problem
    assert panel.ui.installButton.enabled == (not torch)
    click(panel.ui.applyButton)
    assert len(asked) == (0 if torch else 1), "a torch that is installed in part is taken out by hand first"
    assert not panel.run.isRunning
    assert problem in panel.ui.messageLabel.text
    click(panel.ui.offlineButton)
    assert "pip download" in panel.ui.log.toPlainText()


@pytest.mark.parametrize("onlyCpu", [False, True])
def test_torch_is_installed_with_or_without_graphics_cards_as_the_user_says(panel, a_scan, monkeypatch, onlyCpu):
    from SlicerXAILib import Dependencies

    missing = ["These Python packages are needed: torch>=2.6."]
    monkeypatch.setattr(Dependencies, "whyNotReady", lambda: "".join(missing))
    monkeypatch.setattr(Dependencies, "torchProblem", lambda: "")
    installed = []

    def install(_confirm, onlyCpu=False) -> bool:
        installed.append(onlyCpu)
        missing.clear()
        return True

    monkeypatch.setattr(Dependencies, "install", install)
    panel.setActive(True)
    assert not panel.ui.cpuOnlyCheckBox.isVisible(), "torch is here: there is nothing to choose"
    monkeypatch.setattr(Dependencies, "installedVersion", lambda name: None)
    panel.setActive(True)
    if onlyCpu:
        click(panel.ui.cpuOnlyCheckBox)
    click(panel.ui.installButton)
    assert installed == [onlyCpu] and not panel.ui.dependencyFrame.isVisible()


def test_a_process_from_before_an_installation_is_replaced(panel, a_scan):
    run_to_end(panel)
    process = panel._logic.engine.processId
    panel.dependencies.changed.emit()
    run_to_end(panel)
    assert panel._logic.engine.processId != process
    assert panel.ui.stageLabel.text == "Done."


def test_a_torch_that_cannot_be_imported_is_told_with_its_correct(open_panel, a_scan, tmp_path, monkeypatch):
    (tmp_path / "torch").mkdir()
    failing = "raise ImportError('libcublas.so.12: cannot open shared object file')"
    (tmp_path / "torch" / "__init__.py").write_text(failing, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    engine = EngineProcess()
    panel = open_panel(engine)
    for told in (panel.ui.modelInfoLabel, panel.ui.messageLabel):
        wait_until(lambda told=told: "libcublas.so.12" in told.text)
        assert "Install the build for the CPU" in told.text and "report" not in told.text
        run_to_end(panel)
    engine.shutdown(timeout=0)


def map_names() -> list[str]:
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node.GetName() for node in volumes if node.GetName().startswith("CT attribution")]


def test_a_second_run_uses_the_process_of_the_first(panel, a_scan):
    run_to_end(panel)
    process = panel._logic.engine.processId
    choose(panel.page.editor("threshold_method").widget, "otsu")
    run_to_end(panel)
    assert panel._logic.engine.processId == process
    assert len(map_names()) == 2, "nothing is overwritten"
