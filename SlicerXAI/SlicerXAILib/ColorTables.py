"""Color tables for heat maps: what carries no evidence is transparent, so that the scan shows through.

Slicer's procedural colors hold no opacity, and its perceptual tables are not present everywhere; these two
tables are made in the scene and saved with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer

from .Translation import tr as _
from .Translation import translate

NUMBER_OF_COLORS = 256
_CLIPPED_BELOW = "XAI.ClippedBelow"


@dataclass(frozen=True)
class _Ramp:
    """Colors and opacities at positions from 0 to 1, interpolated linearly between them."""

    name: str
    tag: str
    positions: tuple[float, ...]
    colors: tuple[tuple[float, float, float], ...]
    opacityPositions: tuple[float, ...]
    opacities: tuple[float, ...]

    def table(self) -> np.ndarray:
        """Return red, green, blue and opacity, ``(256, 4)``, each from 0 to 1."""
        at = np.linspace(0.0, 1.0, NUMBER_OF_COLORS)
        channels = [np.interp(at, self.positions, channel) for channel in zip(*self.colors)]
        return np.stack([*channels, np.interp(at, self.opacityPositions, self.opacities)], axis=1)


# Dark violet over red to light yellow, its lightness rising evenly; for maps that are never negative.
_HEAT = _Ramp(
    name="XAI Heat",
    tag="XAIHeat",
    positions=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    colors=(
        (0.10, 0.03, 0.26),
        (0.36, 0.07, 0.43),
        (0.65, 0.15, 0.38),
        (0.89, 0.31, 0.20),
        (0.98, 0.60, 0.10),
        (0.99, 0.99, 0.65),
    ),
    opacityPositions=(0.0, 0.05, 0.35, 1.0),
    opacities=(0.0, 0.0, 1.0, 1.0),
)

# Blue against, red for, transparent in between; for signed maps in a window that is symmetric about zero.
_DIVERGING = _Ramp(
    name="XAI Diverging",
    tag="XAIDiverging",
    positions=(0.0, 0.25, 0.5, 0.75, 1.0),
    colors=(
        (0.02, 0.19, 0.58),
        (0.26, 0.58, 0.88),
        (0.95, 0.95, 0.95),
        (0.94, 0.45, 0.30),
        (0.62, 0.04, 0.10),
    ),
    opacityPositions=(0.0, 0.30, 0.47, 0.53, 0.70, 1.0),
    opacities=(1.0, 1.0, 0.0, 0.0, 1.0, 1.0),
)

_RAMPS = {"heat": _HEAT, "diverging": _DIVERGING}


def colorTable(kind: str) -> slicer.vtkMRMLColorTableNode:
    """Return the scene's color table for heat maps (``heat``) or for signed maps (``diverging``).

    :raises KeyError: another kind.
    """
    ramp = _RAMPS[kind]
    scene = slicer.mrmlScene
    node = scene.GetSingletonNode(ramp.tag, "vtkMRMLColorTableNode")
    if node is None:
        node = slicer.vtkMRMLColorTableNode()
        node.SetSingletonTag(ramp.tag)
        _fill(node, ramp)
        return scene.AddNode(node)
    # Closing a scene empties the singletons that stay in it.
    if not _isFilled(node):
        _fill(node, ramp)
    return node


def isEvidence(node: slicer.vtkMRMLColorNode | None) -> bool:
    """Whether these are colors that this module gives to maps."""
    return isDiverging(node) or (node is not None and node.GetSingletonTag() == _HEAT.tag)


def isDiverging(node: slicer.vtkMRMLColorNode | None) -> bool:
    """Whether these are the colors for signed maps, or a map's own copy of them."""
    return node is not None and (
        node.GetSingletonTag() == _DIVERGING.tag or node.GetAttribute(_CLIPPED_BELOW) is not None
    )


def clippedTable(display: slicer.vtkMRMLScalarVolumeDisplayNode, least: float) -> slicer.vtkMRMLColorTableNode:
    """Return the colors of a signed map that leave out what is nearer to zero than ``least`` (in the map's units).

    Each map that is clipped gets a table of its own, as its threshold is its own.
    """
    node = display.GetColorNode()
    if node is None or node.GetAttribute(_CLIPPED_BELOW) is None:
        if least <= 0:
            return colorTable("diverging")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", _DIVERGING.name)
        _fill(node, _DIVERGING)
        node.SetHideFromEditors(True)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(f"{_DIVERGING.name} clipped"))
    node.SetAttribute(_CLIPPED_BELOW, repr(float(least)))
    end = max(abs(display.GetWindowLevelMin()), abs(display.GetWindowLevelMax())) or 1.0
    table = _DIVERGING.table()
    away = np.abs(np.linspace(-end, end, NUMBER_OF_COLORS))
    # Beyond the threshold the colors are full, so that the slider's edge is the edge that is seen.
    table[:, 3] = np.where(away < least, 0.0, np.maximum(table[:, 3], 0.75 if least > 0 else 0.0))
    disabled = node.StartModify()
    for index, color in enumerate(table):
        node.SetOpacity(index, color[3])
    node.EndModify(disabled)
    return node


def removeUnusedTables() -> None:
    """Remove the tables of clipped maps that are no longer in the scene."""
    displays = slicer.util.getNodesByClass("vtkMRMLDisplayNode")
    used = {display.GetColorNodeID() for display in displays if display.GetDisplayableNode() is not None}
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if node.GetAttribute(_CLIPPED_BELOW) is not None and node.GetID() not in used:
            slicer.mrmlScene.RemoveNode(node)


def clippedBelow(node: slicer.vtkMRMLColorNode | None) -> float:
    """Return the threshold of a signed map's colors."""
    text = node.GetAttribute(_CLIPPED_BELOW) if node is not None else None
    return float(text) if text else 0.0


def _isFilled(node: slicer.vtkMRMLColorTableNode) -> bool:
    return node.GetType() == slicer.vtkMRMLColorTableNode.User and node.GetNumberOfColors() == NUMBER_OF_COLORS


def _description(ramp: _Ramp) -> str:
    if ramp is _HEAT:
        return _("Evidence from none (transparent) to much (light yellow)")
    return _("Evidence against (blue), none (transparent), for (red)")


def _fill(node: slicer.vtkMRMLColorTableNode, ramp: _Ramp) -> None:
    node.SetName(ramp.name)
    node.SetDescription(_description(ramp))
    node.SetAttribute("Category", translate("qSlicerAbstractCoreModule", "SlicerXAI"))
    node.SetTypeToUser()
    node.SetNumberOfColors(NUMBER_OF_COLORS)
    for index, (red, green, blue, opacity) in enumerate(ramp.table()):
        node.SetColor(index, f"{ramp.name} {index}", red, green, blue, opacity)
