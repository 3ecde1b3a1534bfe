"""Widgets for the options of a task: type, unit, range, choices and default as the engine describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ..Signal import Signal
from .InputEditors import Editor, fieldToolTip
from .NodeEditors import POINT, PlacedNodeEditor

_LARGEST = 2_000_000_000
_LIST_HEIGHT = 116


class CheckEditor:
    """Yes or no."""

    def __init__(self, field: Mapping[str, Any]) -> None:
        self.changed = Signal()
        self.widget = qt.QCheckBox()
        self.widget.connect("toggled(bool)", self._onToggled)

    def value(self) -> bool:
        return self.widget.checked

    def setValue(self, value: Any) -> None:
        self.widget.checked = bool(value)

    def _onToggled(self, _checked: bool) -> None:
        self.changed.emit()


class NumberEditor:
    """A number with its unit and range. Where it may be left to the model, the lowest position says so."""

    def __init__(self, field: Mapping[str, Any]) -> None:
        self.changed = Signal()
        self._isWhole = field["type"] == "integer"
        self._isOptional = field["default"] is None
        self.widget = qt.QSpinBox() if self._isWhole else qt.QDoubleSpinBox()
        step, decimals = _step(field)
        if not self._isWhole:
            self.widget.decimals = decimals
        low = field["minimum"] if field["minimum"] is not None else -_LARGEST
        high = field["maximum"] if field["maximum"] is not None else _LARGEST
        smallest = 1 if self._isWhole else 10**-decimals
        low += smallest if field["exclusive_minimum"] else 0
        high -= smallest if field["exclusive_maximum"] else 0
        self._low = self._number(low)
        self.widget.maximum = self._number(high)
        self.widget.minimum = self._number(low - smallest) if self._isOptional else self._low
        self.widget.singleStep = self._number(step)
        if self._isOptional:
            self.widget.specialValueText = _("automatic")
        if field["unit"]:
            self.widget.suffix = f" {field['unit']}"
        self.widget.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        self.widget.connect("valueChanged(int)" if self._isWhole else "valueChanged(double)", self._onValue)

    def value(self) -> int | float | None:
        number = self.widget.value
        if self._isOptional and number < self._low:
            return None
        return int(number) if self._isWhole else round(number, 9)

    def setValue(self, value: Any) -> None:
        self.widget.value = self.widget.minimum if value is None else self._number(value)

    def _number(self, value: float) -> int | float:
        return int(value) if self._isWhole else float(value)

    def _onValue(self, _value: float) -> None:
        self.changed.emit()


class ChoiceEditor:
    """One of several words."""

    def __init__(self, field: Mapping[str, Any]) -> None:
        self.changed = Signal()
        self.widget = qt.QComboBox()
        # What is shown may be translated; what is given to the engine is not.
        self._words: list[str] = list(field["choices"])
        self.widget.addItems(list(field["choice_titles"]))
        self.widget.connect("currentIndexChanged(int)", self._onIndex)

    def value(self) -> str:
        return self._words[self.widget.currentIndex]

    def setValue(self, value: Any) -> None:
        self.widget.setCurrentIndex(self._words.index(str(value)) if str(value) in self._words else 0)

    def _onIndex(self, _index: int) -> None:
        self.changed.emit()


class TextEditor:
    """A word, which may be suggested: a label or a layer of the model, a segment."""

    def __init__(self, field: Mapping[str, Any]) -> None:
        self.changed = Signal()
        self._hasSuggestions = bool(field["source"])
        self.widget = qt.QComboBox() if self._hasSuggestions else qt.QLineEdit()
        if self._hasSuggestions:
            self.widget.editable = True
            self.widget.insertPolicy = qt.QComboBox.NoInsert
            self.widget.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
            self.widget.connect("editTextChanged(QString)", self._onText)
        else:
            self.widget.connect("textChanged(QString)", self._onText)
        self._line.placeholderText = _("model default") if field["source"] in ("labels", "layers") else ""

    @property
    def _line(self) -> Any:
        return self.widget.lineEdit() if self._hasSuggestions else self.widget

    def value(self) -> str:
        return self._line.text.strip()

    def setValue(self, value: Any) -> None:
        self._line.text = str(value or "")

    def setSuggestions(self, names: Sequence[str], default: str = "") -> None:
        """Offer names; the default is what an empty text stands for."""
        if not self._hasSuggestions:
            return
        text = self.value()
        self.widget.blockSignals(True)
        self.widget.clear()
        self.widget.addItems(["", *names])
        self.widget.setCurrentIndex(max(self.widget.findText(text), 0))
        self._line.text = text
        if default:
            self._line.placeholderText = _("model default: {name}").format(name=default)
        self.widget.blockSignals(False)

    def _onText(self, _text: str) -> None:
        self.changed.emit()


class ListEditor:
    """Several of the known words, by check boxes; the order in which they were checked counts."""

    def __init__(self, field: Mapping[str, Any]) -> None:
        self.changed = Signal()
        self._chosen: list[str] = []
        self.widget = qt.QListWidget()
        self.widget.setMaximumHeight(_LIST_HEIGHT)
        self.widget.setMinimumHeight(_LIST_HEIGHT if field["choices"] else _LIST_HEIGHT // 2)
        self._names: list[str] = list(field["choices"])
        self._show()
        self.widget.connect("itemChanged(QListWidgetItem*)", self._onItem)

    def value(self) -> list[str]:
        return list(self._chosen)

    def setValue(self, value: Any) -> None:
        self._chosen = [str(item) for item in value or []]
        self._show()

    def setSuggestions(self, names: Sequence[str], default: str = "") -> None:
        self._names = list(names)
        self._show()

    def _show(self) -> None:
        """List the checked words first, so that a long list shows what is chosen."""
        self.widget.blockSignals(True)
        self.widget.clear()
        names = [*self._chosen, *(name for name in self._names if name not in self._chosen)]
        self.widget.addItems(names)
        for index, name in enumerate(names):
            state = qt.Qt.Checked if name in self._chosen else qt.Qt.Unchecked
            self.widget.item(index).setCheckState(state)
        self.widget.blockSignals(False)

    def _onItem(self, _item: Any) -> None:
        items = [self.widget.item(index) for index in range(self.widget.count)]
        checked = [item.text() for item in items if item.checkState() == qt.Qt.Checked]
        kept = [name for name in self._chosen if name in checked]
        self._chosen = kept + [name for name in checked if name not in kept]
        self.changed.emit()


class WordsEditor:
    """Words of one's own, separated by semicolons."""

    def __init__(self, field: Mapping[str, Any]) -> None:
        self.changed = Signal()
        self.widget = qt.QLineEdit()
        self.widget.placeholderText = _("separated by ;")
        self.widget.connect("textChanged(QString)", self._onText)

    def value(self) -> list[str]:
        return [word.strip() for word in self.widget.text.split(";") if word.strip()]

    def setValue(self, value: Any) -> None:
        self.widget.text = "; ".join(str(item) for item in value or [])

    def _onText(self, _text: str) -> None:
        self.changed.emit()


def optionEditor(field: Mapping[str, Any], scenes: Any) -> Editor:
    """Return the widget for an option of the engine's description."""
    if field["source"] == "point":
        editor: Editor = PlacedNodeEditor([POINT], scenes, POINT, canAdd=True)
    else:
        editor = _byType(field)
        editor.setValue(field["default"])
    editor.widget.toolTip = fieldToolTip(field)
    return editor


def _byType(field: Mapping[str, Any]) -> Editor:
    if field["type"] == "list":
        return ListEditor(field) if field["choices"] or field["source"] else WordsEditor(field)
    editors = {"boolean": CheckEditor, "integer": NumberEditor, "float": NumberEditor, "choice": ChoiceEditor}
    return editors.get(field["type"], TextEditor)(field)


def _step(field: Mapping[str, Any]) -> tuple[float, int]:
    """Return a step and a number of decimals that suit a number's range."""
    if field["type"] == "integer":
        return 1, 0
    low, high, default = field["minimum"], field["maximum"], field["default"]
    extent = high - low if low is not None and high is not None else abs(default or 10.0)
    if extent <= 2:
        return 0.05, 4
    return (0.5, 3) if extent <= 50 else (10.0, 2)
