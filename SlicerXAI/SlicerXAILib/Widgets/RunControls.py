"""The button that is Apply or Cancel, why it is off, progress with time left, what went wrong, and the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _

from ..EngineErrors import EngineError, JobCancelled
from ..EngineJob import EngineJob
from ..LoadedResult import LoadedResult
from ..Signal import Signal

_PERCENT = 100


class RunControls:
    """Follows one run at a time.

    Signals: ``applied()`` when the user wants to start, ``finished(outcome)``, ``ended()`` after every run.
    """

    def __init__(self, ui: Any) -> None:
        self.applied, self.finished, self.ended = Signal(), Signal(), Signal()
        self._ui = ui
        self._run: EngineJob | None = None
        self._isCancelling = False
        self._problems: list[str] = []
        ui.applyButton.connect("clicked(bool)", self._onClicked)
        ui.copyLogButton.connect("clicked(bool)", self._copyLog)
        self._say("")
        self._update()

    @property
    def isRunning(self) -> bool:
        return self._run is not None

    def setProblems(self, problems: Sequence[str]) -> None:
        """Say what keeps Apply from working; nothing switches it on."""
        self._problems = list(problems)
        self._update()

    def start(self, begin: Callable[[], EngineJob]) -> None:
        """Start a run, or say why it cannot be started."""
        if self._run is not None:
            self.note(_("A run is on its way. Wait for its result, or cancel it."))
            return
        self._ui.log.clear()
        self._say("")
        try:
            run = begin()
        except EngineError as error:
            self.show(error)
            self.ended.emit()
            return
        self._run = run
        run.progress.connect(self._onProgress)
        run.logged.connect(self.write)
        run.finished.connect(self._onFinished)
        run.failed.connect(self._onFailed)
        self._ui.progressBar.setValue(0)
        self._ui.stageLabel.text = _("Starting the engine ...")
        self._update()

    def write(self, text: str) -> None:
        """Add a line to the log."""
        self._ui.log.appendPlainText(text)

    def show(self, error: EngineError) -> None:
        """Tell what went wrong and what can be done; how it came about goes to the log alone."""
        remedy = f"\n{error.remedy}" if error.remedy else ""
        self._say(f"{error.message}{remedy}")
        for text in (error.message, error.remedy, error.details):
            if text:
                self.write(text)

    def note(self, text: str) -> None:
        """Tell something that is no error."""
        self._say(text)
        self.write(text)

    def cancel(self) -> None:
        if self._run is not None and not self._isCancelling:
            self._isCancelling = True
            self._ui.stageLabel.text = _("Stopping ...")
            self._run.cancel()

    def _onClicked(self) -> None:
        if self._run is not None:
            self.cancel()
        else:
            self.applied.emit()

    def _onProgress(self, fraction: float, text: str) -> None:
        self._ui.progressBar.setValue(round(_PERCENT * fraction))
        if not self._isCancelling:
            self._ui.stageLabel.text = text

    def _onFinished(self, outcome: Any) -> None:
        if isinstance(outcome, LoadedResult):
            for warning in outcome.warnings:
                self.write(_("Warning: {text}").format(text=warning))
            for name, value in outcome.values.items():
                self.write(f"{name} = {value}")
        else:
            self.write(str(outcome))
        self._end(_("Done."))
        self.finished.emit(outcome)
        self.ended.emit()

    def _onFailed(self, error: EngineError) -> None:
        if isinstance(error, JobCancelled):
            self.write(error.message)
            self._end(_("Cancelled."))
        else:
            self.show(error)
            self._end("")
        self.ended.emit()

    def _end(self, text: str) -> None:
        self._run = None
        self._isCancelling = False
        self._ui.progressBar.setValue(0)
        self._ui.stageLabel.text = text
        self._update()

    def _say(self, text: str) -> None:
        self._ui.messageLabel.text = text
        self._ui.messageLabel.setVisible(bool(text))

    def _copyLog(self) -> None:
        self._ui.log.selectAll()
        self._ui.log.copy()

    def _update(self) -> None:
        button, reasons = self._ui.applyButton, " ".join(self._problems)
        isIdle = self._run is None
        button.text = _("Apply") if isIdle else _("Cancel")
        button.enabled = not isIdle or not self._problems
        button.toolTip = (reasons or _("Start.")) if isIdle else _("Stop the run; nothing of it is kept.")
        self._ui.reasonLabel.text = reasons
        self._ui.reasonLabel.setVisible(isIdle and bool(reasons))
        self._ui.progressBar.setVisible(not isIdle)
        self._ui.stageLabel.setVisible(bool(self._ui.stageLabel.text))
