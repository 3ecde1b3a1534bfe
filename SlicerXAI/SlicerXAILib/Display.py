"""How results look: color table, window, threshold and opacity from the hints that the engine gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import slicer

from .ColorLegend import showLegend
from .ColorTables import clippedBelow, clippedTable, colorTable, isDiverging, isEvidence
from .MapValues import MapSummary, summarize

if TYPE_CHECKING:
    from .ResultLoader import LoadedResult

DEFAULT_OPACITY = 0.6


def setMapDisplay(
    volumeNode: slicer.vtkMRMLScalarVolumeNode, hints: Mapping[str, Any], summary: MapSummary | None = None
) -> None:
    """Show a map in its color table and window.

    A signed map's window is symmetric, so that zero falls on the transparent middle of its colors; below the
    threshold a heat map is not drawn.

    :param hints: ``colors`` (``heat``, ``diverging`` or none for a gray volume), ``window`` (``[low, high]``
      or the highest value) and ``threshold``, both in the map's units.
    :param summary: what is known of the map's values; found here otherwise.
    """
    summary = summary or summarize(slicer.util.arrayFromVolume(volumeNode), hints)
    if volumeNode.GetDisplayNode() is None:
        volumeNode.CreateDefaultDisplayNodes()
    display = volumeNode.GetDisplayNode()
    colors = hints.get("colors")
    if colors:
        display.SetAndObserveColorNodeID(colorTable(colors).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(*summary.window)
    least = hints.get("threshold")
    if least is not None:
        setThreshold(volumeNode, float(least), summary.highest)


def setThreshold(volumeNode: slicer.vtkMRMLScalarVolumeNode, threshold: float, highest: float | None = None) -> None:
    """Draw a map only where it is at least ``threshold`` (in its units); a signed map where either sign is.

    :param highest: the map's highest value; found here otherwise.
    """
    display = volumeNode.GetDisplayNode()
    if isSigned(volumeNode):
        display.SetAndObserveColorNodeID(clippedTable(display, threshold).GetID())
        return
    if highest is None:  # what the display knows already need not be looked for in every voxel
        isKnown = display.GetApplyThreshold()
        highest = display.GetUpperThreshold() if isKnown else volumeNode.GetImageData().GetScalarRange()[1]
    display.SetUpperThreshold(max(highest, threshold))
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
    """Show a map over its scan in every slice view, with a color bar."""
    layers = {"foreground": mapNode, "foregroundOpacity": opacity}
    if backgroundNode is not None:
        layers["background"] = backgroundNode
    slicer.util.setSliceViewerLayers(**layers)
    showLegendOf(mapNode)


def isShown(mapNode: slicer.vtkMRMLScalarVolumeNode) -> bool:
    """Whether a map lies over a scan in any slice view."""
    return bool(_compositesOf(mapNode))


def showLegendOf(mapNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Show which value of a map has which color; the grays of a scan need no telling."""
    display = mapNode.GetDisplayNode()
    if display is not None and isEvidence(display.GetColorNode()):
        showLegend(mapNode)


def showResult(loaded: LoadedResult, inputNode: slicer.vtkMRMLScalarVolumeNode | None) -> None:
    """Show a result's first map over the volume that the engine names, or else over what was explained."""
    for role, hints in loaded.hints.items():
        node = loaded.nodes.get(role)
        if node is not None and hints.get("colors") and node.IsA("vtkMRMLScalarVolumeNode"):
            background = loaded.nodes.get(hints.get("background"), inputNode)
            showOver(node, background, float(hints.get("opacity", DEFAULT_OPACITY)))
            return


def setSegmentationDisplay(segmentationNode: slicer.vtkMRMLSegmentationNode, hints: Mapping[str, Any]) -> None:
    """Draw segments as outlines over a light fill, so that the scan below stays visible."""
    if segmentationNode.GetDisplayNode() is None:
        segmentationNode.CreateDefaultDisplayNodes()
    display = segmentationNode.GetDisplayNode()
    display.SetOpacity2DFill(float(hints.get("opacity", 0.25)))
    display.SetOpacity2DOutline(1.0)
    display.SetVisibility(bool(hints.get("visible", True)))
