"""A widget that names a file or a folder: typed, chosen among those offered, or found in a dialog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ..Signal import Signal

FILE = "file"
FOLDER = "folder"


class PathEditor:
    """A line with a button for each kind of thing that may be named. An empty line names nothing."""

    def __init__(self, kinds: Sequence[str], offered: Sequence[str] = ()) -> None:
        """:param kinds: ``file``, ``folder`` or both.
        :param offered: names that can be chosen, such as those of what comes with the module.
        """
        self.changed = Signal()
        self.widget = qt.QWidget()
        row = qt.QHBoxLayout(self.widget)
        row.setSpacing(2)
        row.setContentsMargins(0, 0, 0, 0)
        self.selector = qt.QComboBox()
        self.selector.editable = True
        self.selector.insertPolicy = qt.QComboBox.NoInsert
        self.selector.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
        self.selector.minimumContentsLength = 12
        self.selector.addItems(list(offered))
        self.selector.setEditText("")
        self.selector.connect("editTextChanged(QString)", self._onText)
        row.addWidget(self.selector, 1)
        self.fileButton = self.folderButton = None
        if FILE in kinds:
            self.fileButton = qt.QToolButton()
            self.fileButton.text = _("File...")
            self.fileButton.connect("clicked(bool)", self._onFile)
            row.addWidget(self.fileButton)
        if FOLDER in kinds:
            self.folderButton = qt.QToolButton()
            self.folderButton.text = _("Folder...")
            self.folderButton.connect("clicked(bool)", self._onFolder)
            row.addWidget(self.folderButton)

    def value(self) -> str | None:
        return self.selector.currentText.strip() or None

    def setValue(self, value: Any) -> None:
        text = str(value or "")
        if text != self.selector.currentText:
            self.selector.setEditText(text)

    def _onText(self, _text: str) -> None:
        self.changed.emit()

    def _onFile(self) -> None:
        self._take(qt.QFileDialog.getOpenFileName(None, _("Choose a file"), self._place()))

    def _onFolder(self) -> None:
        self._take(qt.QFileDialog.getExistingDirectory(None, _("Choose a folder"), self._place()))

    def _place(self) -> str:
        """Return where a dialog opens: at what stands there, if that is a path."""
        text = self.value() or ""
        return text if "/" in text or "\\" in text else ""

    def _take(self, path: Any) -> None:
        path = path[0] if isinstance(path, tuple) else path
        if path:
            self.setValue(path)
