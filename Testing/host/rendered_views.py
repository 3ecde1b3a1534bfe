"""Pictures of views as Slicer's displayable managers draw them, rendered off the screen: outlines of segments and
color legends in slices, surfaces in 3D, charts in plot views.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .application import Application
from .slice_picture import SliceView

_SLICE_MANAGERS = ("vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLColorLegendDisplayableManager")
_SURFACE_MANAGERS = ("vtkMRMLSegmentationsDisplayableManager3D",)
_PROBE = (
    "import vtkmodules.vtkRenderingOpenGL2\n"
    "from vtkmodules.vtkRenderingCore import vtkRenderWindow, vtkRenderer\n"
    "window = vtkRenderWindow(); window.SetOffScreenRendering(1); window.AddRenderer(vtkRenderer()); window.Render()"
)
_PLOT_TYPES = {
    slicer.vtkMRMLPlotSeriesNode.PlotTypeLine: vtk.vtkChart.LINE,
    slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter: vtk.vtkChart.POINTS,
    slicer.vtkMRMLPlotSeriesNode.PlotTypeBar: vtk.vtkChart.BAR,
    slicer.vtkMRMLPlotSeriesNode.PlotTypeScatterBar: vtk.vtkChart.BAR,
}


@functools.cache
def can_render() -> bool:
    """Whether OpenGL works without a screen; tried in a process of its own, as a driver may end it."""
    return subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=120).returncode == 0


class _Rendered:
    """A window off the screen in which displayable managers draw what a view node shows."""

    def __init__(self, view_node: Any, managers: tuple[str, ...], size: tuple[int, int]) -> None:
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.SetSize(*size)
        self.renderer = vtk.vtkRenderer()
        self._window.AddRenderer(self.renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self.renderer)
        self._managers = [getattr(slicer, name)() for name in managers]
        for manager in self._managers:
            manager.SetMRMLApplicationLogic(Application.instance().application_logic)
            self._group.AddDisplayableManager(manager)
        self._group.SetMRMLDisplayableNode(view_node)
        # Legends are known only to managers that have seen them come.
        for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
            slicer.mrmlScene.InvokeEvent(slicer.vtkMRMLScene.NodeAddedEvent, legend)

    def add_below(self, actor: vtk.vtkProp) -> None:
        """Draw something in a layer of its own below what the managers draw, as Slicer's slice views do."""
        below = vtk.vtkRenderer()
        below.AddViewProp(actor)
        self._window.SetNumberOfLayers(2)
        below.SetLayer(0)
        self.renderer.SetLayer(1)
        self._window.AddRenderer(below)

    def pixels(self) -> np.ndarray:
        """Return the picture, ``(rows, columns, RGB)`` uint8, first row on top."""
        return _pixels_of(self._window)

    def close(self) -> None:
        """Let go of the scene."""
        self._group.SetMRMLDisplayableNode(None)
        self._window.Finalize()


def slice_pixels(view: SliceView) -> np.ndarray:
    """Return a slice view's layers with the outlines of segments and the color legend of its map."""
    rendered = _Rendered(view.node, _SLICE_MANAGERS, tuple(view.node.GetDimensions()[:2]))
    layers = vtk.vtkImageMapper()
    layers.SetColorWindow(255)
    layers.SetColorLevel(127.5)
    view.logic.UpdatePipeline()
    layers.SetInputConnection(view.logic.GetImageDataConnection())
    actor = vtk.vtkActor2D()
    actor.SetMapper(layers)
    actor.GetProperty().SetDisplayLocationToBackground()
    rendered.add_below(actor)
    try:
        return rendered.pixels()
    finally:
        rendered.close()


def surface_pixels(view_node: slicer.vtkMRMLViewNode, size: tuple[int, int]) -> np.ndarray:
    """Return the surfaces that a 3D view shows, seen from the front."""
    rendered = _Rendered(view_node, _SURFACE_MANAGERS, size)
    renderer = rendered.renderer
    renderer.SetBackground(view_node.GetBackgroundColor())
    renderer.SetBackground2(view_node.GetBackgroundColor2())
    renderer.GradientBackgroundOn()
    camera = renderer.GetActiveCamera()
    camera.SetFocalPoint(0.0, 0.0, 0.0)
    camera.SetPosition(0.0, 1.0, 0.0)
    camera.SetViewUp(0.0, 0.0, 1.0)
    renderer.ResetCamera()
    try:
        return rendered.pixels()
    finally:
        rendered.close()


def plot_pixels(view_node: slicer.vtkMRMLPlotViewNode, size: tuple[int, int]) -> np.ndarray:
    """Return the chart of a plot view, drawn by VTK's charts from the chart's and the series' nodes."""
    chart_node = view_node.GetPlotChartNode()
    view = vtk.vtkContextView()
    window = view.GetRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(*size)
    view.GetRenderer().SetBackground(1.0, 1.0, 1.0)
    chart = vtk.vtkChartXY()
    view.GetScene().AddItem(chart)
    chart.SetTitle(chart_node.GetTitle())
    chart.GetAxis(vtk.vtkAxis.BOTTOM).SetTitle(chart_node.GetXAxisTitle())
    chart.GetAxis(vtk.vtkAxis.LEFT).SetTitle(chart_node.GetYAxisTitle())
    chart.SetShowLegend(chart_node.GetLegendVisibility() and chart_node.GetNumberOfPlotSeriesNodes() > 1)
    for index in range(chart_node.GetNumberOfPlotSeriesNodes()):
        _add_series(chart, chart_node.GetNthPlotSeriesNode(index))
    return _pixels_of(window)


def _add_series(chart: vtk.vtkChartXY, node: slicer.vtkMRMLPlotSeriesNode) -> None:
    table = node.GetTableNode().GetTable()
    plot = chart.AddPlot(_PLOT_TYPES[node.GetPlotType()])
    columns = [table.GetColumnName(index) for index in range(table.GetNumberOfColumns())]
    if node.GetXColumnName():
        plot.SetInputData(table, node.GetXColumnName(), node.GetYColumnName())
    else:
        plot.SetUseIndexForXSeries(True)
        plot.SetInputData(table, columns[0], node.GetYColumnName())
    labels = table.GetColumnByName(node.GetLabelColumnName() or "")
    if labels is not None:
        plot.SetIndexedLabels(labels)
        positions = vtk.vtkDoubleArray()
        for row in range(table.GetNumberOfRows()):
            positions.InsertNextValue(row)
        axis = chart.GetAxis(vtk.vtkAxis.BOTTOM)
        axis.SetCustomTickPositions(positions, labels)
    plot.SetColorF(*node.GetColor())
    plot.SetWidth(node.GetLineWidth())


def _pixels_of(window: vtk.vtkRenderWindow) -> np.ndarray:
    window.Render()
    reader = vtk.vtkWindowToImageFilter()
    reader.SetInput(window)
    reader.ReadFrontBufferOff()
    reader.Update()
    image = reader.GetOutput()
    columns, rows, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1].copy()
