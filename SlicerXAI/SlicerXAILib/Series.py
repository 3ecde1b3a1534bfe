"""A result's series of images: one node in the scene shows one image after the other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import slicer

from .Navigation import jumpTo
from .ResultAttributes import PROVENANCE, ROLE, SERIES_IMAGE, TASK, UNITS

_TITLE_WITH_UNIT = re.compile(r"^(?P<title>.+) \((?P<unit>[^()]+)\)$")
_TOLD_COLUMNS = 2


def browserOf(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLSequenceBrowserNode | None:
    return slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequenceNode)


def beginSeries(sequenceNode: slicer.vtkMRMLSequenceNode, browserName: str, imageName: str) -> tuple[Any, Any]:
    """Show the first image of a series in a node of the scene; returns the browser and that node, if there is one.

    A browser that was just made has chosen no image, and makes no node until it has.
    """
    browser = browserOf(sequenceNode)
    if browser is None:
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", browserName)
        browser.AddSynchronizedSequenceNode(sequenceNode)
    browser.SetOverwriteProxyName(sequenceNode, False)
    if browser.GetSelectedItemNumber() < 0:
        browser.SetSelectedItemNumber(0)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    image = browser.GetProxyNode(sequenceNode)
    if image is not None:
        image.SetName(imageName)
    return browser, image


def labelImages(sequenceNode: slicer.vtkMRMLSequenceNode) -> None:
    """Write on every image what it is and how it was made: the node that shows one takes over its attributes."""
    attributes = {name: sequenceNode.GetAttribute(name) for name in (TASK, ROLE, UNITS, PROVENANCE)}
    attributes[SERIES_IMAGE] = "1"
    images = [sequenceNode.GetNthDataNode(index) for index in range(sequenceNode.GetNumberOfDataNodes())]
    for image in [*images, imageOf(sequenceNode)]:
        if image is None or image.GetAttribute(SERIES_IMAGE):
            continue
        modified = image.StartModify()
        for name, value in attributes.items():
            image.SetAttribute(name, value)
        image.EndModify(modified)


def imageOf(sequenceNode: slicer.vtkMRMLSequenceNode) -> Any:
    """Return the node that shows the images of a series, or None."""
    browser = browserOf(sequenceNode)
    return browser.GetProxyNode(sequenceNode) if browser is not None else None


def showItem(sequenceNode: slicer.vtkMRMLSequenceNode, index: int) -> None:
    """Show one image of a series in the slice views, without the map that lies over another image."""
    browser = browserOf(sequenceNode)
    if browser is None:
        return
    browser.SetSelectedItemNumber(index)
    image = browser.GetProxyNode(sequenceNode)
    if image is None or not image.IsA("vtkMRMLScalarVolumeNode"):
        return
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    if all(node.GetBackgroundVolumeID() == image.GetID() and not node.GetForegroundVolumeID() for node in composites):
        return
    slicer.util.setSliceViewerLayers(background=image, foreground=None)
    bounds = [0.0] * 6
    image.GetRASBounds(bounds)
    jumpTo(tuple((low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2])))


def shownItem(sequenceNode: slicer.vtkMRMLSequenceNode) -> int:
    browser = browserOf(sequenceNode)
    return max(browser.GetSelectedItemNumber(), 0) if browser is not None else 0


def itemText(sequenceNode: slicer.vtkMRMLSequenceNode, nodes: Iterable[Any]) -> str:
    """Return which image of a series is shown, with what a table of its result says of it."""
    index, count = shownItem(sequenceNode), sequenceNode.GetNumberOfDataNodes()
    tables = (node for node in nodes if node.IsA("vtkMRMLTableNode") and node.GetNumberOfRows() == count)
    table = next(tables, None)
    if table is not None:
        words = _rowWords(table.GetTable(), index)
    elif count:
        title, unit = sequenceNode.GetIndexName() or "", sequenceNode.GetIndexUnit() or ""
        words = [f"{title} {sequenceNode.GetNthIndexValue(index)} {unit}".strip()]
    else:
        words = []
    return ", ".join([f"{index + 1} / {count}", *words])


def removeLostImages() -> None:
    """Remove the images of series that are no longer in the scene."""
    logic = slicer.modules.sequences.logic()
    for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode"):
        if node.GetAttribute(SERIES_IMAGE) and logic.GetFirstBrowserNodeForProxyNode(node) is None:
            slicer.mrmlScene.RemoveNode(node)


def _rowWords(table: Any, row: int) -> list[str]:
    """Return ``shift -1.88 SD`` for a column called ``shift (SD)``; without the column that counts the rows."""
    words = []
    for index in range(table.GetNumberOfColumns()):
        column = table.GetColumn(index)
        value = column.GetVariantValue(row)
        if column.IsNumeric() and all(column.GetTuple1(at) == at for at in range(table.GetNumberOfRows())):
            continue
        shown = f"{value.ToDouble():.3g}" if value.IsNumeric() else value.ToString()
        match = _TITLE_WITH_UNIT.match(column.GetName() or "")
        words.append(f"{match['title']} {shown} {match['unit']}" if match else f"{column.GetName()} {shown}")
    return words[:_TOLD_COLUMNS]
