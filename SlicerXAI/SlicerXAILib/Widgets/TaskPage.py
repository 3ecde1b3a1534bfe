"""The page of a task: its inputs and options, made from the engine's description, bound to the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..Parameters import Parameters, inputKey, optionKey
from ..Signal import Signal
from .InputEditors import Editor, fieldLabel, inputEditor
from .NodeEditors import NodeEditor
from .OptionEditors import ListEditor, TextEditor, optionEditor

MODEL = "model"
_MAIN_GROUP = "Options"


class TaskPage:
    """Three widgets (inputs, main options, advanced options) for one task.

    Signal: ``changed()`` when the user has changed something.
    """

    def __init__(self, task: Mapping[str, Any], parameters: Parameters, scenes: Any) -> None:
        self.task = task
        self.changed = Signal()
        self._isHeld = False
        self._parameters = parameters
        self._fields = {field["name"]: field for field in task["options"]}
        self._inputs: dict[str, Editor] = {}
        self._options: dict[str, Editor] = {}
        for name, field in self._fields.items():
            if name == MODEL:
                continue
            if field["role"] == "input":
                self._inputs[name] = inputEditor(field, scenes)
            else:
                self._options[name] = optionEditor(field, scenes)
        main = [name for name in self._options if self._group(name) == _MAIN_GROUP]
        self.inputsWidget = self._form(list(self._inputs))
        self.optionsWidget = self._form(main)
        self.advancedWidget = self._form([name for name in self._options if name not in main], withHeadings=True)
        self._connect()

    @property
    def modelField(self) -> Mapping[str, Any] | None:
        """The description of the task's model, None for a task that takes none."""
        return self._fields.get(MODEL)

    @property
    def hasOptions(self) -> bool:
        return any(self._group(name) == _MAIN_GROUP for name in self._options)

    def editor(self, name: str) -> Editor:
        """Return the widget of an input or option."""
        return self._inputs.get(name) or self._options[name]

    def inputEditor(self, name: str) -> Editor | None:
        """Return the widget of an input, if the task has such an input."""
        return self._inputs.get(name)

    def setParameters(self, parameters: Parameters) -> None:
        """Show the settings of a parameter node; what was never set has its default."""
        self._parameters = parameters
        self._isHeld = False
        self.reload()

    def hold(self) -> None:
        """Write nothing into the parameters until others are set: the scene goes, and with it what was chosen."""
        self._isHeld = True

    def reload(self) -> None:
        for name, editor in self._inputs.items():
            key = inputKey(self.task["name"], name)
            kept = self._parameters.reference(key) if _takesNodes(editor) else self._parameters.value(key)
            editor.setValue(kept)
        for name, editor in self._options.items():
            key = optionKey(self.task["name"], name)
            if _takesNodes(editor):
                editor.setValue(self._parameters.reference(key))
            else:
                editor.setValue(self._parameters.value(key, self._fields[name]["default"]))
        self._suggestSegments()

    def inputs(self) -> dict[str, Any]:
        """Return the chosen nodes and paths by name."""
        return {name: editor.value() for name, editor in self._inputs.items() if editor.value() is not None}

    def furtherModels(self) -> list[str]:
        """Return the models that are named besides the task's own."""
        kinds = {name: self._fields[name]["kind"] for name in self._inputs}
        return [str(self._inputs[name].value() or "") for name, kind in kinds.items() if kind == MODEL]

    def options(self) -> dict[str, Any]:
        """Return what differs from the defaults, so that a model's own settings fill the rest."""
        chosen = {name: editor.value() for name, editor in self._options.items()}
        return {name: value for name, value in chosen.items() if not self._isDefault(name, value)}

    def problems(self) -> list[str]:
        """Say what is still missing."""
        return [
            _("Choose what is to be explained ({title}).").format(title=field["title"])
            if name == "volume"
            else _("Choose: {title}.").format(title=field["title"])
            for name, field in self._fields.items()
            if field["required"] and name in self._inputs and self._inputs[name].value() is None
        ]

    def setModelReport(self, report: Mapping[str, Any] | None) -> None:
        """Offer the labels and layers of a model."""
        labels = list(report["labels"]) if report else []
        layers = [row["name"] for row in _usefulLayers(report)] if report else []
        for name, editor in self._options.items():
            source = self._fields[name]["source"]
            if source == "labels":
                _suggest(editor, labels, report["target"] if report and name == "target" else "")
            elif source == "layers":
                _suggest(editor, layers, report["default_layer"] if report else "")

    def _isDefault(self, name: str, value: Any) -> bool:
        default = self._fields[name]["default"]
        return value is None or value == default or (value in ("", []) and default in (None, "", []))

    def _group(self, name: str) -> str:
        return self._fields[name]["group"]

    def _connect(self) -> None:
        for name, editor in self._inputs.items():
            editor.changed.connect(lambda name=name: self._onInput(name))
        for name, editor in self._options.items():
            editor.changed.connect(lambda name=name: self._onOption(name))

    def _onInput(self, name: str) -> None:
        if self._isHeld:
            return
        key, editor = inputKey(self.task["name"], name), self._inputs[name]
        if _takesNodes(editor):
            self._parameters.setReference(key, editor.value())
        else:
            self._parameters.setValue(key, editor.value())
        self._suggestSegments()
        self.changed.emit()

    def _onOption(self, name: str) -> None:
        if self._isHeld:
            return
        key, editor = optionKey(self.task["name"], name), self._options[name]
        if _takesNodes(editor):
            self._parameters.setReference(key, editor.value())
        else:
            value = editor.value()
            self._parameters.setValue(key, None if self._isDefault(name, value) else value)
        self.changed.emit()

    def _suggestSegments(self) -> None:
        """Offer the segments of the segmentation that an option names its segment from."""
        for name, editor in self._options.items():
            source = self._fields[name]["source"]
            if source in self._inputs:
                _suggest(editor, _segmentNames(self._inputs[source].value()), "")

    def _form(self, names: Sequence[str], withHeadings: bool = False) -> Any:
        area = qt.QWidget()
        form = qt.QFormLayout(area)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(qt.QFormLayout.AllNonFixedFieldsGrow)
        group = ""
        for name in sorted(names, key=lambda name: self._group(name) == "Advanced"):
            if withHeadings and self._group(name) != group:
                group = self._group(name)
                form.addRow(qt.QLabel(f"<b>{self._fields[name]['group_title']}</b>"))
            form.addRow(fieldLabel(self._fields[name]), self.editor(name).widget)
        return area


def _takesNodes(editor: Editor) -> bool:
    return isinstance(editor, NodeEditor)


def _suggest(editor: Editor, names: Sequence[str], default: str) -> None:
    if isinstance(editor, (TextEditor, ListEditor)):
        editor.setSuggestions(names, default)


def _usefulLayers(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the layers that a method can explain, of all that a network has."""
    useful = [row for row in report["layers"] if row["suits_bottleneck"] or row["suits_cam"] or row["default"]]
    return useful or list(report["layers"])


def _segmentNames(node: Any) -> list[str]:
    if node is None or isinstance(node, str) or not node.IsA("vtkMRMLSegmentationNode"):
        return []
    segmentation: slicer.vtkSegmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(index).GetName() for index in range(segmentation.GetNumberOfSegments())]
