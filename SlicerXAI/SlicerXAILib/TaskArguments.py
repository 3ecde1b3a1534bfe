"""Sorts the arguments of a console function into a task's inputs and options, and refuses those that do not fit."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer

from .EngineErrors import EngineError, NodeError
from .TaskDescriptions import didYouMean
from .Translation import tr as _

# Classes of the nodes that may stand for an input of each kind.
_NODES = {
    "volume": ("vtkMRMLScalarVolumeNode",),
    "segmentation": ("vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode", "vtkMRMLMarkupsROINode"),
    "table": ("vtkMRMLTableNode",),
    "folder": ("vtkMRMLScalarVolumeNode", "vtkMRMLSequenceNode", "vtkMRMLSegmentationNode"),
}
_POINTS = ("vtkMRMLMarkupsNode",)
MODEL = "model"
_NUMBERS = ("integer", "float")


class ArgumentError(EngineError):
    """An argument that a task does not take."""


@dataclass
class TaskArguments:
    """What a job is given: ``inputs`` (nodes, files, values), ``options`` and the ``model``."""

    inputs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    model: str = ""


def sortArguments(task: Mapping[str, Any], arguments: Mapping[str, Any]) -> TaskArguments:
    """Return the arguments by what they are to the task; those that are None are left out.

    :param task: the task's description.
    :raises ArgumentError: an unknown name, a missing input or a value out of range; what is allowed is listed.
    :raises NodeError: a node of a kind that the argument does not take.
    """
    fields = {item["name"]: item for item in task["options"]}
    # Scripts and scenes of earlier versions call some arguments by other names.
    former = task.get("former_names") or {}
    arguments = {former.get(name, name): value for name, value in arguments.items()}
    _checkNames(task, fields, arguments)
    given = {name: value for name, value in arguments.items() if value is not None}
    found = TaskArguments()
    for name, value in given.items():
        item = fields[name]
        if name == MODEL:
            found.model = str(value)
        elif item["role"] == "input":
            found.inputs[name] = _input(item, value)
        else:
            found.options[name] = _option(item, value)
    missing = [item for item in fields.values() if item["required"] and item["name"] not in given]
    if missing:
        names = _(" and ").join(item["name"] for item in missing)
        raise ArgumentError(
            _("{task} needs {names}.").format(task=task["title"], names=names),
            " ".join(f"{item['name']}: {item['description']}" for item in missing),
        )
    return found


def _checkNames(task: Mapping[str, Any], fields: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=2)
            raise ArgumentError(
                _("{task} takes no argument called {name}.").format(task=task["title"], name=name),
                _withHint(_("It takes {names}.").format(names=", ".join(fields)), near),
            )


def _input(item: Mapping[str, Any], value: Any) -> Any:
    classes, words = _NODES.get(item["kind"], ()), _wordsOf(item["kind"])
    if item["kind"] == "folder" and isinstance(value, (list, tuple)):
        return [_node(item["name"], part, classes, words) for part in value]
    if item["kind"] == "segmentation" and isinstance(value, tuple):
        return (_node(item["name"], value[0], ("vtkMRMLSegmentationNode",), words), value[1])
    found = _node(item["name"], value, classes, words)
    # a single volume or segmentation is a folder of one; the volumes of a sequence are many
    if item["kind"] == "folder" and isinstance(found, slicer.vtkMRMLNode) and not found.IsA("vtkMRMLSequenceNode"):
        return [found]
    return found


def _node(name: str, value: Any, classes: Sequence[str], words: str) -> Any:
    """Return a value that is a node of one of the classes, or the path of a file."""
    if isinstance(value, (str, Path)):
        return value
    if isinstance(value, slicer.vtkMRMLNode) and any(value.IsA(item) for item in classes):
        return value
    raise NodeError(
        _("{name} takes {words}, or the path of a file; found {found}.").format(
            name=name, words=words, found=_called(value)
        ),
        _("Give {words}.").format(words=words),
    )


def _wordsOf(kind: str) -> str:
    """Return how a user calls what may stand for an input of a kind."""
    words = {
        "volume": _("a volume"),
        "segmentation": _("a segmentation, one of its segments as (segmentation, name), a label map or an ROI"),
        "table": _("a table"),
        "folder": _("volumes, segmentations, a sequence"),
    }
    return words.get(kind) or _("a file")


def _option(item: Mapping[str, Any], value: Any) -> Any:
    name, kind = item["name"], item["type"]
    if item["source"] == "point":
        words = _("R, A, S in mm, or a point markup")
        return _node(name, value, _POINTS, words) if not isinstance(value, (list, tuple)) else _text(value)
    if kind == "list":
        parts = list(value) if isinstance(value, (list, tuple)) else [value]
        return [_member(item, part) for part in parts]
    if kind == "boolean":
        if not isinstance(value, bool):
            text = _("{name} takes True or False; found {value}.").format(name=name, value=repr(value))
            raise ArgumentError(text, item["description"])
        return value
    if kind in _NUMBERS:
        return _number(item, value)
    if kind == "choice" and value not in item["choices"]:
        raise ArgumentError(_("{name} cannot be {value}.").format(name=name, value=repr(value)), _choicesOf(item))
    return str(value) if isinstance(value, Path) else value


def _member(item: Mapping[str, Any], part: Any) -> Any:
    """Return an entry of a list; hyphens, underscores and letter case make no difference, as in the engine."""
    known = {_plain(choice): choice for choice in item["choices"]}
    if known and _plain(part) not in known:
        near = [known[plain] for plain in difflib.get_close_matches(_plain(part), known, n=1)]
        text = _("{name} cannot hold {value}.").format(name=item["name"], value=repr(part))
        raise ArgumentError(text, _withHint(_choicesOf(item), near))
    return part


def _number(item: Mapping[str, Any], value: Any) -> Any:
    name, low, high = item["name"], item["minimum"], item["maximum"]
    wanted = _("a whole number") if item["type"] == "integer" else _("a number")
    if item["unit"]:
        wanted = _("{number} in {unit}").format(number=wanted, unit=item["unit"])
    whole = item["type"] == "float" or (isinstance(value, (int, float)) and value == int(value))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not whole:
        text = _("{name} takes {wanted}; found {value}.").format(name=name, wanted=wanted, value=repr(value))
        raise ArgumentError(text, item["description"])
    below = low is not None and (value < low or (item["exclusive_minimum"] and value == low))
    above = high is not None and (value > high or (item["exclusive_maximum"] and value == high))
    if below or above:
        limits = [_("from {low:g}").format(low=low)] if low is not None else []
        limits += [_("up to {high:g}").format(high=high)] if high is not None else []
        raise ArgumentError(
            _("{name} cannot be {value:g}.").format(name=name, value=value),
            _("Give {wanted} {limits}.").format(wanted=wanted, limits=" ".join(limits)),
        )
    return int(value) if item["type"] == "integer" else value


def _plain(value: Any) -> str:
    return "".join(letter for letter in str(value).strip().lower() if letter not in " -_")


def _text(values: Sequence[Any]) -> str:
    return ",".join(str(value) for value in values)


def _withHint(text: str, near: Sequence[str]) -> str:
    """Return a text behind the names that may have been meant."""
    return " ".join([*([didYouMean(near)] if near else []), text])


def _choicesOf(item: Mapping[str, Any]) -> str:
    return _("Choose from {names}.").format(names=", ".join(item["choices"]))


def _called(value: Any) -> str:
    if isinstance(value, slicer.vtkMRMLNode):
        return _("the {kind} {name}").format(kind=value.GetNodeTagName(), name=value.GetName())
    return repr(value)
