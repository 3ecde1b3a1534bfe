"""The ctk widgets that the module uses, written for the host after ctk's documented properties and signals."""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets

_HEADER_HEIGHT = 24


class ctkCollapsibleButton(QtWidgets.QWidget):
    """A header that shows or hides the widgets below it."""

    contentsCollapsed = QtCore.Signal(bool)
    clicked = QtCore.Signal(bool)
    toggled = QtCore.Signal(bool)

    def __init__(self, *arguments) -> None:
        text = next((item for item in arguments if isinstance(item, str)), "")
        super().__init__(next((item for item in arguments if isinstance(item, QtWidgets.QWidget)), None))
        self.header = QtWidgets.QToolButton(self)
        self.header.setText(text)
        self.header.setCheckable(True)
        self.header.setChecked(True)
        self.header.setToolButtonStyle(QtCore.Qt.ToolButtonTextBesideIcon)
        self.header.setStyleSheet("QToolButton {border: 1px solid #b8b8b8; background: #e4e4e4; text-align: left;}")
        self.header.toggled.connect(self._on_toggled)
        self.setContentsMargins(0, _HEADER_HEIGHT, 0, 0)
        self._show_arrow()

    def setText(self, text: str) -> None:
        self.header.setText(text)

    def setCollapsed(self, collapsed: bool) -> None:
        self.header.setChecked(not collapsed)

    def resizeEvent(self, event) -> None:
        self.header.setGeometry(0, 0, self.width, _HEADER_HEIGHT - 2)

    def showEvent(self, event) -> None:
        super().showEvent(event)
        self._apply()

    def _on_toggled(self, opened: bool) -> None:
        self._apply()
        self.contentsCollapsed.emit(not opened)
        self.toggled.emit(opened)
        self.clicked.emit(opened)

    def _apply(self) -> None:
        self._show_arrow()
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly):
            if child is self.header or child.isWindow():
                continue
            if self.header.checked and child.property("_was_hidden") is not None:
                child.setVisible(not child.property("_was_hidden"))
                child.setProperty("_was_hidden", None)
            elif not self.header.checked and child.property("_was_hidden") is None:
                child.setProperty("_was_hidden", child.isHidden())
                child.setVisible(False)
        self.setMaximumHeight(16777215 if self.header.checked else _HEADER_HEIGHT)

    def _show_arrow(self) -> None:
        self.header.setArrowType(QtCore.Qt.DownArrow if self.header.checked else QtCore.Qt.RightArrow)

    text = QtCore.Property(str, lambda self: self.header.text, setText)
    collapsed = QtCore.Property(bool, lambda self: not self.header.checked, setCollapsed)


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider with a spin box."""

    valueChanged = QtCore.Signal(float)
    _STEPS = 1000

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        self.slider.setRange(0, self._STEPS)
        self.spinBox = QtWidgets.QDoubleSpinBox()
        self.spinBox.setMinimumWidth(90)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self.spinBox)
        self.spinBox.valueChanged.connect(self._on_value)
        self.slider.valueChanged.connect(self._on_slider)

    def setValue(self, value: float) -> None:
        self.spinBox.setValue(value)

    def setMinimum(self, value: float) -> None:
        self.spinBox.setMinimum(value)
        self._place_handle()

    def setMaximum(self, value: float) -> None:
        self.spinBox.setMaximum(value)
        self._place_handle()

    def setSingleStep(self, step: float) -> None:
        self.spinBox.setSingleStep(step)

    def setDecimals(self, decimals: int) -> None:
        self.spinBox.setDecimals(decimals)

    def setSuffix(self, suffix: str) -> None:
        self.spinBox.setSuffix(suffix)

    def _on_slider(self, position: int) -> None:
        self.spinBox.setValue(self.minimum + position * (self.maximum - self.minimum) / self._STEPS)

    def _on_value(self, value: float) -> None:
        self._place_handle()
        self.valueChanged.emit(value)

    def _place_handle(self) -> None:
        extent = self.maximum - self.minimum
        self.slider.blockSignals(True)
        self.slider.setValue(round(self._STEPS * (self.value - self.minimum) / extent) if extent > 0 else 0)
        self.slider.blockSignals(False)

    value = QtCore.Property(float, lambda self: self.spinBox.value, setValue)
    minimum = QtCore.Property(float, lambda self: self.spinBox.minimum, setMinimum)
    maximum = QtCore.Property(float, lambda self: self.spinBox.maximum, setMaximum)
    singleStep = QtCore.Property(float, lambda self: self.spinBox.singleStep, setSingleStep)
    decimals = QtCore.Property(int, lambda self: self.spinBox.decimals, setDecimals)
    suffix = QtCore.Property(str, lambda self: self.spinBox.suffix, setSuffix)


WIDGETS = (ctkCollapsibleButton, ctkSliderWidget)
