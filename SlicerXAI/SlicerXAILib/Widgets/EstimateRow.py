"""Says, when asked, how long a run would take and how much memory it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slicer.i18n import tr as _

from ..EngineErrors import EngineError
from ..EstimateRun import EstimateRun
from ..Logic import XAILogic


class EstimateRow:
    """A button and a text."""

    def __init__(self, ui: Any, logic: XAILogic, pump: Callable[[], Any]) -> None:
        self._ui, self._logic, self._pump = ui, logic, pump
        self._request: Callable[[], Mapping[str, Any]] | None = None
        self._run: EstimateRun | None = None
        ui.estimateButton.connect("clicked(bool)", self._onClicked)

    def setRequest(self, request: Callable[[], Mapping[str, Any]] | None) -> None:
        """Set what would be run; None while nothing can be."""
        self._request = request
        self._ui.estimateText.text = "-" if self._run is None else self._ui.estimateText.text
        self._ui.estimateButton.enabled = request is not None and self._run is None

    def _onClicked(self) -> None:
        if self._request is None:
            return
        try:
            self._run = EstimateRun(self._logic.engine, self._request())
        except EngineError as error:
            self._tell(f"{error.message} {error.remedy}")
            return
        self._run.ended.connect(self._onEnded)
        self._ui.estimateButton.enabled = False
        self._ui.estimateText.text = _("Trying the model ...")
        self._pump()

    def _onEnded(self, text: str) -> None:
        self._run = None
        self._tell(text)

    def _tell(self, text: str) -> None:
        self._ui.estimateText.text = text
        self._ui.estimateButton.enabled = self._request is not None
