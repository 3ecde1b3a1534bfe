"""A picture of the panel beside the views that the layout shows, as the application's window shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from . import qt_driver
from .qt_application import GuiApplication
from .rendered_views import can_render, plot_pixels, slice_pixels, surface_pixels
from .slice_picture import SliceView

_BAR_HEIGHT = 18
_GAP = 4
_COLORS = {"Red": "#F34A33", "Yellow": "#EDD54C", "Green": "#6EB04B", "XAICompareLeft": "#F34A33"}
_OTHER_COLOR = "#EDD54C"
_OTHER_VIEWS = "#B3B3E6"


def write_screenshot(representation: QtWidgets.QWidget, path: Path, width: int = 460) -> Path:
    """Write the panel, as tall as it needs to be, and the views that the layout shows and that show something."""
    representation.resize(width, 400)
    for _ in range(3):  # labels tell their height once they know their width
        qt_driver.turn()
        representation.resize(width, _needed_height(representation))
    panel = qt_driver.picture_of(representation)
    views = _view_pictures()
    column = max((picture.width() for picture in views), default=0)
    height = max(panel.height(), sum(picture.height() + _GAP for picture in views))
    whole = QtGui.QImage(panel.width() + _GAP + column, height, QtGui.QImage.Format_RGB32)
    whole.fill(QtGui.QColor("#efefef"))
    painter = QtGui.QPainter(whole)
    painter.drawImage(0, 0, panel)
    top = 0
    for picture in views:
        painter.drawImage(panel.width() + _GAP, top, picture)
        top += picture.height() + _GAP
    painter.end()
    return write_png(whole, path)


def write_png(image: QtGui.QImage, path: Path) -> Path:
    """Write a picture in all of its colors, which mean values, as a small file."""
    from PIL import Image

    pixels = image.convertToFormat(QtGui.QImage.Format_RGBA8888)
    size = (pixels.width(), pixels.height())
    picture = Image.frombuffer("RGBA", size, bytes(pixels.constBits()), "raw", "RGBA", pixels.bytesPerLine(), 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").save(path, optimize=True)
    return path


def _needed_height(widget: QtWidgets.QWidget) -> int:
    layout = widget.layout()
    needed = layout.heightForWidth(widget.width) if layout.hasHeightForWidth() else layout.sizeHint().height()
    return max(needed, layout.minimumSize().height())


def _view_pictures() -> list[QtGui.QImage]:
    manager = GuiApplication.instance().layout_manager
    shown = manager.visible_views()
    pictures = [_slice_picture(name, view) for name, view in shown.items()]
    size = next((tuple(view.node.GetDimensions()[:2]) for view in shown.values()), (380, 320))
    for node in manager.view_nodes() if can_render() else ():
        if node.IsA("vtkMRMLViewNode") and _has_surfaces():
            pictures.append(_titled("1   3D", _OTHER_VIEWS, surface_pixels(node, size)))
        if node.IsA("vtkMRMLPlotViewNode") and node.GetPlotChartNode() is not None:
            pictures.append(_titled("P   Plot", _OTHER_VIEWS, plot_pixels(node, size)))
    return pictures


def _has_surfaces() -> bool:
    displays = slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode")
    return any(
        display.GetVisibility()
        and display.GetVisibility3D()
        and display.GetDisplayableNode().GetSegmentation().ContainsRepresentation("Closed surface")
        for display in displays
    )


def _slice_picture(name: str, view: SliceView) -> QtGui.QImage:
    label = {"XAICompareLeft": "A", "XAICompareRight": "B"}.get(name, name[0])
    pixels = slice_pixels(view) if can_render() else view.pixels()
    return _titled(f"{label}   {view.node.GetOrientation()}", _COLORS.get(name, _OTHER_COLOR), pixels)


def _titled(title: str, color: str, pixels: np.ndarray) -> QtGui.QImage:
    """Return a view's picture below its bar; ``pixels`` are (rows, columns, RGB or RGBA), first row on top."""
    content = np.ascontiguousarray(pixels[..., :3])
    rows, columns, _ = content.shape
    inside = QtGui.QImage(content.data, columns, rows, 3 * columns, QtGui.QImage.Format_RGB888)
    picture = QtGui.QImage(columns, rows + _BAR_HEIGHT, QtGui.QImage.Format_RGB32)
    painter = QtGui.QPainter(picture)
    painter.fillRect(QtCore.QRect(0, 0, columns, _BAR_HEIGHT), QtGui.QColor(color))
    painter.drawText(6, 14, title)
    painter.drawImage(0, _BAR_HEIGHT, inside)
    painter.end()
    return picture


def view_pixels(name: str) -> np.ndarray:
    """Return what a slice view of the layout shows, (rows, columns, RGB), first row on top."""
    view: Any = GuiApplication.instance().layout_manager.visible_views()[name]
    return slice_pixels(view)
