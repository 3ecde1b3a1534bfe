"""Goes to places, and shows what is not a slice: charts and surfaces."""

from __future__ import annotations

import re

import slicer
import vtk

from .MapValues import strongestVoxel
from .ResultAttributes import STRONGEST
from .SubjectHierarchy import placeBeside
from .TableNodes import chartFromTable
from .Translation import tr as _

# "centroid R (mm)", "peak A (mm)", "R (mm)"
_COORDINATE = re.compile(r"^(.*\b|)([RAS]) \(mm\)$")
# The rim of a view, as a part of its width and height, in which a place counts as out of sight.
_EDGE = 0.05


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


def jumpTo(ras: tuple[float, float, float]) -> None:
    """Show the slices through a place in RAS mm in every view.

    What a view shows of the slice stays as it is, unless the place is out of sight: then it moves to the middle.
    """
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByOffsetting(*ras)
        if not _isInSight(node, ras):
            node.JumpSliceByCentering(*ras)


def _isInSight(sliceNode: slicer.vtkMRMLSliceNode, ras: tuple[float, float, float]) -> bool:
    toView = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(sliceNode.GetXYToRAS(), toView)
    place, size = toView.MultiplyPoint([*ras, 1.0]), sliceNode.GetDimensions()
    return all(_EDGE * length <= at <= (1 - _EDGE) * length for at, length in zip(place[:2], size[:2]))


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
    chart, *series = chartFromTable(tableNode, name, hints)
    for node in (chart, *series):
        placeBeside(node, tableNode)
    return chart


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
