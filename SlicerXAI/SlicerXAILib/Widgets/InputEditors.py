"""Widgets with which the nodes and files of a task are chosen, made from the engine's description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import qt
from slicer.i18n import tr as _

from ..ShippedModels import shippedGenerators, shippedModels
from ..Signal import Signal
from ..TaskDescriptions import limitsText
from .NodeEditors import BOX, NodeEditor, PlacedNodeEditor
from .PathEditor import FILE, FOLDER, PathEditor

_NODE_CLASSES = {
    "volume": ["vtkMRMLScalarVolumeNode"],
    "segmentation": ["vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode", "vtkMRMLMarkupsROINode"],
    "table": ["vtkMRMLTableNode"],
}
# What may be named where no node is chosen.
_PATH_KINDS = {"folder": (FOLDER,), "model": (FILE, FOLDER)}
_GENERATOR = "generator"
_BOX_FIELD = "roi"


class Editor(Protocol):
    """A widget for one input or option. ``value()`` is None where nothing was given."""

    widget: Any
    changed: Signal

    def value(self) -> Any: ...

    def setValue(self, value: Any) -> None: ...


def inputEditor(field: Mapping[str, Any], scenes: Any) -> Editor:
    """Return the widget for an input of the engine's description."""
    classes = _NODE_CLASSES.get(field["kind"])
    if classes is None:
        editor: Editor = PathEditor(_PATH_KINDS.get(field["kind"], (FILE,)), _offered(field))
    elif field["name"] == _BOX_FIELD:
        editor = PlacedNodeEditor(classes, scenes, BOX)
    else:
        editor = NodeEditor(classes, scenes)
    editor.widget.toolTip = fieldToolTip(field)
    return editor


def fieldToolTip(field: Mapping[str, Any]) -> str:
    """Return what a field means, and what values it may have."""
    allowed = limitsText(field)
    unit = field["unit"]
    if allowed and unit:
        allowed = _("{limits} (in {unit})").format(limits=allowed, unit=unit)
    return "\n".join(part for part in (field["description"], allowed[:1].upper() + allowed[1:]) if part)


def _offered(field: Mapping[str, Any]) -> list[str]:
    """Return the names of what comes with the module and suits a field."""
    if field["kind"] != "model":
        return []
    return list(shippedGenerators() if field["name"] == _GENERATOR else shippedModels())


def fieldLabel(field: Mapping[str, Any]) -> Any:
    """Return the label that stands before a field's widget."""
    label = qt.QLabel(_("{title}:").format(title=field["title"]))
    label.toolTip = fieldToolTip(field)
    return label
