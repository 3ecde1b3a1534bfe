"""Whether the models that are named may run code of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..Signal import Signal


class TrustBox:
    """A check box that the user alone can check, and only after being asked.

    Trust is for the models named at that moment: another name takes it away, and neither a scene nor the record of a
    result brings it. Signal: ``changed()``.
    """

    def __init__(self, box: Any) -> None:
        self.changed = Signal()
        self._box = box
        self._models: tuple[str, ...] = ()
        box.checked = False
        box.enabled = False
        box.connect("toggled(bool)", self._onToggled)

    @property
    def isGiven(self) -> bool:
        return self._box.checked

    def setModels(self, models: Sequence[str]) -> None:
        """Say which models are named."""
        named = tuple(model for model in models if model)
        if named != self._models:
            self._models = named
            self._box.enabled = bool(named)
            self.withdraw()

    def withdraw(self) -> None:
        self._box.checked = False

    def _onToggled(self, checked: bool) -> None:
        if checked and not slicer.util.confirmYesNoDisplay(self._question(), windowTitle=_("Trust this model?")):
            self._box.blockSignals(True)
            self._box.checked = False
            self._box.blockSignals(False)
            return
        self.changed.emit()

    def _question(self) -> str:
        return _(
            "Files of models can hold programs. Let those of {models} run, with all that you may do on this computer?"
            "\n\nAgree only if you know who made them. This holds until another model is named or another scene is "
            "opened."
        ).format(models=", ".join(self._models))
