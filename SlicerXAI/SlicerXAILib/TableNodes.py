"""Tables from CSV files, with columns of numbers where all cells are numbers, and charts from tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import slicer
import vtk

_CHART_TYPES = {"line": "PlotTypeLine", "scatter": "PlotTypeScatter", "bar": "PlotTypeBar"}


def tableFromFile(path: str | Path, name: str) -> slicer.vtkMRMLTableNode:
    """Add a table node with the content of a CSV (or, by its name, TSV) file; its first row names the columns.

    Slicer's reader makes text of every column of a file without a schema; charts need numbers.
    """
    path = Path(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with open(path, encoding="utf-8", newline="") as stream:
        header, *rows = list(csv.reader(stream, delimiter=delimiter)) or [[]]
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    node.SetUseColumnTitleAsColumnHeader(True)
    for index, title in enumerate(header):
        node.AddColumn(_column(title, [row[index] if index < len(row) else "" for row in rows]))
    return node


def chartFromTable(tableNode: slicer.vtkMRMLTableNode, name: str, hints: Mapping[str, Any]) -> list[Any]:
    """Add a chart of a table's columns; returns the chart node followed by its series nodes.

    :param hints: ``x`` and ``y``, column names (``y`` one or several); ``type``, one of line, scatter and bar;
      ``title``, ``x_title`` and ``y_title``.
    """
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", name)
    chart.SetTitle(str(hints.get("title") or name))
    chart.SetXAxisTitle(str(hints.get("x_title") or hints.get("x") or ""))
    chart.SetYAxisTitle(str(hints.get("y_title") or ""))
    yColumns = hints.get("y") or []
    series = [
        _series(tableNode, f"{name} {column}", hints, column)
        for column in ([yColumns] if isinstance(yColumns, str) else yColumns)
    ]
    for node in series:
        chart.AddAndObservePlotSeriesNodeID(node.GetID())
    return [chart, *series]


def _series(
    tableNode: slicer.vtkMRMLTableNode, name: str, hints: Mapping[str, Any], yColumn: str
) -> slicer.vtkMRMLPlotSeriesNode:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", name)
    node.SetAndObserveTableNodeID(tableNode.GetID())
    chartType = _CHART_TYPES.get(hints.get("type", "line"), "PlotTypeLine")
    node.SetPlotType(getattr(slicer.vtkMRMLPlotSeriesNode, chartType))
    xColumn = str(hints.get("x") or "")
    isText = isinstance(tableNode.GetTable().GetColumnByName(xColumn), vtk.vtkStringArray)
    if isText:  # words stand below the bars or points, which are counted
        node.SetLabelColumnName(xColumn)
    else:
        node.SetXColumnName(xColumn)
    node.SetYColumnName(yColumn)
    node.SetUniqueColor()
    return node


def _column(title: str, cells: Sequence[str]) -> vtk.vtkAbstractArray:
    """Return integers, or numbers with NaN for empty cells, or text, whichever holds the cells first."""
    filled = [cell for cell in cells if cell != ""]
    if filled and len(filled) == len(cells) and all(_isNumber(cell, int) for cell in cells):
        array, values = vtk.vtkLongLongArray(), [int(cell) for cell in cells]
    elif filled and all(_isNumber(cell, float) for cell in filled):
        array, values = vtk.vtkDoubleArray(), [float(cell or "nan") for cell in cells]
    else:
        array, values = vtk.vtkStringArray(), cells
    array.SetName(title)
    for value in values:
        array.InsertNextValue(value)
    return array


def _isNumber(cell: str, kind: type) -> bool:
    try:
        kind(cell)
    except ValueError:
        return False
    return True
