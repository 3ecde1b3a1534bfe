"""Says what the engine lacks on this computer and installs it, once the user agrees."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from .. import Dependencies
from ..EngineErrors import EngineError
from ..Signal import Signal


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
        try:
            slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
            isReady = Dependencies.install(
                slicer.util.confirmOkCancelDisplay, onlyCpu=self._ui.cpuOnlyCheckBox.checked
            )
        except EngineError as error:
            self.told.emit(f"{error.message} {error.remedy}")
            isReady = False
        finally:
            slicer.app.restoreOverrideCursor()
        self.look()
        self.changed.emit()
        return isReady and not self.problem

    def _onOffline(self) -> None:
        self.told.emit(Dependencies.offlineInstructions())
        self._ui.logButton.collapsed = False
