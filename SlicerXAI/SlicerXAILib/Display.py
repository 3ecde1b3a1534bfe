"""How results look: color table, window, threshold and opacity from the hints that the engine gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from .ColorTables import clippedBelow, clippedTable, colorTable, isDiverging

if TYPE_CHECKING:
    from .ResultLoader import LoadedResult

DEFAULT_OPACITY = 0.6
# The share of a map's values that may lie beyond its window when the engine gives none.
_WINDOW_QUANTILE = 0.999


def setMapDisplay(volumeNode: slicer.vtkMRMLScalarVolumeNode, hints: Mapping[str, Any]) -> None:
    """Show a map in its color table and window.

    A signed map's window is symmetric, so that zero falls on the transparent middle of its colors; below the
    threshold a heat map is not drawn.

    :param hints: ``colors`` (``heat``, ``diverging`` or none for a gray volume), ``window`` (``[low, high]``
      or the highest value) and ``threshold``, both in the map's units.
    """
    if volumeNode.GetDisplayNode() is None:
        volumeNode.CreateDefaultDisplayNodes()
    display = volumeNode.GetDisplayNode()
    colors = hints.get("colors")
    if colors:
        display.SetAndObserveColorNodeID(colorTable(colors).GetID())
    low, high = mapWindow(volumeNode, hints)
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(low, high)
    least = hints.get("threshold")
    if least is not None:
        setThreshold(volumeNode, float(least))


def mapWindow(volumeNode: slicer.vtkMRMLScalarVolumeNode, hints: Mapping[str, Any]) -> tuple[float, float]:
    """Return the lowest and the highest value of a map's colors, from the hints or else from its values."""
    window = hints.get("window")
    signed = hints.get("colors") == "diverging"
    if window is None:
        values = slicer.util.arrayFromVolume(volumeNode)
        extreme = float(np.quantile(np.abs(values), _WINDOW_QUANTILE)) or float(np.abs(values).max()) or 1.0
        low = -extreme if signed else (0.0 if values.min() >= 0 else float(values.min()))
        return low, extreme
    low, high = window if isinstance(window, (list, tuple)) else (0.0, window)
    extreme = max(abs(low), abs(high))
    return (-extreme, extreme) if signed else (float(low), float(high))


def setThreshold(volumeNode: slicer.vtkMRMLScalarVolumeNode, threshold: float) -> None:
    """Draw a map only where it is at least ``threshold`` (in its units); a signed map where either sign is."""
    display = volumeNode.GetDisplayNode()
    if isSigned(volumeNode):
        display.SetAndObserveColorNodeID(clippedTable(display, threshold).GetID())
        return
    display.SetUpperThreshold(max(volumeNode.GetImageData().GetScalarRange()[1], threshold))
    display.SetLowerThreshold(threshold)
    display.ApplyThresholdOn()


def threshold(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> float:
    """Return the value below which a map is not drawn; 0 where all of it is."""
    display = volumeNode.GetDisplayNode()
    if isSigned(volumeNode):
        return clippedBelow(display.GetColorNode())
    return max(display.GetLowerThreshold(), 0.0) if display.GetApplyThreshold() else 0.0


def isSigned(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> bool:
    """Whether a map tells for and against, in colors that are symmetric about zero."""
    display = volumeNode.GetDisplayNode()
    return display is not None and isDiverging(display.GetColorNode())


def setOpacity(mapNode: slicer.vtkMRMLScalarVolumeNode, opacity: float) -> None:
    """Draw a map with this opacity in every slice view that shows it over a scan."""
    for composite in _compositesOf(mapNode):
        composite.SetForegroundOpacity(opacity)


def opacity(mapNode: slicer.vtkMRMLScalarVolumeNode) -> float:
    """Return the opacity with which a map is drawn; the usual one if no view shows it."""
    return next((node.GetForegroundOpacity() for node in _compositesOf(mapNode)), DEFAULT_OPACITY)


def _compositesOf(mapNode: slicer.vtkMRMLScalarVolumeNode) -> list[slicer.vtkMRMLSliceCompositeNode]:
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return [node for node in nodes if node.GetForegroundVolumeID() == mapNode.GetID()]


def showOver(
    mapNode: slicer.vtkMRMLScalarVolumeNode,
    backgroundNode: slicer.vtkMRMLScalarVolumeNode | None,
    opacity: float = DEFAULT_OPACITY,
) -> None:
    """Show a map over its scan in every slice view."""
    layers = {"foreground": mapNode, "foregroundOpacity": opacity}
    if backgroundNode is not None:
        layers["background"] = backgroundNode
    slicer.util.setSliceViewerLayers(**layers)


def showResult(loaded: LoadedResult, inputNode: slicer.vtkMRMLScalarVolumeNode | None) -> None:
    """Show a result's first map over the volume that the engine names, or else over what was explained."""
    for role, hints in loaded.hints.items():
        if hints.get("colors") and loaded.nodes[role].IsA("vtkMRMLScalarVolumeNode"):
            background = loaded.nodes.get(hints.get("background"), inputNode)
            showOver(loaded.nodes[role], background, float(hints.get("opacity", DEFAULT_OPACITY)))
            return


def setSegmentationDisplay(segmentationNode: slicer.vtkMRMLSegmentationNode, hints: Mapping[str, Any]) -> None:
    """Draw segments as outlines over a light fill, so that the scan below stays visible."""
    if segmentationNode.GetDisplayNode() is None:
        segmentationNode.CreateDefaultDisplayNodes()
    display = segmentationNode.GetDisplayNode()
    display.SetOpacity2DFill(float(hints.get("opacity", 0.25)))
    display.SetOpacity2DOutline(1.0)
    display.SetVisibility(bool(hints.get("visible", True)))
