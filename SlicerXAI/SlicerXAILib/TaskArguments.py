"""Sorts the arguments of a console function into a task's inputs and options, and refuses those that do not fit."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer

from .EngineErrors import EngineError, NodeError

# What may stand for an input of each kind: node classes, and how a user calls them.
_NODES = {
    "volume": (("vtkMRMLScalarVolumeNode",), "a volume"),
    "segmentation": (
        ("vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode", "vtkMRMLMarkupsROINode"),
        "a segmentation, one of its segments as (segmentation, name), a label map or an ROI",
    ),
    "table": (("vtkMRMLTableNode",), "a table"),
    "folder": (
        ("vtkMRMLScalarVolumeNode", "vtkMRMLSequenceNode", "vtkMRMLSegmentationNode"),
        "volumes, segmentations, a sequence",
    ),
}
_POINTS = (("vtkMRMLMarkupsNode",), "R, A, S in mm, or a point markup")
MODEL = "model"
_NUMBERS = {"integer": "a whole number", "float": "a number"}


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
        names = " and ".join(item["name"] for item in missing)
        raise ArgumentError(
            f"{task['title']} needs {names}.", " ".join(f"{item['name']}: {item['description']}" for item in missing)
        )
    return found


def _checkNames(task: Mapping[str, Any], fields: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=2)
            hint = f"Did you mean {' or '.join(near)}? " if near else ""
            raise ArgumentError(
                f"{task['title']} takes no argument called {name}.", f"{hint}It takes {', '.join(fields)}."
            )


def _input(item: Mapping[str, Any], value: Any) -> Any:
    classes, words = _NODES.get(item["kind"], ((), "a file"))
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
    raise NodeError(f"{name} takes {words}, or the path of a file; found {_called(value)}.", f"Give {words}.")


def _option(item: Mapping[str, Any], value: Any) -> Any:
    name, kind = item["name"], item["type"]
    if item["source"] == "point":
        return _node(name, value, *_POINTS) if not isinstance(value, (list, tuple)) else _text(value)
    if kind == "list":
        parts = list(value) if isinstance(value, (list, tuple)) else [value]
        return [_member(item, part) for part in parts]
    if kind == "boolean":
        if not isinstance(value, bool):
            raise ArgumentError(f"{name} takes True or False; found {value!r}.", item["description"])
        return value
    if kind in _NUMBERS:
        return _number(item, value)
    if kind == "choice" and value not in item["choices"]:
        raise ArgumentError(f"{name} cannot be {value!r}.", f"Choose from {', '.join(item['choices'])}.")
    return str(value) if isinstance(value, Path) else value


def _member(item: Mapping[str, Any], part: Any) -> Any:
    """Return an entry of a list; hyphens, underscores and letter case make no difference, as in the engine."""
    known = {_plain(choice) for choice in item["choices"]}
    if known and _plain(part) not in known:
        near = difflib.get_close_matches(_plain(part), known, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ArgumentError(
            f"{item['name']} cannot hold {part!r}.", f"{hint}Choose from {', '.join(item['choices'])}."
        )
    return part


def _number(item: Mapping[str, Any], value: Any) -> Any:
    name, low, high = item["name"], item["minimum"], item["maximum"]
    wanted = _NUMBERS[item["type"]] + (f" in {item['unit']}" if item["unit"] else "")
    whole = item["type"] == "float" or (isinstance(value, (int, float)) and value == int(value))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not whole:
        raise ArgumentError(f"{name} takes {wanted}; found {value!r}.", item["description"])
    below = low is not None and (value < low or (item["exclusive_minimum"] and value == low))
    above = high is not None and (value > high or (item["exclusive_maximum"] and value == high))
    if below or above:
        limits = [f"from {low:g}"] if low is not None else []
        limits += [f"up to {high:g}"] if high is not None else []
        raise ArgumentError(f"{name} cannot be {value:g}.", f"Give {wanted} {' '.join(limits)}.")
    return int(value) if item["type"] == "integer" else value


def _plain(value: Any) -> str:
    return str(value).strip().lower().replace("-", "_")


def _text(values: Sequence[Any]) -> str:
    return ",".join(str(value) for value in values)


def _called(value: Any) -> str:
    if isinstance(value, slicer.vtkMRMLNode):
        return f"the {value.GetNodeTagName()} {value.GetName()}"
    return repr(value)
