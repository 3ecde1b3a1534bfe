"""How results look: color table, window, threshold and opacity from the hints that the engine gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from .ColorTables import colorTable

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
    threshold = hints.get("threshold")
    if threshold is not None and colors != "diverging":
        setThreshold(volumeNode, float(threshold))


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
    """Draw a map only where it is at least ``threshold`` (in its units)."""
    display = volumeNode.GetDisplayNode()
    display.SetUpperThreshold(max(volumeNode.GetImageData().GetScalarRange()[1], threshold))
    display.SetLowerThreshold(threshold)
    display.ApplyThresholdOn()


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
