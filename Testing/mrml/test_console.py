"""The console: tasks as functions, waiting or with callbacks, over an engine that stands in for the real one."""

from __future__ import annotations

import inspect
import sys
import types
from pathlib import Path

import pytest
import slicer
from SlicerXAILib import Dependencies
from SlicerXAILib.ConsoleTasks import ConsoleTasks
from SlicerXAILib.EngineErrors import EngineError
from SlicerXAILib.EngineProcess import EngineProcess
from SlicerXAILib.Logic import XAILogic
from SlicerXAILib.TaskDescriptions import findTask, readTasks

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")


def functions():
    return [name for name, _ in inspect.getmembers(ConsoleTasks, inspect.isfunction)]


def functionOf(task):
    first, *words = task.split("-")
    return first + "".join(word.capitalize() for word in words)


@pytest.mark.parametrize("task", sorted(readTasks()))
def test_every_task_is_a_function(task):
    assert functionOf(task) in functions()


@pytest.mark.parametrize("task", sorted(readTasks()))
def test_a_function_names_its_tasks_required_inputs(task):
    """By position or by name; what is missing is asked for before the engine starts."""
    parameters = inspect.signature(getattr(ConsoleTasks, functionOf(task))).parameters
    needed = {field["name"] for field in findTask(task)["options"] if field["required"]}
    by_position = {name.removesuffix("Node") for name in parameters} - {"self", "arguments", "output"}
    assert by_position <= {field["name"] for field in findTask(task)["options"]}
    assert needed <= by_position or "arguments" in parameters


def test_a_wrong_argument_starts_no_engine(scene):
    logic = XAILogic(EngineProcess(["/no/such/engine"]))
    with pytest.raises(EngineError, match="takes no argument called metods"):
        logic.explainPrediction("scan.nrrd", "m", metods="iba")
    assert logic.engine.processId is None


def test_missing_packages_are_said_before_the_engine_starts(scene, a_scan, monkeypatch):
    monkeypatch.setattr(Dependencies, "whyNotReady", lambda: "These Python packages are needed: torch>=2.6.")
    logic = XAILogic(EngineProcess(["/no/such/engine"]))
    with pytest.raises(EngineError, match="torch>=2.6. The panel of SlicerXAI installs"):
        logic.quantifyLesions(a_scan)


def test_a_file_is_taken_for_a_scan(logic, a_scan, tmp_path):
    path = tmp_path / "patient.nrrd"
    assert slicer.util.saveNode(a_scan, str(path))
    assert logic.quantifyLesions(path).attribution.GetName() == "patient attribution"


def test_with_a_callback_it_returns_at_once(logic, a_scan, monkeypatch):
    """The application's timer hands over what the engine says; here the test turns it."""
    timers = []

    class Timer:
        running = False

        def __init__(self):
            timers.append(self)

        def setInterval(self, milliseconds):
            self.interval = milliseconds

        def connect(self, _signal, callback):
            self.timeout = callback

        def start(self):
            self.running = True

        def stop(self):
            self.running = False

    monkeypatch.setitem(sys.modules, "qt", types.SimpleNamespace(QTimer=Timer))
    ended, failed = [], []
    run = logic.quantifyLesions(a_scan, finished=ended.append, failed=failed.append)
    assert ended == [] and timers[0].running
    while timers[0].running:
        timers[0].timeout()
    assert ended == [run.result] and failed == []
    assert run.result.attribution.GetName() == "CT attribution"


def test_without_an_event_loop_the_caller_hands_over_the_events(logic, a_scan, monkeypatch):
    monkeypatch.setitem(sys.modules, "qt", None)
    ended, failed = [], []
    logic.quantifyLesions(a_scan, finished=ended.append, failed=failed.append)
    while not ended + failed:
        logic.processEvents()
    assert failed == [] and ended[0].values["severity"] == "CT-1"


def test_a_failure_reaches_its_callback(logic, a_scan, monkeypatch):
    monkeypatch.setitem(sys.modules, "qt", None)
    failed = []
    logic.quantifyLesions(a_scan, model="crash", failed=failed.append)
    while not failed:
        logic.processEvents()
    assert "Segmentation fault" in str(failed[0])


def test_options_are_told(logic):
    text = logic.options("explainSegmentation")
    assert "boundary" in text and "in mm" in text and "at most 50" in text


def test_a_result_offers_its_nodes_by_role(logic, a_scan):
    found = logic.quantifyLesions(a_scan)
    assert found.table is found.nodes["table"]
    with pytest.raises(AttributeError, match="no heart; it has attribution"):
        found.heart  # noqa: B018


def test_files_for_other_tasks_are_kept_where_the_user_says(logic, tmp_path):
    found = logic.findDirections("generator", "model", output=tmp_path / "here")
    assert found.files["directions"].read_bytes() == b"numbers"
    assert found.files["directions"].parent == tmp_path / "here"


def test_files_for_other_tasks_are_kept_in_the_documents_otherwise(logic):
    found = logic.findDirections("generator", "model")
    folder = found.files["directions"].parent
    assert folder.parent == Path(slicer.app.defaultScenePath) / "SlicerXAI"
    assert folder.name.endswith("find-directions")
    assert found.warnings == [f"The files were kept in {folder}."]


def test_other_results_stay_on_the_disk_on_request_alone(logic, a_scan, tmp_path):
    found = logic.quantifyLesions(a_scan, output=tmp_path / "kept")
    assert (tmp_path / "kept" / "result.json").is_file()
    assert found.attribution.GetStorageNode().GetFileName() == str(tmp_path / "kept" / "attribution.nrrd")
    assert list(Path(slicer.app.temporaryPath).glob("xai-job-*")) == []
