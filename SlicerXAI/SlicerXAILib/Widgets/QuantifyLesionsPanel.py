"""Panel: find and measure lesions in a chest CT."""

from __future__ import annotations

from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from .. import Display
from ..EngineErrors import EngineError
from ..Logic import XAILogic
from ..ResultLoader import LoadedResult
from ..TaskRun import TaskRun

_PUMP_MILLISECONDS = 50


class QuantifyLesionsPanel:
    """Inputs, one button that is Apply or Cancel, a progress bar and a log."""

    def __init__(self, logic: XAILogic, layout: Any) -> None:
        self._logic = logic
        self._run: TaskRun | None = None
        self.volumeSelector = _nodeSelector(["vtkMRMLScalarVolumeNode"], noneEnabled=False)
        self.lungsSelector = _nodeSelector(["vtkMRMLSegmentationNode"], noneEnabled=True)
        self.modelPath = ctk.ctkPathLineEdit()
        self.modelPath.setToolTip(_("A model's folder or file; empty for the model that comes with the module."))
        self.applyButton = qt.QPushButton(_("Apply"))
        self.progressBar = qt.QProgressBar()
        self.progressBar.setRange(0, 100)
        self.log = qt.QPlainTextEdit()
        self.log.setReadOnly(True)
        self._arrange(layout)
        self._timer = qt.QTimer()
        self._timer.setInterval(_PUMP_MILLISECONDS)
        self._timer.connect("timeout()", logic.processEvents)
        self.applyButton.connect("clicked(bool)", self._onApplyOrCancel)
        self.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._update)
        self._update()

    def setMRMLScene(self, scene: Any) -> None:
        self.volumeSelector.setMRMLScene(scene)
        self.lungsSelector.setMRMLScene(scene)

    def cleanup(self) -> None:
        self._timer.stop()

    def _arrange(self, layout: Any) -> None:
        inputs = ctk.ctkCollapsibleButton()
        inputs.text = _("Inputs")
        form = qt.QFormLayout(inputs)
        form.addRow(_("CT:"), self.volumeSelector)
        form.addRow(_("Lungs or lobes:"), self.lungsSelector)
        form.addRow(_("Model:"), self.modelPath)
        layout.addWidget(inputs)
        layout.addWidget(self.applyButton)
        layout.addWidget(self.progressBar)
        layout.addWidget(self.log)

    def _onApplyOrCancel(self, _checked: bool = False) -> None:
        if self._run is not None:
            self._run.cancel()
            return
        inputs = {"volume": self.volumeSelector.currentNode(), "lungs": self.lungsSelector.currentNode()}
        self.log.clear()
        try:
            run = self._logic.startTask("quantify-lesions", inputs, model=self.modelPath.currentPath)
        except EngineError as error:
            self._say(error)
            return
        self._run = run
        run.progress.connect(self._onProgress)
        run.logged.connect(self.log.appendPlainText)
        run.finished.connect(self._onFinished)
        run.failed.connect(self._onFailed)
        self._timer.start()
        self._update()

    def _onProgress(self, fraction: float, text: str) -> None:
        self.progressBar.setValue(round(100 * fraction))
        self.progressBar.setFormat(text)

    def _onFinished(self, loaded: LoadedResult) -> None:
        Display.showResult(loaded, self.volumeSelector.currentNode())
        for warning in loaded.warnings:
            self.log.appendPlainText(_("Warning: {text}").format(text=warning))
        for name, value in loaded.values.items():
            self.log.appendPlainText(f"{name} = {value}")
        self._end()

    def _onFailed(self, error: EngineError) -> None:
        self._say(error)
        self._end()

    def _say(self, error: EngineError) -> None:
        for text in (error.message, error.remedy, error.details):
            if text:
                self.log.appendPlainText(text)

    def _end(self) -> None:
        self._run = None
        self._timer.stop()
        self.progressBar.reset()
        self._update()

    def _update(self, _node: Any = None) -> None:
        hasVolume = self.volumeSelector.currentNode() is not None
        self.applyButton.text = _("Apply") if self._run is None else _("Cancel")
        self.applyButton.enabled = self._run is not None or hasVolume
        self.applyButton.toolTip = "" if hasVolume else _("Select a CT first.")


def _nodeSelector(nodeTypes: list[str], noneEnabled: bool) -> Any:
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = nodeTypes
    selector.addEnabled = False
    selector.removeEnabled = False
    selector.noneEnabled = noneEnabled
    selector.setMRMLScene(slicer.mrmlScene)
    return selector
