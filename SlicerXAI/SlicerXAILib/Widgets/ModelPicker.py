"""Chooses a model and says what the engine finds in it: shipped models, those used before, any file or folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..EngineErrors import EngineError, JobCancelled
from ..EngineProcess import EngineProcess
from ..ShippedModels import shippedModels
from ..Signal import Signal

_RECENT_KEY = "SlicerXAI/RecentModels"
_MOST_RECENT = 8
# What the user is given to finish typing before the engine is asked.
_TYPING_MILLISECONDS = 400


class ModelPicker:
    """The row with the model's name and what is said below it.

    Signals: ``changed()`` when another model was named, ``reported(report)`` with what the engine found, or None.
    """

    def __init__(self, ui: Any, engine: EngineProcess, pump: Callable[[], Any], isReady: Callable[[], bool]) -> None:
        """:param pump: called when the engine was asked something, so that its answer is fetched.
        :param isReady: whether the packages that the engine needs are there.
        """
        self.changed, self.reported = Signal(), Signal()
        self.report: Mapping[str, Any] | None = None
        self._selector, self._info = ui.modelSelector, ui.modelInfoLabel
        self._engine, self._pump, self._isReady = engine, pump, isReady
        self._question = ""
        self._asked: tuple[str, str, bool] | None = None
        self._known: dict[tuple[str, str, bool], Mapping[str, Any]] = {}
        self._device, self._trust = "auto", False
        self._isActive = False
        self._delay = qt.QTimer()
        self._delay.setSingleShot(True)
        self._delay.setInterval(_TYPING_MILLISECONDS)
        self._delay.connect("timeout()", self._ask)
        self._fill()
        self._selector.connect("editTextChanged(QString)", self._onText)
        ui.modelFileButton.connect("clicked(bool)", self._onFile)
        ui.modelFolderButton.connect("clicked(bool)", self._onFolder)
        engine.answered.connect(self._onAnswered)

    @property
    def model(self) -> str:
        """The name or path that stands there."""
        return self._selector.currentText.strip()

    def setModel(self, model: str) -> None:
        if model != self.model:
            self._selector.setEditText(model)

    def setMachine(self, device: str, trustModel: bool) -> None:
        """Say how the model is to be loaded, so that the job finds it ready."""
        self._device, self._trust = device, trustModel
        self._delay.start()

    def setActive(self, active: bool) -> None:
        """Ask the engine only while the panel is open."""
        self._isActive = active
        if active:
            self._delay.start()
        else:
            self._delay.stop()

    def rest(self) -> None:
        """Ask nothing until something is chosen: the scene was closed, and the engine's process ended with it."""
        self._delay.stop()

    def wake(self) -> None:
        """Ask about the model if that is still to be done."""
        if self._isActive:
            self._delay.start()

    def forget(self) -> None:
        """Ask again next time, as something else may be found."""
        self._asked = None
        self._known.clear()

    def remember(self, model: str) -> None:
        """Keep a model that was used among those offered."""
        if not model or model in shippedModels():
            return
        recent = [model, *(item for item in recentModels() if item != model)][:_MOST_RECENT]
        slicer.app.userSettings().setValue(_RECENT_KEY, recent)
        self._fill()

    def close(self) -> None:
        self._delay.stop()
        self._engine.answered.disconnect(self._onAnswered)

    def _fill(self) -> None:
        text = self.model
        self._selector.blockSignals(True)
        self._selector.clear()
        for name, kind in shippedModels().items():
            self._selector.addItem(name)
            self._selector.setItemData(self._selector.count - 1, kind, qt.Qt.ToolTipRole)
        self._selector.addItems([path for path in recentModels() if path not in shippedModels()])
        self._selector.setEditText(text)
        self._selector.blockSignals(False)

    def _onText(self, _text: str) -> None:
        self._trust = False  # it was for the model that stood there before
        known = self._known.get((self.model, self._device, self._trust))
        self._tell(modelText(known) if known else "")
        self._setReport(known)
        if known is None:
            self._question, self._asked = "", None
            self._delay.start()
        self.changed.emit()

    def _onFile(self) -> None:
        kinds = _("Models (*.ts *.pt *.pt2 *.pth *.onnx *.safetensors *.zip *.json);;All files (*)")
        self._take(qt.QFileDialog.getOpenFileName(None, _("Choose a model's file"), self._folder(), kinds))

    def _onFolder(self) -> None:
        self._take(qt.QFileDialog.getExistingDirectory(None, _("Choose a model's folder"), self._folder()))

    def _take(self, path: Any) -> None:
        path = path[0] if isinstance(path, tuple) else path
        if path:
            self.setModel(str(path))

    def _folder(self) -> str:
        return self.model if ("/" in self.model or "\\" in self.model) else ""

    def _ask(self) -> None:
        """Ask the engine about the model, unless it was asked about just this one."""
        wanted = (self.model, self._device, self._trust)
        if not self._isActive or not self.model or not self._isReady():
            return
        if wanted == self._asked or wanted in self._known:
            return
        try:
            self._question = self._engine.askAboutModel(*wanted)
        except EngineError as error:
            self._tell(f"{error.message} {error.remedy}")
            return
        self._asked = wanted
        self._tell(_("Reading the model ..."))
        self._pump()

    def _onAnswered(self, question: str, answer: Any) -> None:
        if question != self._question:
            return
        self._question = ""
        if isinstance(answer, JobCancelled):  # the process was ended for another reason: ask its successor
            self._asked = None
            self._tell("")
            self._delay.start()
        elif isinstance(answer, EngineError):
            self._tell(f"{answer.message} {answer.remedy}")
            self._setReport(None)
        else:
            self._known[self._asked] = answer
            self._tell(modelText(answer))
            self._info.toolTip = "\n".join(answer["notes"])
            self._setReport(answer)

    def _tell(self, text: str) -> None:
        self._info.text = text
        self._info.setVisible(bool(text))

    def _setReport(self, report: Mapping[str, Any] | None) -> None:
        self.report = report
        self.reported.emit(report)


def recentModels() -> list[str]:
    """Return the models that were used before, the last one first."""
    kept = slicer.app.userSettings().value(_RECENT_KEY)
    if not kept:
        return []
    return [kept] if isinstance(kept, str) else [str(item) for item in kept]


def modelText(report: Mapping[str, Any]) -> str:
    """Return what a user must know of a model, in a few lines."""
    labels = list(report["labels"])
    shown = labels[:8] + ([_("... {count} in all").format(count=len(labels))] if len(labels) > 8 else [])
    lines = [
        _("{kind}, {dims}D; tells {labels}").format(
            kind=report["task"].capitalize(), dims=report["spatial_dims"], labels=", ".join(shown)
        )
    ]
    if report["default_layer"]:
        lines.append(_("Explained layer: {layer} (default)").format(layer=report["default_layer"]))
    if report["window_memory_mb"]:
        size = " x ".join(str(side) for side in report["window"])
        lines.append(
            _("Memory: about {megabytes:.0f} MB for each pass over {size} voxels").format(
                megabytes=report["window_memory_mb"], size=size
            )
        )
    return "\n".join(lines)
