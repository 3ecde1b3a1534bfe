"""The processor that a task runs on is one that this computer has."""

from __future__ import annotations

import slicer
from host.qt_driver import choose, turn, type_text, wait_until
from SlicerXAILib.Parameters import Parameters


def offered(panel) -> list[str]:
    selector = panel.ui.deviceSelector
    return [selector.itemText(index) for index in range(selector.count)]


def look_at(panel, model: str) -> None:
    type_text(panel.ui.modelSelector.lineEdit(), model)
    wait_until(lambda: panel.model.report is not None)


def open_advanced(panel) -> None:
    panel.ui.advancedButton.collapsed = False


def test_the_graphics_cards_are_offered_by_their_makers_names(panel, a_scan):
    open_advanced(panel)
    look_at(panel, "cards")
    assert offered(panel) == ["Automatic", "CPU", "H100 (cuda:0)", "T4 (cuda:1)"]
    choose(panel.ui.deviceSelector, "T4 (cuda:1)")
    assert panel.machine.settings()["device"] == "cuda:1"
    assert panel._parameters.value("device") == "cuda:1"


def test_a_computer_without_graphics_cards_offers_none(panel, a_scan):
    look_at(panel, "plain")
    assert offered(panel) == ["Automatic", "CPU"]


def test_a_process_that_sees_no_card_does_not_hide_those_that_there_are(panel, a_scan):
    open_advanced(panel)
    look_at(panel, "cards")
    choose(panel.ui.deviceSelector, "CPU")
    panel.model.forget()
    look_at(panel, "plain")
    assert "T4 (cuda:1)" in offered(panel)


def test_a_card_of_another_computer_is_shown_as_such(panel, a_scan, tmp_path):
    look_at(panel, "plain")
    Parameters(panel._parameters.node).setValue("device", "cuda:3")
    file = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(file)
    slicer.mrmlScene.Clear(False)
    turn()
    slicer.util.loadScene(file)
    turn()
    assert panel.ui.deviceSelector.currentText == "cuda:3 (not found here)"
    assert panel.machine.device == "cuda:3"
