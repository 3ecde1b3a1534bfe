"""The color bar of a map in the views: its name, its units, and which value has which color."""

from __future__ import annotations

import textwrap
from typing import Any

import slicer

from .ResultAttributes import UNITS
from .ResultRecord import shortName

_POSITION = (0.97, 0.5)
_SIZE = (0.15, 0.6)
_LABEL_COUNT = 5
# Slicer draws labels, and the title, as large as there is room: labels of one length keep them one size.
_LABEL_FORMAT = "%7.2g"
_FONT_SIZE = 12
# Of the title: what is longer makes Slicer draw all of it smaller.
_LINE_LETTERS, _MOST_LINES = 24, 3


def showLegend(mapNode: slicer.vtkMRMLScalarVolumeNode) -> Any:
    """Add a color legend to a map unless it has one; Slicer draws it in the views that show the map.

    Returns its display node; None where this Slicer knows no legends.
    """
    logic = slicer.modules.colors.logic()
    if not hasattr(logic, "AddDefaultColorLegendDisplayNode"):
        return None
    known = logic.GetColorLegendDisplayNode(mapNode)
    if known is not None:
        return known
    legend = logic.AddDefaultColorLegendDisplayNode(mapNode)
    if legend is None:
        return None
    units = mapNode.GetAttribute(UNITS)
    lines = textwrap.wrap(shortName(mapNode), _LINE_LETTERS, max_lines=_MOST_LINES, placeholder=" ...")
    legend.SetTitleText("\n".join([*lines, units] if units else lines))
    legend.SetPosition(*_POSITION)
    legend.SetSize(*_SIZE)
    legend.SetNumberOfLabels(_LABEL_COUNT)
    legend.SetLabelFormat(_LABEL_FORMAT)
    legend.GetTitleTextProperty().SetFontSize(_FONT_SIZE)
    return legend


def redrawLegend(mapNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Have the color legend of a map drawn in views that were made after it."""
    logic = slicer.modules.colors.logic()
    known = logic.GetColorLegendDisplayNode(mapNode) if hasattr(logic, "GetColorLegendDisplayNode") else None
    if known is not None and known.GetVisibility():
        known.SetVisibility(False)
        known.SetVisibility(True)
