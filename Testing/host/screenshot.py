"""A picture of the panel beside the slice views, as the application's window shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import qt_driver
from .qt_application import GuiApplication

_BAR_HEIGHT = 18
_GAP = 4
_COLOR_COUNT = 128
_COLORS = {"Red": "#F34A33", "Yellow": "#EDD54C", "Green": "#6EB04B"}
_OTHER_COLORS = ("#F34A33", "#EDD54C")


def write_screenshot(representation: QtWidgets.QWidget, path: Path, width: int = 460) -> Path:
    """Write the panel, as tall as it needs to be, and the slice views that the layout shows."""
    representation.resize(width, 400)
    for _ in range(3):  # labels tell their height once they know their width
        qt_driver.turn()
        representation.resize(width, _needed_height(representation))
    panel = qt_driver.picture_of(representation)
    shown = GuiApplication.instance().layout_manager.visible_views()
    views = [_view_picture(name, view) for name, view in shown.items()]
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
    return _write_in_few_colors(whole, path)


def _write_in_few_colors(image: QtGui.QImage, path: Path) -> Path:
    """Write a picture with the colors that suit it best, few enough to keep its file small."""
    from PIL import Image

    pixels = image.convertToFormat(QtGui.QImage.Format_RGBA8888)
    size = (pixels.width(), pixels.height())
    picture = Image.frombuffer("RGBA", size, bytes(pixels.constBits()), "raw", "RGBA", pixels.bytesPerLine(), 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").quantize(_COLOR_COUNT, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def _needed_height(widget: QtWidgets.QWidget) -> int:
    layout = widget.layout()
    needed = layout.heightForWidth(widget.width) if layout.hasHeightForWidth() else layout.sizeHint().height()
    return max(needed, layout.minimumSize().height())


def _view_picture(name: str, view: Any) -> QtGui.QImage:
    pixels = view.pixels()[..., :3].copy()
    rows, columns, _ = pixels.shape
    slices = QtGui.QImage(pixels.data, columns, rows, 3 * columns, QtGui.QImage.Format_RGB888)
    picture = QtGui.QImage(columns, rows + _BAR_HEIGHT, QtGui.QImage.Format_RGB32)
    painter = QtGui.QPainter(picture)
    color = _COLORS.get(name) or _OTHER_COLORS["Right" in name]
    painter.fillRect(QtCore.QRect(0, 0, columns, _BAR_HEIGHT), QtGui.QColor(color))
    label = {"XAICompareLeft": "A", "XAICompareRight": "B"}.get(name, name[0])
    painter.drawText(6, 14, f"{label}   {view.node.GetOrientation()}")
    painter.drawImage(0, _BAR_HEIGHT, slices)
    painter.end()
    return picture
