"""Code of a model's own runs only once the user has agreed to it, for that model and no other."""

from __future__ import annotations

import json

import pytest
import slicer
from host.panel_driver import run_to_end, show_task
from host.qt_driver import click, turn, type_text, wait_until
from SlicerXAILib.Parameters import Parameters

MINE = "/models/mine"
FOREIGN = "/models/foreign"


@pytest.fixture
def asked(panel, monkeypatch) -> list[tuple]:
    """What the engine was asked about: model, device, whether it is trusted."""
    calls: list[tuple] = []
    ask = panel._logic.engine.askAboutModel
    monkeypatch.setattr(panel._logic.engine, "askAboutModel", lambda *call: (calls.append(call), ask(*call))[1])
    return calls


@pytest.fixture
def submitted(panel, monkeypatch) -> list[dict]:
    """The jobs that the engine was given."""
    jobs: list[dict] = []
    submit = panel._logic.engine.submit
    monkeypatch.setattr(panel._logic.engine, "submit", lambda job: (jobs.append(job), submit(job))[1])
    return jobs


@pytest.fixture
def questions(monkeypatch) -> list[str]:
    """The questions put to the user, who says yes."""
    texts: list[str] = []
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda text, **_more: texts.append(text) or True)
    return texts


def trust(panel, model: str) -> None:
    """Name a model and check the box."""
    if not panel.ui.trustModelCheckBox.isVisible():
        click(panel.ui.advancedButton.header)
    type_text(panel.ui.modelSelector.lineEdit(), model)
    click(panel.ui.trustModelCheckBox)


def test_the_user_is_asked_about_the_model_and_then_it_is_loaded_with_its_code(
    panel, a_scan, questions, asked, submitted
):
    trust(panel, MINE)
    assert len(questions) == 1 and MINE in questions[0]
    wait_until(lambda: asked and asked[-1] == (MINE, "auto", True))
    run_to_end(panel)
    assert submitted[-1]["trust_model"] is True


def test_who_declines_has_not_trusted(panel, a_scan, monkeypatch, submitted):
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda *_text, **_more: False)
    trust(panel, MINE)
    assert not panel.ui.trustModelCheckBox.checked
    run_to_end(panel)
    assert submitted[-1]["trust_model"] is False


def test_another_model_is_not_trusted_and_is_looked_at_without_its_code(panel, a_scan, questions, asked):
    trust(panel, MINE)
    wait_until(lambda: asked and asked[-1][0] == MINE)
    type_text(panel.ui.modelSelector.lineEdit(), FOREIGN)
    assert not panel.ui.trustModelCheckBox.checked
    wait_until(lambda: asked[-1][0] == FOREIGN)
    assert asked[-1] == (FOREIGN, "auto", False)
    assert [call for call in asked if call[2]] == [(MINE, "auto", True)]


def test_a_second_model_of_the_task_is_asked_about_too(panel, a_scan, questions):
    show_task(panel, "dissect")
    second = panel.page.editor("second_model")
    second.setValue(FOREIGN)
    trust(panel, MINE)
    assert MINE in questions[0] and FOREIGN in questions[0]
    second.setValue("")
    assert not panel.ui.trustModelCheckBox.checked


def test_a_scene_brings_no_trust(panel, a_scan, questions, asked, submitted, tmp_path):
    trust(panel, MINE)
    Parameters(panel._parameters.node).setValue("trustModel", True)
    file = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(file)
    wait_until(lambda: asked and asked[-1] == (MINE, "auto", True))
    slicer.mrmlScene.Clear(False)
    turn()
    slicer.util.loadScene(file)
    turn()
    assert panel.model.model == MINE and not panel.ui.trustModelCheckBox.checked
    del asked[:]
    run_to_end(panel)
    panel.model.forget()
    panel.model.setActive(True)
    wait_until(lambda: asked)
    assert asked[-1] == (MINE, "auto", False)
    assert submitted[-1]["trust_model"] is False


def test_a_record_brings_no_trust(panel, a_scan, submitted):
    run_to_end(panel)
    record = panel.results.record
    content = json.loads(record.GetParameter("result"))
    content["call"]["settings"] |= {"trust_model": True, "model": FOREIGN}
    record.SetParameter("result", json.dumps(content))
    click(panel.ui.rerunButton)
    wait_until(lambda: not panel.run.isRunning)
    assert (submitted[-1]["model"], submitted[-1]["trust_model"]) == (FOREIGN, False)


def test_a_reopened_scene_asks_the_process_that_will_run_its_job(panel, a_scan, asked, tmp_path):
    """A model that was looked at on another device would be loaded twice, in two processes."""
    panel.ui.deviceSelector.setCurrentIndex(1)
    file = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(file)
    slicer.mrmlScene.Clear(False)
    turn()
    assert panel.machine.device == "auto"
    slicer.util.loadScene(file)
    turn()
    panel.model.forget()
    del asked[:]
    wait_until(lambda: asked)
    assert asked[-1][1] == panel.machine.device == "cpu"
    wait_until(lambda: panel.model.report is not None)
    process = panel._logic.engine.processId
    run_to_end(panel)
    assert panel._logic.engine.processId == process


def test_run_again_is_off_while_something_runs(panel, a_scan):
    run_to_end(panel)
    assert panel.ui.rerunButton.enabled
    type_text(panel.ui.modelSelector.lineEdit(), "hang")
    click(panel.ui.applyButton)
    wait_until(lambda: panel.ui.progressBar.value == 50)
    assert not panel.ui.rerunButton.enabled
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.run.isRunning)
    assert panel.ui.rerunButton.enabled
