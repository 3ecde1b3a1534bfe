"""Two maps of one scan side by side, in linked views of their own."""

from __future__ import annotations

from typing import Any

import slicer

from .ColorLegend import redrawLegend
from .Display import showLegendOf
from .EventPump import callSoon
from .Navigation import jumpTo, strongestPoint

# Slicer keeps numbers above 500 for layouts of modules.
COMPARE_LAYOUT = 8702
VIEW_NAMES = ("XAICompareLeft", "XAICompareRight")
_USUAL_LAYOUT = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
_PREVIOUS_LAYOUT = "XAI.PreviousLayout"
_FITTED_TO = "XAI.FittedTo"

_VIEW = (
    '<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
    '<property name="orientation" action="default">Axial</property>'
    '<property name="viewlabel" action="default">{label}</property>'
    '<property name="viewcolor" action="default">{color}</property></view></item>'
)
_LAYOUT = '<layout type="horizontal" split="true">{views}</layout>'.format(
    views="".join(
        _VIEW.format(name=name, label=label, color=color)
        for name, label, color in zip(VIEW_NAMES, ("A", "B"), ("#F34A33", "#EDD54C"))
    )
)


def compareMaps(left: Any, right: Any, background: Any, opacity: float) -> None:
    """Show two maps over the same scan, side by side; moving one view moves the other."""
    layout = _layoutNode()
    if layout.GetViewArrangement() != COMPARE_LAYOUT:
        layout.SetAttribute(_PREVIOUS_LAYOUT, str(layout.GetViewArrangement()))
    if not layout.IsLayoutDescription(COMPARE_LAYOUT):
        layout.AddLayoutDescription(COMPARE_LAYOUT, _LAYOUT)
    layout.SetViewArrangement(COMPARE_LAYOUT)
    for name, mapNode in zip(VIEW_NAMES, (left, right)):
        composite = compositeNode(name)
        if composite is None:  # without a main window there are no views
            continue
        composite.SetLinkedControl(True)
        composite.SetHotLinkedControl(True)
        if background is not None:
            composite.SetBackgroundVolumeID(background.GetID())
        composite.SetForegroundVolumeID(mapNode.GetID())
        composite.SetForegroundOpacity(opacity)
        showLegendOf(mapNode)
    # New views get their size in a later turn of the event loop; what is fitted before shows a part of the picture.
    callSoon(lambda: _complete(left, right, background))


def _complete(left: Any, right: Any, background: Any) -> None:
    """Fit the views that have not shown this scan yet, go to the strongest place, and draw every color bar."""
    if not isComparing():
        return
    fitted = [_fit(name, background) for name in VIEW_NAMES] if background is not None else []
    if any(fitted) and (place := strongestPoint(left)) is not None:
        jumpTo(place)
    for mapNode in (left, right):
        redrawLegend(mapNode)


def endComparison() -> None:
    """Go back to the layout that was there before."""
    layout = _layoutNode()
    if layout.GetViewArrangement() == COMPARE_LAYOUT:
        layout.SetViewArrangement(int(layout.GetAttribute(_PREVIOUS_LAYOUT) or _USUAL_LAYOUT))


def isComparing() -> bool:
    layout = _layoutNode(create=False)
    return layout is not None and layout.GetViewArrangement() == COMPARE_LAYOUT


def compositeNode(viewName: str) -> Any:
    """Return the node that says what a slice view shows, or None."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return next((node for node in nodes if node.GetLayoutName() == viewName), None)


def _layoutNode(create: bool = True) -> Any:
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is None and create:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLayoutNode")
    return node


def _fit(viewName: str, background: Any) -> bool:
    """Fit a view to a scan unless it was fitted to it before; returns whether it was fitted now.

    What a view shows does not tell: Slicer writes the scan into the layers of every view at once.
    """
    layoutManager = slicer.app.layoutManager()
    widget = layoutManager.sliceWidget(viewName) if layoutManager is not None else None
    if widget is None:
        return False
    logic = widget.sliceLogic()
    node = logic.GetSliceNode()
    if node.GetAttribute(_FITTED_TO) == background.GetID():
        return False
    logic.FitSliceToBackground()
    node.SetAttribute(_FITTED_TO, background.GetID())
    return True
