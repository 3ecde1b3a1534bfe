"""Turns a result folder into nodes. It understands kinds of artifacts, not tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import slicer
import vtk

from . import Display
from .EngineErrors import EngineError
from .LoadedResult import LoadedResult, Picture
from .ResultAttributes import INPUT_REFERENCE, PROVENANCE, RECORD_REFERENCE, RESULT_NAME, ROLE, TASK, UNITS
from .ResultRecord import TaskCall, keepRecord
from .SubjectHierarchy import addResultFolder, placeInFolder, removeFolder
from .TableNodes import chartFromTable, tableFromFile


def readResult(folder: str | Path) -> dict[str, Any]:
    """Return the content of a folder's ``result.json``, or of a result's file itself.

    :raises EngineError: there is none, or it is damaged.
    """
    path = _resultFile(Path(folder))
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        result["status"], result["task"], result["artifacts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"{path} holds no result of the engine: {error}.", "Choose a folder that a job has written."
        ) from error
    return result


def loadResult(
    folder: str | Path,
    inputNode: Any = None,
    inputName: str = "",
    keepFiles: bool = False,
    call: TaskCall | None = None,
    notes: Sequence[str] = (),
) -> LoadedResult:
    """Load every artifact of a result as new nodes, named ``<input> <artifact>``; none is overwritten.

    :param folder: the result's folder, or its file there.
    :param inputNode: the node that was explained; the results go under its patient or study.
    :param keepFiles: whether the folder stays, so that nodes may refer to its files.
    :param call: how the task was asked for, so that it can be repeated.
    :param notes: what was done to the inputs; they go before the engine's warnings.
    :raises EngineError: the result or one of its files cannot be read; no node is left behind then.
    """
    result = readResult(folder)
    added: list[Any] = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def remember(_scene: Any, _event: str, node: Any) -> None:
        added.append(node)

    scene = slicer.mrmlScene
    observer = scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, remember)
    result["warnings"] = [*notes, *(result.get("warnings") or [])]
    loading = _Loading(_resultFile(Path(folder)).parent, result, inputNode, inputName, keepFiles)
    try:
        loaded = loading.load()
        record = keepRecord(loaded, call)
        for node in added:
            if node.GetAttribute(TASK):
                node.SetNodeReferenceID(RECORD_REFERENCE, record.GetID())
        return loaded
    except Exception:
        # A browser makes its image anew when that is removed, so that browsers go first.
        added.sort(key=lambda node: not node.IsA("vtkMRMLSequenceBrowserNode"))
        for node in added:
            if scene.IsNodePresent(node):
                scene.RemoveNode(node)
        removeFolder(loading.folderItem)
        raise
    finally:
        scene.RemoveObserver(observer)


def _resultFile(path: Path) -> Path:
    return path if path.is_file() else path / RESULT_NAME


class _Loading:
    """One result on its way into the scene."""

    def __init__(self, folder: Path, result: dict[str, Any], inputNode: Any, inputName: str, keepFiles: bool) -> None:
        self._folder = folder
        self._result = result
        self._inputNode = inputNode if inputNode and slicer.mrmlScene.IsNodePresent(inputNode) else None
        self._inputName = inputName or (inputNode.GetName() if inputNode else "")
        self._keepFiles = keepFiles
        self._loaded = LoadedResult(
            task=result["task"],
            values=result.get("values") or {},
            warnings=result["warnings"],
            provenance=result.get("provenance") or {},
            inputName=self._inputName,
        )
        self._loaders: dict[str, Callable[[Path, str, Mapping[str, Any]], Any]] = {
            "volume": self._loadVolume,
            "segmentation": self._loadSegmentation,
            "table": self._loadTable,
            "plot": self._loadPlot,
            "sequence": self._loadSequence,
            "text": self._loadText,
        }

    @property
    def folderItem(self) -> int:
        return self._loaded.folderItem

    def load(self) -> LoadedResult:
        title = self._result["task"].replace("-", " ").capitalize()
        self._loaded.folderItem = addResultFolder(self._inputNode, f"{self._inputName} {title}".strip())
        for artifact in self._result["artifacts"]:
            self._loadArtifact(artifact)
        return self._loaded

    def _loadArtifact(self, artifact: Mapping[str, Any]) -> None:
        path, role = self._path(artifact), artifact["role"]
        loader = self._loaders.get(artifact["kind"])
        if loader is None:
            self._loaded.files[role] = path
            picture = Picture.fromFile(path, artifact["name"], artifact.get("description") or "")
            if picture is not None:
                self._loaded.pictures[role] = picture
            return
        name = _uniqueNodeName(f"{self._inputName} {artifact['name']}".strip())
        try:
            node = loader(path, name, artifact)
        except RuntimeError as error:
            raise EngineError(
                f"{path.name}, a {artifact['kind']} of the result, cannot be loaded: {error}", "Run the job again."
            ) from error
        self._describe(node, artifact)
        self._loaded.nodes[role] = node
        self._loaded.hints[role] = artifact.get("display") or {}

    def _path(self, artifact: Mapping[str, Any]) -> Path:
        path = (self._folder / artifact["file"]).resolve()
        if not path.is_relative_to(self._folder.resolve()) or not path.is_file():
            raise EngineError(f"The result lacks its file {artifact['file']}.", "Run the job again.")
        return path

    def _loadVolume(self, path: Path, name: str, artifact: Mapping[str, Any]) -> Any:
        node = slicer.util.loadVolume(str(path), {"name": name, "show": False})
        Display.setMapDisplay(node, artifact.get("display") or {})
        return self._detached(node)

    def _loadSegmentation(self, path: Path, name: str, artifact: Mapping[str, Any]) -> Any:
        node = slicer.util.loadSegmentation(str(path), {"name": name})
        node.SetName(name)
        if self._inputNode is not None and self._inputNode.IsA("vtkMRMLScalarVolumeNode"):
            node.SetReferenceImageGeometryParameterFromVolumeNode(self._inputNode)
        Display.setSegmentationDisplay(node, artifact.get("display") or {})
        return self._detached(node)

    def _loadTable(self, path: Path, name: str, _artifact: Mapping[str, Any]) -> Any:
        return tableFromFile(path, name)

    def _loadPlot(self, path: Path, name: str, artifact: Mapping[str, Any]) -> Any:
        hints = artifact.get("display") or {}
        table = self._loaded.nodes.get(hints.get("table"))
        if table is None:
            table = tableFromFile(path, _uniqueNodeName(f"{name} table"))
            self._describe(table, artifact)
        chart, *series = chartFromTable(table, name, hints)
        for node in series:
            self._describe(node, artifact)
        return chart

    def _loadSequence(self, path: Path, name: str, artifact: Mapping[str, Any]) -> Any:
        node = slicer.util.loadSequence(str(path), {"name": name, "show": False})
        node.SetName(name)
        logic = slicer.modules.sequences.logic()
        browser = logic.GetFirstBrowserNodeForSequenceNode(node)
        if browser is None:
            browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
            browser.AddSynchronizedSequenceNode(node)
        logic.UpdateProxyNodesFromSequences(browser)
        proxy = browser.GetProxyNode(node)
        if proxy is not None:
            proxy.SetName(f"{name} image")
            self._describe(proxy, artifact)
            if proxy.IsA("vtkMRMLScalarVolumeNode"):
                Display.setMapDisplay(proxy, artifact.get("display") or {})
        self._describe(browser, artifact)
        return self._detached(node)

    def _loadText(self, path: Path, name: str, _artifact: Mapping[str, Any]) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", name)
        node.SetText(path.read_text(encoding="utf-8"))
        return node

    def _detached(self, node: Any) -> Any:
        """Forget the file of a node whose folder goes, so that saving asks for a name of its own."""
        storage = node.GetStorageNode()
        if storage is not None and not self._keepFiles:
            slicer.mrmlScene.RemoveNode(storage)
        return node

    def _describe(self, node: Any, artifact: Mapping[str, Any]) -> None:
        """Write on a node what it is and how it was made; this is saved with the scene."""
        node.SetAttribute(TASK, self._result["task"])
        node.SetAttribute(ROLE, artifact["role"])
        node.SetAttribute(UNITS, artifact.get("units") or "")
        node.SetAttribute(PROVENANCE, json.dumps(self._loaded.provenance, ensure_ascii=False))
        if artifact.get("description"):
            node.SetDescription(artifact["description"])
        if self._inputNode is not None:
            node.SetNodeReferenceID(INPUT_REFERENCE, self._inputNode.GetID())
        placeInFolder(node, self._loaded.folderItem)


def _uniqueNodeName(name: str) -> str:
    """Return the name, with a number if a node has it already."""
    unique, number = name, 1
    while slicer.mrmlScene.GetFirstNodeByName(unique) is not None:
        number += 1
        unique = f"{name} {number}"
    return unique
