"""Keeps in the scene what belongs to a result as a whole: its numbers, warnings, pictures, and how it was asked for.

The record is a hidden node; every node of the result refers to it. It is saved and read with the scene.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import slicer

from .ColorTables import removeUnusedTables
from .EngineErrors import EngineError
from .LoadedResult import LoadedResult, Picture
from .ResultAttributes import INPUT_REFERENCE, RECORD_REFERENCE, ROLE
from .Series import browserOf, imageOf, removeLostImages
from .Translation import tr as _

_NODE_ROLE = "XAI.Node."
_GIVEN_ROLE = "XAI.Given."
_CLASS = "vtkMRMLScriptedModuleNode"
# What a call is repeated with.
_SETTINGS = ("model", "device", "seed")


@dataclass(frozen=True)
class TaskCall:
    """How a task was asked for: nodes and values, as the caller gave them. ``settings`` are the job's other fields."""

    task: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def keepRecord(loaded: LoadedResult, call: TaskCall | None = None) -> Any:
    """Add the record of a result to the scene and return it; what lost results have left is removed."""
    removeOrphans()
    record = slicer.mrmlScene.AddNewNodeByClass(_CLASS, f"{loaded.inputName} {loaded.task} record".strip())
    record.SetHideFromEditors(True)
    content = {
        "task": loaded.task,
        "values": loaded.values,
        "warnings": loaded.warnings,
        "provenance": loaded.provenance,
        "hints": {role: dict(hints) for role, hints in loaded.hints.items()},
        "inputName": loaded.inputName,
        # Those that a user sees in the hierarchy, and can delete there.
        "listed": [role for role, node in loaded.nodes.items() if not node.IsA("vtkMRMLSequenceNode")],
    }
    if call is not None:
        encoder = _Encoder(record)
        content["call"] = {
            "inputs": {name: encoder.encode(value) for name, value in call.inputs.items() if value is not None},
            "options": {name: encoder.encode(value) for name, value in call.options.items() if value is not None},
            "settings": dict(call.settings),
        }
    record.SetParameter("result", json.dumps(content))
    # Pictures are large: they stand by themselves, so that what is asked often is read quickly.
    pictures = {role: asdict(picture) for role, picture in loaded.pictures.items()}
    record.SetParameter("pictures", json.dumps(pictures))
    for role, node in loaded.nodes.items():
        record.SetNodeReferenceID(_NODE_ROLE + role, node.GetID())
    loaded.record = record
    return record


def recordOf(node: Any) -> Any:
    """Return the record of the result to which a node belongs; None if it belongs to none."""
    if node is None or _isRecord(node):
        return node
    return node.GetNodeReference(RECORD_REFERENCE)


def resultOf(node: Any) -> LoadedResult:
    """Return the result to which a node belongs, with those of its nodes that are still in the scene.

    :raises EngineError: the node belongs to no result.
    """
    record = recordOf(node)
    if record is None:
        name = node.GetName() if node is not None else _("Nothing")
        raise EngineError(
            _("{name} is no result of SlicerXAI.").format(name=name),
            _("Choose a map, table or segmentation that it made."),
        )
    content = _content(record)
    loaded = LoadedResult(
        task=content["task"],
        nodes=_nodes(record),
        values=content["values"],
        warnings=content["warnings"],
        provenance=content["provenance"],
        hints=content["hints"],
        pictures={role: Picture(**picture) for role, picture in _picturesIn(record).items()},
        inputName=content["inputName"],
        record=record,
    )
    loaded.folderItem = _folderOf(loaded.nodes)
    return loaded


def recordsInScene() -> list[Any]:
    """Return the records of the results in the scene that still have nodes, oldest first."""
    return [node for node in slicer.util.getNodesByClass(_CLASS) if _isRecord(node) and _nodes(node)]


def titleOf(record: Any) -> str:
    """Return what a result is called in the Subject Hierarchy."""
    folder = _folderOf(_nodes(record))
    return (slicer.mrmlScene.GetSubjectHierarchyNode().GetItemName(folder) if folder else "") or record.GetName()


def callOf(node: Any, leftOut: Collection[str] = ()) -> TaskCall:
    """Return how the result of a node was asked for, with the nodes that were given.

    Whether the model was trusted is left out: a record may come from anywhere, and it is for the user to say.

    :param leftOut: names of arguments that are not wanted, because others take their place.
    :raises EngineError: the node belongs to no result, or what was given is no longer there.
    """
    loaded = resultOf(node)
    content = _content(loaded.record).get("call")
    if content is None:
        return _callOfFiles(loaded, leftOut)
    decoder = _Decoder(loaded.record)

    def decoded(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: decoder.decode(name, value) for name, value in values.items() if name not in leftOut}

    settings = {name: value for name, value in content["settings"].items() if name in _SETTINGS}
    return TaskCall(loaded.task, decoded(content["inputs"]), decoded(content["options"]), settings)


def namesOfInputs(node: Any) -> dict[str, str]:
    """Return what was given to the result of a node, by argument, as a reader calls it; also of nodes now gone."""
    content = _content(recordOf(node)) if recordOf(node) is not None else {}
    given = (content.get("call") or {}).get("inputs")
    if given is None:
        job = (content.get("provenance") or {}).get("job") or {}
        given = job.get("inputs") or {}
    return {name: _called(value) for name, value in given.items()}


