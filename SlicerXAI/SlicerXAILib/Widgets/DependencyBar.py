"""Says what the engine lacks on this computer and installs it, once the user agrees."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from .. import Dependencies
from ..EngineErrors import EngineError
from ..Signal import Signal


class _Consent:
    """Asks the user; the cursor shows that Slicer is busy only once the user has agreed."""

    def __init__(self) -> None:
        self._isWaiting = False

    def __call__(self, text: str) -> bool:
        self._isWaiting = bool(slicer.util.confirmOkCancelDisplay(text))
        if self._isWaiting:
            slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
        return self._isWaiting

    def release(self) -> None:
        if self._isWaiting:
            slicer.app.restoreOverrideCursor()


class DependencyBar:
    """Hidden where nothing is missing. Signals: ``changed()`` after an installation, ``told(text)``."""

    def __init__(self, ui: Any) -> None:
        self.changed, self.told = Signal(), Signal()
        self._ui = ui
        self.problem = ""
        ui.installButton.connect("clicked(bool)", self._onInstall)
        ui.offlineButton.connect("clicked(bool)", self._onOffline)
        ui.dependencyFrame.setVisible(False)

    def look(self) -> None:
        """Find out again what is missing."""
        self.problem = Dependencies.whyNotReady()
        self._ui.dependencyLabel.text = self.problem
        self._ui.dependencyFrame.setVisible(bool(self.problem))
        self._ui.cpuOnlyCheckBox.setVisible(Dependencies.installedVersion("torch") is None)
        # What is installed in part must be taken out first, in the module that the text names.
        self._ui.installButton.enabled = not Dependencies.torchProblem()

    def ensure(self) -> bool:
        """Return whether the engine can run; asks for consent and installs what is missing first."""
        self.look()
        return not self.problem or self._install()

    def _onInstall(self) -> None:
        self._install()

    def _install(self) -> bool:
        if Dependencies.torchProblem():
            return False
        asked = _Consent()
        try:
            isReady = Dependencies.install(asked, onlyCpu=self._ui.cpuOnlyCheckBox.checked)
        except EngineError as error:
            self.told.emit(f"{error.message} {error.remedy}")
            isReady = False
        finally:
            asked.release()
        self.look()
        self.changed.emit()
        return isReady and not self.problem

    def _onOffline(self) -> None:
        self.told.emit(Dependencies.offlineInstructions())
        self._ui.logButton.collapsed = False
