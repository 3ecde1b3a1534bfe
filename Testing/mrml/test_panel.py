"""The panel's behavior, on widgets that only remember what they are told and what is connected to them."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import pytest
import slicer
from SlicerXAILib.EngineProcess import EngineProcess
from SlicerXAILib.Logic import XAILogic

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
PANEL = "SlicerXAILib.Widgets.QuantifyLesionsPanel"


class Widget:
    """Takes any call, keeps attributes, and emits the signals that the panel connects."""

    def __init__(self, *_arguments):
        self.slots, self.text, self.lines, self.values = {}, "", [], []
        self.currentPath, self.node, self.enabled, self.toolTip = "", None, True, ""

    def connect(self, signal, slot):
        self.slots[signal] = slot

    def emit(self, signal, *arguments):
        self.slots[signal](*arguments)

    def currentNode(self):
        return self.node

    def appendPlainText(self, text):
        self.lines.append(text)

    def setValue(self, value):
        self.values.append(value)

    def __getattr__(self, name):
        if name.startswith(("set", "add", "clear", "start", "stop", "reset")):
            return lambda *arguments: None
        raise AttributeError(name)


class Button(Widget):
    def __init__(self, text=""):
        super().__init__()
        self.text = text

    def click(self):
        assert self.enabled
        self.emit("clicked(bool)", False)


@pytest.fixture
def panel(scene, monkeypatch):
    qt = types.SimpleNamespace(
        QPushButton=Button, QProgressBar=Widget, QPlainTextEdit=Widget, QTimer=Widget, QFormLayout=Widget
    )
    ctk = types.SimpleNamespace(ctkPathLineEdit=Widget, ctkCollapsibleButton=Widget)
    monkeypatch.setitem(sys.modules, "qt", qt)
    monkeypatch.setitem(sys.modules, "ctk", ctk)
    monkeypatch.setattr(slicer, "qMRMLNodeComboBox", Widget, raising=False)
    monkeypatch.delitem(sys.modules, PANEL, raising=False)
    logic = XAILogic(EngineProcess([sys.executable, "-u", str(FAKE_ENGINE)]))
    yield importlib.import_module(PANEL).QuantifyLesionsPanel(logic, Widget())
    logic.close()
    sys.modules.pop(PANEL, None)


def select(panel, node):
    panel.volumeSelector.node = node
    panel.volumeSelector.emit("currentNodeChanged(vtkMRMLNode*)", node)


def pump(panel, until):
    """Do what the panel's timer does, until something is so."""
    while not until():
        panel._logic.engine.processEvents(timeout=0.05)


def test_apply_says_why_it_is_disabled(panel, a_scan):
    assert not panel.applyButton.enabled
    assert "Select a CT" in panel.applyButton.toolTip
    select(panel, a_scan)
    assert panel.applyButton.enabled
    assert panel.applyButton.toolTip == ""


def test_apply_runs_the_task_and_shows_its_numbers(panel, a_scan):
    select(panel, a_scan)
    panel.applyButton.click()
    assert panel.applyButton.text == "Cancel"
    pump(panel, lambda: panel.applyButton.text == "Apply")
    assert "burden_ml = 8.0" in panel.log.lines
    assert "Warning: No reference statistics were found." in panel.log.lines
    assert 25 in panel.progressBar.values
    assert slicer.util.getNode("CT attribution") is not None


def test_apply_turns_into_cancel_while_running(panel, a_scan):
    select(panel, a_scan)
    panel.modelPath.currentPath = "hang"
    panel.applyButton.click()
    pump(panel, lambda: panel.progressBar.values)
    panel.applyButton.click()
    pump(panel, lambda: panel.applyButton.text == "Apply")
    assert "The job was cancelled." in panel.log.lines
    assert slicer.mrmlScene.GetFirstNodeByName("CT attribution") is None


def test_an_error_is_told_with_its_remedy_and_apply_works_again(panel, a_scan):
    select(panel, a_scan)
    panel.modelPath.currentPath = "crash"
    panel.applyButton.click()
    pump(panel, lambda: panel.applyButton.text == "Apply")
    assert any("Segmentation fault" in line for line in panel.log.lines)
    assert any("Try again" in line for line in panel.log.lines)
    panel.modelPath.currentPath = ""
    panel.applyButton.click()
    pump(panel, lambda: panel.applyButton.text == "Apply")
    assert "burden_ml = 8.0" in panel.log.lines