def inputOf(node: Any) -> Any:
    """Return the node that was explained, or None."""
    return node.GetNodeReference(INPUT_REFERENCE) if node is not None else None


def explainedNode(loaded: LoadedResult) -> Any:
    """Return the node that a result explains, or None where it is gone."""
    return next((found for found in map(inputOf, loaded.nodes.values()) if found is not None), None)


def backgroundOf(mapNode: Any) -> Any:
    """Return what a map of a result lies over: the volume that the engine names, or else what was explained."""
    record = recordOf(mapNode)
    hints = _content(record)["hints"].get(mapNode.GetAttribute(ROLE), {}) if record is not None else {}
    named = record.GetNodeReference(_NODE_ROLE + str(hints.get("background"))) if hints else None
    return named if named is not None else inputOf(mapNode)


def shortName(node: Any) -> str:
    """Return the name of a result's node without that of the scan before it."""
    record = recordOf(node)
    name = node.GetName()
    if record is not None:
        name = name.removeprefix(f"{_content(record)['inputName']} ")
    return name[:1].upper() + name[1:]


def removeOrphans() -> None:
    """Remove what is left of results whose nodes were removed: records, images of series, clipped color tables."""
    for record in slicer.util.getNodesByClass(_CLASS):
        if _isRecord(record):
            _removeSeriesOf(record)
            if not _nodes(record):
                slicer.mrmlScene.RemoveNode(record)
    removeLostImages()
    removeUnusedTables()


def _removeSeriesOf(record: Any) -> None:
    """Remove the series of a result whose other nodes are all gone.

    Slicer's hierarchy has no items for sequences and their browsers: who deletes the folder of a result leaves them.
    """
    left = _nodes(record)
    series = [node for node in left.values() if node.IsA("vtkMRMLSequenceNode")]
    others = _content(record).get("listed")
    if not series or not others or any(role in left for role in others):
        return
    images = [imageOf(node) for node in series]
    # A browser makes its image again when that is removed, so that browsers go first.
    for node in [*map(browserOf, series), *images, *series]:
        if node is not None and slicer.mrmlScene.IsNodePresent(node):
            slicer.mrmlScene.RemoveNode(node)


class _Encoder:
    """Turns nodes into references of the record, so that they outlive a change of identifiers."""

    def __init__(self, record: Any) -> None:
        self._record = record
        self._count = 0

    def encode(self, value: Any) -> Any:
        if isinstance(value, slicer.vtkMRMLNode):
            role = f"{_GIVEN_ROLE}{self._count}"
            self._count += 1
            # A node that was removed while the task ran has no place in the scene: its identifier names another now.
            if slicer.mrmlScene.IsNodePresent(value):
                self._record.SetNodeReferenceID(role, value.GetID())
            return {"node": role, "name": value.GetName()}
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], slicer.vtkMRMLNode):
            segments = [value[1]] if isinstance(value[1], str) else list(value[1])
            return {**self.encode(value[0]), "segments": segments}
        if isinstance(value, (list, tuple)):
            return [self.encode(item) for item in value]
        return str(value) if isinstance(value, Path) else value


class _Decoder:
    def __init__(self, record: Any) -> None:
        self._record = record

    def decode(self, name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(name, item) for item in value]
        if not isinstance(value, dict):
            return value
        node = self._record.GetNodeReference(value["node"])
        if node is None:
            raise EngineError(
                _("{node}, which was given as {name}, is no longer in the scene.").format(
                    node=value["name"], name=name
                ),
                _("Load it again and give it: rerun(node, {name}=...).").format(name=name),
            )
        return (node, value["segments"]) if "segments" in value else node


def _callOfFiles(loaded: LoadedResult, leftOut: Collection[str]) -> TaskCall:
    """Return the call of a result that was read from a folder: its inputs are files."""
    job = loaded.provenance.get("job")
    if not job:
        raise EngineError(_("It is not known how this result was asked for."), _("Start the task again."))
    inputs = {name: path for name, path in job["inputs"].items() if name not in leftOut}
    gone = [path for path in inputs.values() if isinstance(path, str) and path and not Path(path).exists()]
    if gone:
        raise EngineError(
            _("{file}, from which the result was made, is gone.").format(file=gone[0]), _("Give the input again.")
        )
    settings = {name: job[name] for name in _SETTINGS if name in job}
    return TaskCall(loaded.task, inputs, job["options"], settings)


def _called(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_called(item) for item in value)
    if isinstance(value, dict):
        segments = value.get("segments")
        return value["name"] + (f" ({', '.join(segments)})" if segments else "")
    return str(value)


def _content(record: Any) -> dict[str, Any]:
    return json.loads(record.GetParameter("result"))


def _picturesIn(record: Any) -> dict[str, Any]:
    return json.loads(record.GetParameter("pictures") or "{}")


def _isRecord(node: Any) -> bool:
    return bool(node.IsA(_CLASS)) and bool(node.GetParameter("result")) and node.GetAttribute("ModuleName") is None


def _nodes(record: Any) -> dict[str, Any]:
    roles: list[str] = []
    record.GetNodeReferenceRoles(roles)
    found = {role.removeprefix(_NODE_ROLE): record.GetNodeReference(role) for role in roles if _NODE_ROLE in role}
    return {role: node for role, node in found.items() if node is not None}


def _folderOf(nodes: Mapping[str, Any]) -> int:
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    items = (hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes.values())
    return next((item for item in items if item), 0)
