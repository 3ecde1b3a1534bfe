"""On which processor a task runs, with which seed, and whether its models are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slicer.i18n import tr as _

from ..Parameters import Parameters
from ..Signal import Signal
from .TrustBox import TrustBox

AUTOMATIC = "auto"
CPU = "cpu"
CUDA = "cuda"


class MachineSettings:
    """Three rows. Device and seed are kept in the scene, trust is not. Signal: ``changed()``."""

    def __init__(self, ui: Any) -> None:
        self.changed = Signal()
        self.trust = TrustBox(ui.trustModelCheckBox)
        self._selector, self._seed = ui.deviceSelector, ui.seedSpinBox
        self._parameters: Parameters | None = None
        self._devices: list[str] = []
        self._cards: list[tuple[str, str]] | None = None
        self._list([(CUDA, _("Graphics card (CUDA)"))])
        self._selector.connect("currentIndexChanged(int)", self._onChanged)
        self._seed.connect("valueChanged(int)", self._onChanged)
        self.trust.changed.connect(self.changed.emit)

    @property
    def device(self) -> str:
        """As the engine calls it: ``auto``, ``cpu``, ``cuda:0`` ..."""
        return self._devices[max(self._selector.currentIndex, 0)]

    def settings(self) -> dict[str, Any]:
        """Return what a job says of the machine."""
        return {"device": self.device, "seed": self._seed.value, "trust_model": self.trust.isGiven}

    def setParameters(self, parameters: Parameters) -> None:
        """Show the settings of a parameter node."""
        self._parameters = None
        self._choose(str(parameters.value("device", AUTOMATIC)))
        self._seed.value = parameters.value("seed", 0)
        self._parameters = parameters
        self.changed.emit()

    def setGraphicsCards(self, cards: Sequence[tuple[str, str]]) -> None:
        """Offer the graphics cards that this computer has: the engine's name and the maker's name of each."""
        if list(cards) == self._cards:
            return
        self._cards = list(cards)
        chosen = self.device
        parameters, self._parameters = self._parameters, None
        self._list([(name, f"{title} ({name})") for name, title in cards])
        # What was chosen stays, even where there is no such card: the engine then says so.
        self._choose(next((name for name, _title in cards), chosen) if chosen == CUDA else chosen)
        self._parameters = parameters
        self._onChanged()

    def _list(self, cards: Sequence[tuple[str, str]]) -> None:
        offered = [(AUTOMATIC, _("Automatic")), (CPU, _("CPU")), *cards]
        self._selector.blockSignals(True)
        self._selector.clear()
        self._selector.addItems([title for _name, title in offered])
        self._selector.blockSignals(False)
        self._devices = [name for name, _title in offered]

    def _choose(self, device: str) -> None:
        if device not in self._devices:
            self._devices.append(device)
            self._selector.addItem(_("{device} (not found here)").format(device=device))
        self._selector.setCurrentIndex(self._devices.index(device))

    def _onChanged(self) -> None:
        if self._parameters is not None:
            self._parameters.setValue("device", self.device)
            self._parameters.setValue("seed", self._seed.value)
            self.changed.emit()
