"""Which map lies over the scan, how strongly, from which value on, and beside which other map."""

from __future__ import annotations

import math
from typing import Any

import slicer
from slicer.i18n import tr as _

from .. import Display
from ..Compare import compareMaps, endComparison, isComparing
from ..ResultAttributes import ROLE, UNITS
from ..ResultRecord import backgroundOf
from ..Signal import Signal

_VOLUME = "vtkMRMLScalarVolumeNode"
_STEPS = 200


class MapControls:
    """Acts on the views at once. Signal: ``changed()`` when another map was chosen."""

    def __init__(self, ui: Any) -> None:
        self.changed = Signal()
        self._ui = ui
        self._isUpdating = False
        for selector in (ui.mapSelector, ui.compareSelector):
            selector.addAttribute(_VOLUME, ROLE)
            selector.connect("currentNodeChanged(vtkMRMLNode*)", self._onMaps)
        ui.opacitySlider.connect("valueChanged(double)", self._onOpacity)
        ui.thresholdSlider.connect("valueChanged(double)", self._onThreshold)
        self._update()

    @property
    def map(self) -> Any:
        return self._ui.mapSelector.currentNode()

    @property
    def comparedMap(self) -> Any:
        return self._ui.compareSelector.currentNode()

    def choose(self, mapNode: Any, comparedMap: Any = None) -> None:
        """Take what the views show already; nothing is shown again."""
        self._isUpdating = True
        self._ui.mapSelector.setCurrentNode(mapNode)
        self._ui.compareSelector.setCurrentNode(comparedMap)
        self._isUpdating = False
        self._update()

    def _onMaps(self) -> None:
        if self._isUpdating:
            return
        mapNode, other = self.map, self.comparedMap
        if mapNode is not None:
            background = backgroundOf(mapNode)
            opacity = self._ui.opacitySlider.value
            if other is not None and other is not mapNode:
                compareMaps(mapNode, other, background, opacity)
            else:
                endComparison()
                Display.showOver(mapNode, background, opacity)
        elif isComparing():
            endComparison()
        self._update()
        self.changed.emit()

    def _update(self) -> None:
        """Set the sliders to the range and the state of the map."""
        mapNode = self.map
        self._isUpdating = True
        self._ui.mapLabel.text = _("Map (A):") if isComparing() else _("Map:")
        self._ui.compareLabel.text = _("Compare with (B):") if isComparing() else _("Compare with:")
        self._ui.mapSelector.toolTip = mapNode.GetName() if mapNode is not None else _("The map over the scan.")
        for slider in (self._ui.opacitySlider, self._ui.thresholdSlider, self._ui.compareSelector):
            slider.enabled = mapNode is not None
        if mapNode is not None and mapNode.GetDisplayNode() is not None:
            self._ui.opacitySlider.value = Display.opacity(mapNode)
            self._setRange(mapNode)
        self._isUpdating = False

    def _setRange(self, mapNode: slicer.vtkMRMLScalarVolumeNode) -> None:
        slider = self._ui.thresholdSlider
        display, least = mapNode.GetDisplayNode(), Display.threshold(mapNode)
        end = max(abs(display.GetWindowLevelMax()), abs(display.GetWindowLevelMin()), least) or 1.0
        slider.minimum = 0.0
        # From the smallest number that a step needs to be told apart.
        slider.decimals = max(0, 3 - math.floor(math.log10(end)) - 1)
        slider.maximum = end
        slider.singleStep = end / _STEPS
        slider.suffix = " " + (mapNode.GetAttribute(UNITS) or _("a.u."))
        slider.value = least

    def _onOpacity(self, value: float) -> None:
        if self._isUpdating:
            return
        for mapNode in (self.map, self.comparedMap):
            if mapNode is not None:
                self._bringBack()
                Display.setOpacity(mapNode, value)

    def _onThreshold(self, value: float) -> None:
        if not self._isUpdating and self.map is not None:
            self._bringBack()
            Display.setThreshold(self.map, value)
            other = self.comparedMap
            # Maps in the same unit are read at the same threshold; others keep their own.
            if other is not None and other.GetAttribute(UNITS) == self.map.GetAttribute(UNITS):
                Display.setThreshold(other, value)

    def _bringBack(self) -> None:
        """Show the map again where a series of images has taken its place."""
        if not Display.isShown(self.map):
            Display.showOver(self.map, backgroundOf(self.map), self._ui.opacitySlider.value)
