"""Tables from CSV files, with columns of numbers where all cells are numbers, and charts from tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

_CHART_TYPES = {"line": "PlotTypeLine", "scatter": "PlotTypeScatter", "bar": "PlotTypeBar"}


@dataclass(frozen=True)
class Column:
    """A column of a table: whole numbers, numbers with NaN for empty cells, or words, whichever its cells hold."""

    title: str
    cells: np.ndarray | list[str]


def readColumns(path: str | Path) -> list[Column]:
    """Return the content of a CSV (or, by its name, TSV) file, whose first row names the columns; touches no node.

    Slicer's reader makes text of every column of a file without a schema; charts need numbers.
    """
    path = Path(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with open(path, encoding="utf-8", newline="") as stream:
        header, *rows = list(csv.reader(stream, delimiter=delimiter)) or [[]]
    return [
        Column(title, _cells([row[index] if index < len(row) else "" for row in rows]))
        for index, title in enumerate(header)
    ]


def addTable(columns: Sequence[Column], name: str) -> slicer.vtkMRMLTableNode:
    """Add a table node with these columns."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    node.SetUseColumnTitleAsColumnHeader(True)
    for column in columns:
        node.AddColumn(_array(column))
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
    if chartType == "PlotTypeBar":
        _makeWords(tableNode, xColumn)
    isText = isinstance(tableNode.GetTable().GetColumnByName(xColumn), vtk.vtkStringArray)
    if isText:  # words stand below the bars or points, which are counted
        node.SetLabelColumnName(xColumn)
    else:
        node.SetXColumnName(xColumn)
    node.SetYColumnName(yColumn)
    node.SetUniqueColor()
    return node


def _makeWords(tableNode: slicer.vtkMRMLTableNode, title: str) -> None:
    """Turn a column of whole numbers that name the rows (lesion 1, 2, ...) into words: Slicer names bars by words
    alone, and would draw the bars of numbers at 0, 1, 2, ..."""
    table = tableNode.GetTable()
    column = table.GetColumnByName(title)
    if column is None or isinstance(column, vtk.vtkStringArray):
        return
    words = vtk.vtkStringArray()
    words.SetName(title)
    for row in range(column.GetNumberOfTuples()):
        words.InsertNextValue(f"{column.GetTuple1(row):g}")
    place = next(index for index in range(table.GetNumberOfColumns()) if table.GetColumnName(index) == title)
    table.RemoveColumn(place)
    table.InsertColumn(words, place)
    tableNode.Modified()


def _cells(words: Sequence[str]) -> np.ndarray | list[str]:
    filled = [word for word in words if word != ""]
    if filled and len(filled) == len(words) and all(_isNumber(word, int) for word in words):
        return np.array([int(word) for word in words], np.int64)
    if filled and all(_isNumber(word, float) for word in filled):
        return np.array([float(word or "nan") for word in words])
    return list(words)


def _array(column: Column) -> vtk.vtkAbstractArray:
    if isinstance(column.cells, list):
        array = vtk.vtkStringArray()
        for cell in column.cells:
            array.InsertNextValue(cell)
    else:
        array = vtk.vtkLongLongArray() if column.cells.dtype.kind == "i" else vtk.vtkDoubleArray()
        array.SetNumberOfValues(len(column.cells))
        vtk_to_numpy(array)[:] = column.cells
    array.SetName(column.title)
    return array


def _isNumber(cell: str, kind: type) -> bool:
    try:
        kind(cell)
    except ValueError:
        return False
    return True
