"""Widgets with which the nodes and files of a task are chosen, made from the engine's description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from ..Signal import Signal

_NODE_CLASSES = {
    "volume": ["vtkMRMLScalarVolumeNode"],
    "segmentation": ["vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode", "vtkMRMLMarkupsROINode"],
    "table": ["vtkMRMLTableNode"],
}


class Editor(Protocol):
    """A widget for one input or option. ``value()`` is None where nothing was given."""

    widget: Any
    changed: Signal

    def value(self) -> Any: ...

    def setValue(self, value: Any) -> None: ...


class NodeEditor:
    """Chooses a node of the scene."""

    def __init__(self, classes: list[str], scenes: Any, canAdd: bool = False) -> None:
        """:param scenes: the widget whose ``mrmlSceneChanged`` hands the scene on."""
        self.changed = Signal()
        self.widget = slicer.qMRMLNodeComboBox()
        self.widget.nodeTypes = classes
        self.widget.showChildNodeTypes = False
        # Nothing is chosen by itself: a map of an earlier run is no scan. The panel suggests the scan.
        self.widget.noneEnabled = True
        self.widget.addEnabled = canAdd
        self.widget.removeEnabled = False
        self.widget.renameEnabled = canAdd
        scenes.connect("mrmlSceneChanged(vtkMRMLScene*)", self.widget, "setMRMLScene(vtkMRMLScene*)")
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.widget.connect("currentNodeChanged(vtkMRMLNode*)", self._onNode)

    def value(self) -> Any:
        return self.widget.currentNode()

    def setValue(self, value: Any) -> None:
        self.widget.setCurrentNode(value)

    def _onNode(self, _node: Any) -> None:
        self.changed.emit()


class PathEditor:
    """Chooses a file or a folder."""

    def __init__(self, kind: str) -> None:
        self.changed = Signal()
        self.widget = ctk.ctkPathLineEdit()
        picker = ctk.ctkPathLineEdit
        filters = {"folder": picker.Dirs, "model": picker.Dirs | picker.Files}
        self.widget.filters = filters.get(kind, picker.Files) | picker.Readable
        self.widget.connect("currentPathChanged(QString)", self._onPath)

    def value(self) -> str | None:
        return self.widget.currentPath.strip() or None

    def setValue(self, value: Any) -> None:
        self.widget.currentPath = value or ""

    def _onPath(self, _path: str) -> None:
        self.changed.emit()


def inputEditor(field: Mapping[str, Any], scenes: Any) -> Editor:
    """Return the widget for an input of the engine's description."""
    classes = _NODE_CLASSES.get(field["kind"])
    if classes is None:
        editor: Editor = PathEditor(field["kind"])
    else:
        editor = NodeEditor(classes, scenes)
    editor.widget.toolTip = field["description"]
    return editor


def fieldLabel(field: Mapping[str, Any]) -> Any:
    """Return the label that stands before a field's widget."""
    label = qt.QLabel(_("{title}:").format(title=field["title"]))
    label.toolTip = field["description"]
    return label
