"""A user at the panel: clicks, typing and waiting, through Qt's own events."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtTest, QtWidgets

_WAIT_SECONDS = 240.0


def click(widget: QtWidgets.QWidget) -> None:
    """Press and release the left mouse button in the middle of a widget that the user can see and use."""
    assert widget.isVisible(), f"{widget.objectName or widget} is not on the screen."
    assert widget.isEnabled(), f"{widget.objectName or widget} is disabled: {widget.toolTip}"
    middle = QtCore.QPoint(min(12, widget.width // 2), widget.height // 2)
    QtTest.QTest.mouseClick(widget, QtCore.Qt.LeftButton, pos=middle)
    turn()


def choose(box: Any, text: str) -> None:
    """Open a combo box (or a node selector) and click on the item of this text."""
    combo = getattr(box, "combo", box)
    assert combo.isVisible() and combo.isEnabled(), f"{box.objectName or box} cannot be used."
    row = combo.findText(text)
    assert row >= 0, f"{text!r} is not among {[combo.itemText(index) for index in range(combo.count)]}."
    combo.showPopup()
    turn()
    view = combo.view()
    index = combo.model().index(row, combo.modelColumn)
    view.scrollTo(index)
    QtTest.QTest.mouseMove(view.viewport(), view.visualRect(index).center())
    QtTest.QTest.mouseClick(view.viewport(), QtCore.Qt.LeftButton, pos=view.visualRect(index).center())
    turn()
    if combo.view().isVisible():
        combo.hidePopup()
    assert combo.currentText == text


def click_cell(table: QtWidgets.QTableWidget, row: int, column: int = 0) -> None:
    """Click on a cell of a table."""
    index = table.model().index(row, column)
    table.scrollTo(index)
    QtTest.QTest.mouseClick(table.viewport(), QtCore.Qt.LeftButton, pos=table.visualRect(index).center())
    turn()


def check_item(box: QtWidgets.QListWidget, text: str) -> None:
    """Click on the check box of an item of a list."""
    (item,) = box.findItems(text, QtCore.Qt.MatchExactly)
    box.scrollToItem(item)
    turn()
    place = box.visualItemRect(item)
    QtTest.QTest.mouseClick(box.viewport(), QtCore.Qt.LeftButton, pos=place.topLeft() + QtCore.QPoint(10, 9))
    turn()


def type_text(field: QtWidgets.QWidget, text: str) -> None:
    """Replace what a line or a spin box holds, by keys."""
    field.setFocus()
    line = field if isinstance(field, QtWidgets.QLineEdit) else field.findChild(QtWidgets.QLineEdit)
    line.selectAll()
    QtTest.QTest.keyClicks(line, text)
    QtTest.QTest.keyClick(line, QtCore.Qt.Key_Return)
    turn()


def drag(slider: Any, part: float) -> None:
    """Pull the handle of a slider with a spin box to a part (0..1) of its way, step by step."""
    inner = slider.slider
    inner.setSliderDown(True)
    start = inner.value
    for step in range(1, 9):
        inner.setSliderPosition(round(start + (part * inner.maximum - start) * step / 8))
        turn()
    inner.setSliderDown(False)
    turn()


def turn() -> None:
    """Let Qt do what is due."""
    QtWidgets.QApplication.processEvents(QtCore.QEventLoop.AllEvents, 5)


def wait_until(done: Callable[[], Any], seconds: float = _WAIT_SECONDS) -> None:
    """Run the event loop, undisturbed, until something is so."""
    loop, timer = QtCore.QEventLoop(), QtCore.QTimer()
    end = time.monotonic() + seconds
    timed_out = []

    def look() -> None:
        if done():
            loop.quit()
        elif time.monotonic() > end:
            timed_out.append(True)
            loop.quit()

    timer.timeout.connect(look)
    timer.start(10)
    if not done():
        loop.exec()
    timer.stop()
    assert not timed_out, f"Nothing came of it in {seconds} s."


class LargestGap:
    """How long the event loop was held up at most, by a timer of 5 ms that looks at the clock.

    ``seconds`` is what a user sees; ``own_seconds`` is the part of the longest spell of work that this thread did
    itself, which a busy computer does not lengthen.
    """

    def __init__(self) -> None:
        self.seconds = self.own_seconds = 0.0
        self._last = self._own_last = 0.0
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.PreciseTimer)
        self._timer.timeout.connect(self._look)

    def __enter__(self) -> LargestGap:
        self.seconds, self._last = 0.0, time.perf_counter()
        self.own_seconds, self._own_last = 0.0, time.thread_time()
        self._timer.start(5)
        return self

    def __exit__(self, *_error: Any) -> None:
        self._look()
        self._timer.stop()

    def _look(self) -> None:
        now = time.perf_counter()
        self.seconds = max(self.seconds, now - self._last)
        self._last = now
        own = time.thread_time()
        self.own_seconds = max(self.own_seconds, own - self._own_last)
        self._own_last = own


def picture_of(widget: QtWidgets.QWidget) -> QtGui.QImage:
    """What a widget looks like."""
    turn()
    return widget.grab().toImage()


def save_picture(image: QtGui.QImage, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert image.save(str(path))
    return path
