"""Says, when asked, how long a run would take and how much memory it needs."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from ..Signal import Signal


class EstimateRow:
    """A button and a text. Signal: ``asked()``."""

    def __init__(self, ui: Any) -> None:
        self.asked = Signal()
        self._button, self._text = ui.estimateButton, ui.estimateText
        self._isAsking = False
        self._button.connect("clicked(bool)", self._onClicked)

    def setPossible(self, isPossible: bool) -> None:
        """Say whether there is something that can be estimated now."""
        self._button.enabled = isPossible

    def tell(self, text: str) -> None:
        """Show an answer."""
        self._text.text = text
        self._isAsking = False

    def forget(self) -> None:
        """Take back an answer that was given for other settings."""
        if not self._isAsking:
            self._text.text = "-"

    def giveUp(self) -> None:
        """Wait for an answer no longer."""
        if self._isAsking:
            self.tell("-")

    def _onClicked(self) -> None:
        self._isAsking = True
        self._text.text = _("Trying the model ...")
        self.asked.emit()
