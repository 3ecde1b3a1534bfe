"""What the scene holds of earlier runs: numbers, maps, tables, curves, series, and how they were made."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .. import Display, Navigation, Series
from ..Compare import endComparison
from ..EngineErrors import EngineError
from ..FileNames import fileName
from ..LoadedResult import LoadedResult
from ..Provenance import provenanceOf
from ..ResultRecord import explainedNode, recordsInScene, removeOrphans, resultOf, shortName, titleOf
from ..Signal import Signal
from ..TaskDescriptions import readTasks
from .MapControls import MapControls
from .PictureView import PictureView
from .TableView import TableView


class ResultsView:
    """Follows the scene, so that a reopened one shows its results too.

    Signals: ``told(text)``, ``failed(EngineError)``, ``rerunAsked(record)``, ``chosen(record)``.
    """

    def __init__(self, ui: Any, writeReport: Callable[[Any, str], Any]) -> None:
        self.told, self.failed = Signal(), Signal()
        self.rerunAsked, self.chosen = Signal(), Signal()
        self._ui, self._writeReport = ui, writeReport
        self._records: list[Any] = []
        self._charts: list[Any] = []
        self._result: LoadedResult | None = None
        self.maps, self.tables, self.pictures = MapControls(ui), TableView(ui), PictureView(ui)
        self.pictures.failed.connect(self.failed.emit)
        ui.resultSelector.connect("currentIndexChanged(int)", self._onResult)
        ui.seriesSlider.connect("valueChanged(double)", self._onSeries)
        ui.chartButton.connect("clicked(bool)", self._onChart)
        ui.show3DCheckBox.connect("toggled(bool)", self._on3D)
        ui.reportButton.connect("clicked(bool)", self._onReport)
        ui.rerunButton.connect("clicked(bool)", self._onRerun)
        self._following = qt.QTimer()
        self._following.setSingleShot(True)
        self._following.setInterval(0)
        self._following.connect("timeout()", self._follow)
        self.refresh()

    @property
    def record(self) -> Any:
        """The record node of the chosen result, or None."""
        index = self._ui.resultSelector.currentIndex
        return self._records[index] if 0 <= index < len(self._records) else None

    def refresh(self, chosen: Any = None) -> None:
        """List the results in the scene; keeps the chosen one, or chooses the given one, or the last."""
        chosen = chosen or self.record
        self._records = recordsInScene()
        selector = self._ui.resultSelector
        selector.blockSignals(True)
        selector.clear()
        selector.addItems([titleOf(record) for record in self._records])
        selector.blockSignals(False)
        if self._records:
            selector.setCurrentIndex(
                self._records.index(chosen) if chosen in self._records else len(self._records) - 1
            )
        self._ui.resultsButton.setVisible(bool(self._records))
        self._fill()

    def followSoon(self) -> None:
        """List what is in the scene, once the event loop is reached: nodes came or went."""
        self._following.start()

    def close(self) -> None:
        self._following.stop()
        self.pictures.close()

    def _follow(self) -> None:
        if slicer.mrmlScene.IsBatchProcessing():
            return
        removeOrphans()
        shown = self._result.nodes.values() if self._result is not None else ()
        isWhole = all(slicer.mrmlScene.IsNodePresent(node) for node in shown)
        if not isWhole or self._records != recordsInScene():
            self.refresh()

    def show(self, loaded: LoadedResult) -> None:
        """Show a new result in the views, at the strongest place of its map, and here."""
        endComparison()
        Display.showResult(loaded, explainedNode(loaded))
        shown = _firstMap(loaded)
        place = Navigation.strongestPoint(shown) if shown is not None else None
        if place is not None:
            Navigation.jumpTo(place)
        self.refresh(loaded.record)
        self.chosen.emit(self.record)

    def _onResult(self, _index: int) -> None:
        self._fill()
        if self._result is not None:
            endComparison()
            Display.showResult(self._result, explainedNode(self._result))
            self.maps.choose(_firstMap(self._result))
        self.chosen.emit(self.record)

    def _fill(self) -> None:
        record, ui = self.record, self._ui
        self._result = resultOf(record) if record is not None else None
        if self._result is None:
            return
        nodes = self._result.nodes = _inOrder(self._result)
        ui.valuesLabel.text = valuesText(self._result)
        ui.valuesLabel.setVisible(bool(ui.valuesLabel.text))
        ui.warningsLabel.text = "\n".join(_("Note: {text}").format(text=text) for text in self._result.warnings)
        ui.warningsLabel.setVisible(bool(self._result.warnings))
        ui.verdictLabel.text = "\n".join(_texts(self._result))
        ui.verdictLabel.setVisible(bool(ui.verdictLabel.text))
        self.pictures.setPictures(self._result)
        firstMap = _firstMap(self._result)
        ui.mapArea.setVisible(firstMap is not None)
        if self.maps.map not in nodes.values():
            self.maps.choose(firstMap)
        tables = {role: node for role, node in nodes.items() if node.IsA("vtkMRMLTableNode")}
        self.tables.setNodes(list(tables.values()), [shortName(node) for node in tables.values()])
        self._charts = [node for node in nodes.values() if node.IsA("vtkMRMLPlotChartNode")]
        ui.chartSelector.clear()
        ui.chartSelector.addItems([shortName(node).removesuffix(" (chart)") for node in self._charts])
        ui.chartArea.setVisible(bool(self._charts))
        self._fillSeries()
        ui.show3DCheckBox.setVisible(bool(self._segmentations()))
        ui.show3DCheckBox.blockSignals(True)
        ui.show3DCheckBox.checked = any(_isIn3D(node) for node in self._segmentations())
        ui.show3DCheckBox.blockSignals(False)
        ui.provenanceLabel.text = _provenance(self._result)

    def _segmentations(self) -> list[Any]:
        """Return what was found, without what was only looked into (hidden lungs)."""
        found = [node for node in self._result.nodes.values() if node.IsA("vtkMRMLSegmentationNode")]
        return [node for node in found if node.GetDisplayNode() is not None and node.GetDisplayNode().GetVisibility()]

    def _series(self) -> Any:
        if self._result is None:
            return None
        nodes = self._result.nodes.values()
        return next((node for node in nodes if node.IsA("vtkMRMLSequenceNode")), None)

    def _fillSeries(self) -> None:
        series, slider = self._series(), self._ui.seriesSlider
        self._ui.seriesArea.setVisible(series is not None)
        if series is None:
            return
        slider.blockSignals(True)
        slider.minimum, slider.maximum = 0, max(series.GetNumberOfDataNodes() - 1, 0)
        Series.labelImages(series)
        slider.value = Series.shownItem(series)
        slider.blockSignals(False)
        self._tellItem()

    def _onSeries(self, value: float) -> None:
        series = self._series()
        if series is not None:
            endComparison()
            Series.showItem(series, round(value))
            self._tellItem()

    def _tellItem(self) -> None:
        self._ui.seriesText.text = Series.itemText(self._series(), list(self._result.nodes.values()))

    def _onChart(self) -> None:
        index = self._ui.chartSelector.currentIndex
        if 0 <= index < len(self._charts) and slicer.mrmlScene.IsNodePresent(self._charts[index]):
            Navigation.showChart(self._charts[index])

    def _on3D(self, visible: bool) -> None:
        for node in self._segmentations():
            Navigation.showSurfaces(node, visible)

    def _onReport(self) -> None:
        name = fileName(self._result.inputName, self._result.task, extension=".html")
        path = qt.QFileDialog.getSaveFileName(None, _("Write the report"), name, _("Web pages (*.html)"))
        path = path[0] if isinstance(path, tuple) else path
        if not path:
            return
        try:
            self.told.emit(_("Report: {path}").format(path=self._writeReport(self.record, path)))
        except EngineError as error:
            self.failed.emit(error)

    def _onRerun(self) -> None:
        if self.record is not None:
            self.rerunAsked.emit(self.record)


def valuesText(loaded: LoadedResult) -> str:
    """Return the numbers of a result as a table in rich text, with the titles and units of the description."""
    described = {value["name"]: value for value in readTasks().get(loaded.task, {"values": []})["values"]}
    rows = []
    for name, value in loaded.values.items():
        entry = described.get(name)
        if entry is None or value is None or value == "":
            continue
        shown = f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))
        unit = f" {entry['unit']}" if entry["unit"] else ""
        rows.append(f"<tr><td>{entry['title']}&nbsp;&nbsp;</td><td><b>{shown}{unit}</b></td></tr>")
    return f"<table>{''.join(rows)}</table>" if rows else ""


def _inOrder(loaded: LoadedResult) -> dict[str, Any]:
    """Return the nodes by role as the engine listed them: what matters most comes first."""
    order = list(loaded.hints)
    roles = sorted(loaded.nodes, key=lambda role: order.index(role) if role in order else len(order))
    return {role: loaded.nodes[role] for role in roles}


def _firstMap(loaded: LoadedResult) -> Any:
    volumes = {role: node for role, node in loaded.nodes.items() if node.IsA("vtkMRMLScalarVolumeNode")}
    colored = [node for role, node in volumes.items() if loaded.hints.get(role, {}).get("colors")]
    return next(iter(colored or volumes.values()), None)


def _texts(loaded: LoadedResult) -> list[str]:
    """Return the sentences of a result that are not among its values."""
    nodes = [node for node in loaded.nodes.values() if node.IsA("vtkMRMLTextNode")]
    lines = [line.strip() for node in nodes for line in (node.GetText() or "").splitlines()]
    told = {str(value).strip() for value in loaded.values.values()}
    return [line for line in lines if line and line not in told]


def _isIn3D(node: Any) -> bool:
    hasSurface = node.GetSegmentation().ContainsRepresentation("Closed surface")
    return hasSurface and bool(node.GetDisplayNode().GetVisibility3D())


def _provenance(loaded: LoadedResult) -> str:
    node = next(iter(loaded.nodes.values()), None)
    try:
        return str(provenanceOf(node))
    except EngineError as error:
        return error.message
