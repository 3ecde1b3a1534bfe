"""Goes to places and shows what is not a slice: rows of tables, charts, surfaces, images of a series."""

from __future__ import annotations

import re

import slicer
import vtk

from .MapValues import strongestVoxel
from .ResultAttributes import STRONGEST
from .TableNodes import chartFromTable
from .Translation import tr as _

# "centroid R (mm)", "peak A (mm)", "R (mm)"
_COORDINATE = re.compile(r"^(.*\b|)([RAS]) \(mm\)$")


def positionOfRow(tableNode: slicer.vtkMRMLTableNode, row: int) -> tuple[float, float, float] | None:
    """Return the place in RAS mm that a row of a table names; None where its columns name none."""
    found: dict[str, dict[str, float]] = {}
    table = tableNode.GetTable()
    for index in range(table.GetNumberOfColumns()):
        match = _COORDINATE.match(table.GetColumnName(index) or "")
        value = table.GetValue(row, index)
        if match and value.IsNumeric():
            found.setdefault(match.group(1), {})[match.group(2)] = value.ToDouble()
    return next(((place["R"], place["A"], place["S"]) for place in found.values() if len(place) == 3), None)


def jumpTo(ras: tuple[float, float, float], centered: bool = True) -> None:
    """Show the slices through a place in RAS mm in every view; centered, the place moves to the middle of the view."""
    sliceNode = slicer.vtkMRMLSliceNode
    mode = sliceNode.CenteredJumpSlice if centered else sliceNode.OffsetJumpSlice
    sliceNode.JumpAllSlices(slicer.mrmlScene, *ras, mode)


def strongestPoint(mapNode: slicer.vtkMRMLScalarVolumeNode) -> tuple[float, float, float] | None:
    """Return the place in RAS mm of a map's value of largest size; None where the map is zero everywhere.

    A map of a result knows its voxel; others are looked through.
    """
    known = mapNode.GetAttribute(STRONGEST)
    if known is None:
        voxel = strongestVoxel(slicer.util.arrayFromVolume(mapNode))
    else:
        voxel = tuple(int(number) for number in known.split())
    if not voxel:
        return None
    matrix = vtk.vtkMatrix4x4()
    mapNode.GetIJKToRASMatrix(matrix)
    place = matrix.MultiplyPoint([*map(float, voxel), 1.0])[:3]
    toWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(mapNode.GetParentTransformNode(), None, toWorld)
    return tuple(toWorld.TransformPoint(place))


def showChart(chartNode: slicer.vtkMRMLPlotChartNode) -> None:
    """Show a chart in a plot view; the layout gets one if it has none."""
    slicer.modules.plots.logic().ShowChartInLayout(chartNode)


def barChart(tableNode: slicer.vtkMRMLTableNode) -> slicer.vtkMRMLPlotChartNode | None:
    """Return a chart of a table: bars named by its first column or by its regions; None where it has no numbers.

    The chart is made once for each table. The column drawn is the first share in percent, or else the first of
    numbers beside the one that names the rows.
    """
    name = _("{table} chart").format(table=tableNode.GetName())
    chart = slicer.mrmlScene.GetFirstNodeByName(name)
    if chart is not None and chart.IsA("vtkMRMLPlotChartNode"):
        return chart
    table = tableNode.GetTable()
    columns = {table.GetColumnName(index): table.GetColumn(index) for index in range(table.GetNumberOfColumns())}
    numbers = [title for title, column in columns.items() if column.IsNumeric()]
    words = [title for title, column in columns.items() if not column.IsNumeric()]
    if not numbers or not table.GetNumberOfRows():
        return None
    named = next((title for title in words if title in ("segment", "region", "concept")), next(iter(columns)))
    others = [title for title in numbers if title != named] or numbers
    shown = next((title for title in others if "share" in title or "(%)" in title), others[0])
    hints = {"type": "bar", "x": named, "y": [shown], "title": tableNode.GetName(), "y_title": shown}
    return chartFromTable(tableNode, name, hints)[0]


def showSurfaces(segmentationNode: slicer.vtkMRMLSegmentationNode, visible: bool) -> None:
    """Show or hide the surfaces of segments in the 3D views; they are made when first shown."""
    if visible:
        segmentationNode.CreateClosedSurfaceRepresentation()
    if segmentationNode.GetDisplayNode() is None:
        segmentationNode.CreateDefaultDisplayNodes()
    display = segmentationNode.GetDisplayNode()
    display.SetVisibility3D(visible)
    if visible:
        display.SetVisibility(True)


def showItem(sequenceNode: slicer.vtkMRMLSequenceNode, index: int) -> None:
    """Show one image of a series."""
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequenceNode)
    if browser is not None:
        browser.SetSelectedItemNumber(index)


def shownItem(sequenceNode: slicer.vtkMRMLSequenceNode) -> int:
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequenceNode)
    return max(browser.GetSelectedItemNumber(), 0) if browser is not None else 0


def itemText(sequenceNode: slicer.vtkMRMLSequenceNode, nodes: list) -> str:
    """Return which image of a series is shown, with what the tables of its result say of it."""
    index = shownItem(sequenceNode)
    count = sequenceNode.GetNumberOfDataNodes()
    words = [f"{index + 1} / {count}"]
    title, unit = sequenceNode.GetIndexName() or "", sequenceNode.GetIndexUnit() or ""
    if count:
        words.append(f"{title} {sequenceNode.GetNthIndexValue(index)} {unit}".strip())
    for node in nodes:
        if node.IsA("vtkMRMLTableNode") and node.GetNumberOfRows() == count:
            table = node.GetTable()
            cells = [
                (table.GetColumnName(column), table.GetValue(index, column))
                for column in range(min(4, table.GetNumberOfColumns()))
            ]
            words += [f"{name}: {value.ToString()}" for name, value in cells]
            break
    return ", ".join(words)
