"""Shows a table node; a click on a row goes to the place that it names."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from .. import Navigation


class TableView:
    """A chooser of tables above a table."""

    def __init__(self, ui: Any) -> None:
        self._area, self._selector, self._table = ui.tableArea, ui.tableSelector, ui.resultTable
        self._common = ui.tableCommonLabel
        self._chartButton = ui.tableChartButton
        self._nodes: list[slicer.vtkMRMLTableNode] = []
        self._selector.connect("currentIndexChanged(int)", self._onTable)
        self._table.connect("cellClicked(int,int)", self._onRow)
        self._chartButton.connect("clicked(bool)", self._onChart)

    @property
    def node(self) -> slicer.vtkMRMLTableNode | None:
        index = self._selector.currentIndex
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def setNodes(self, nodes: list[slicer.vtkMRMLTableNode], titles: list[str]) -> None:
        self._nodes = nodes
        self._selector.blockSignals(True)
        self._selector.clear()
        self._selector.addItems(titles)
        self._selector.blockSignals(False)
        self._area.setVisible(bool(nodes))
        self._onTable(0)

    def _onTable(self, _index: int) -> None:
        self._table.clear()
        self._table.setRowCount(0)
        self._common.setVisible(False)
        if self.node is None:
            return
        table = self.node.GetTable()
        rows = table.GetNumberOfRows()
        columns = {index: table.GetColumnName(index) or "" for index in range(table.GetNumberOfColumns())}
        common = {index: _text(table.GetValue(0, index)) for index in columns if _isCommon(table, index)}
        self._common.text = "\n".join(f"{columns[index]}: {text}" for index, text in common.items() if text)
        self._common.setVisible(bool(self._common.text))
        shown = [index for index in columns if index not in common]
        self._table.setColumnCount(len(shown))
        self._table.setRowCount(rows)
        self._table.setHorizontalHeaderLabels([columns[index] for index in shown])
        for row in range(rows):
            for place, column in enumerate(shown):
                self._table.setItem(row, place, qt.QTableWidgetItem(_text(table.GetValue(row, column))))
        self._table.resizeColumnsToContents()
        self._table.verticalHeader().setVisible(False)
        self._chartButton.enabled = rows > 0

    def _onRow(self, row: int) -> None:
        place = Navigation.positionOfRow(self.node, row) if self.node is not None else None
        if place is not None:
            Navigation.jumpTo(place)

    def _onChart(self) -> None:
        chart = Navigation.barChart(self.node) if self.node is not None else None
        if chart is not None:
            Navigation.showChart(chart)


def _isCommon(table: Any, column: int) -> bool:
    """Whether several rows say the same in a column of words, or all of them nothing."""
    cells = {_text(table.GetValue(row, column)) for row in range(table.GetNumberOfRows())}
    isWords = not table.GetColumn(column).IsNumeric() or cells == {""}
    return isWords and len(cells) == 1 and table.GetNumberOfRows() > 1


def _text(value: Any) -> str:
    """Return a cell as a reader wants it: three or four figures, nothing where there is none."""
    if not value.IsNumeric():
        return value.ToString()
    number = value.ToDouble()
    if number != number:
        return ""
    return f"{number:.4g}" if abs(number) < 1e5 and number != int(number) else f"{number:.0f}"
