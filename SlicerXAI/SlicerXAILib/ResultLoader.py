"""Turns a result folder into nodes. It understands kinds of artifacts, not tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import slicer
import vtk

from .ArtifactNodes import ArtifactNodes, uniqueNodeName
from .BackgroundCall import inBackground
from .EngineErrors import EngineError
from .LoadedResult import LoadedResult, Picture
from .ResultAttributes import INPUT_REFERENCE, PROVENANCE, RECORD_REFERENCE, RESULT_NAME, ROLE, TASK, UNITS
from .ResultRecord import TaskCall, keepRecord
from .SubjectHierarchy import addResultFolder, hasItem, placeInFolder, removeFolder
from .TaskDescriptions import taskName
from .Translation import tr as _


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
            _("{path} holds no result of the engine: {reason}.").format(path=path, reason=error),
            _("Choose a folder that a job has written."),
        ) from error
    return result


def loadResult(folder: str | Path, *arguments: Any, **more: Any) -> LoadedResult:
    """Load every artifact of a result at once; the arguments are those of :class:`ResultLoading`.

    :raises EngineError: the result or one of its files cannot be read; no node is left behind then.
    """
    loading = ResultLoading(folder, *arguments, **more)
    while loading.result is None:
        loading.advance()
    return loading.result


class ResultLoading:
    """A result on its way into the scene, which goes on with every call of :meth:`advance`.

    Every artifact becomes new nodes, named ``<input> <artifact>``; none is overwritten. Between the calls the user may
    do anything to the scene.
    """

    def __init__(
        self,
        folder: str | Path,
        inputNode: Any = None,
        inputName: str = "",
        keepFiles: bool = False,
        call: TaskCall | None = None,
        notes: Sequence[str] = (),
        cleanUp: Callable[[], Any] | None = None,
    ) -> None:
        """:param folder: the result's folder, or its file there.
        :param inputNode: the node that was explained; the results go under its patient or study.
        :param keepFiles: whether the folder stays, so that nodes may refer to its files.
        :param call: how the task was asked for, so that it can be repeated.
        :param notes: what was done to the inputs; they go before the engine's warnings.
        :param cleanUp: removes the files when all of them are loaded; called by a thread, as it may take long.
        """
        self.result: LoadedResult | None = None
        self._path = Path(folder)
        self._inputNode = inputNode
        self._inputName = inputName or (inputNode.GetName() if inputNode else "")
        self._keepFiles = keepFiles
        self._call, self._notes, self._cleanUp = call, notes, cleanUp
        self._loaded = LoadedResult(task="", inputName=self._inputName)
        self._artifactNodes = ArtifactNodes(self._explained, self._nodeOf, self._describe, keepFiles)
        self._provenance = ""
        self._added: list[Any] = []
        self._isAdvancing = self._isDiscarded = False
        self._steps = self._load()

    def advance(self) -> LoadedResult | None:
        """Do the next piece of work; returns the result once all of it is loaded.

        :raises EngineError: the result or one of its files cannot be read; no node is left behind then.
        """
        if self._isAdvancing or self._isDiscarded or self.result is not None:
            return self.result
        scene = slicer.mrmlScene
        observer = scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, self._remember)
        self._isAdvancing = True
        try:
            next(self._steps)
        except StopIteration as ended:
            self.result = ended.value
        except Exception:
            self._isDiscarded = True
            raise
        finally:
            self._isAdvancing = False
            scene.RemoveObserver(observer)
            if self._isDiscarded:
                self._remove()
        return self.result

    def discard(self) -> None:
        """Stop, and remove the nodes that were loaded already."""
        if self._isDiscarded or self.result is not None:
            return
        self._isDiscarded = True
        if not self._isAdvancing:  # otherwise the step that runs removes them when it ends
            self._remove()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _remember(self, _scene: Any, _event: str, node: Any) -> None:
        self._added.append(node)

    def _remove(self) -> None:
        self._steps.close()
        # A browser makes its image again when that is removed, so that browsers go first.
        self._added.sort(key=lambda node: not node.IsA("vtkMRMLSequenceBrowserNode"))
        for node in self._added:
            if _isPresent(node):
                slicer.mrmlScene.RemoveNode(node)
        removeFolder(self._loaded.folderItem)
        self._added = []

    def _load(self) -> Generator[None, None, LoadedResult]:
        result = yield from inBackground(lambda _isStopped: readResult(self._path))
        loaded = self._loaded
        loaded.task, loaded.values = result["task"], result.get("values") or {}
        loaded.warnings = [*self._notes, *(result.get("warnings") or [])]
        loaded.provenance = result.get("provenance") or {}
        self._provenance = json.dumps(loaded.provenance, ensure_ascii=False)
        self._addFolder()
        for artifact in result["artifacts"]:
            yield
            yield from self._loadArtifact(artifact)
        if self._cleanUp is not None:
            yield from inBackground(lambda _isStopped: self._cleanUp())
        yield
        self._keep()
        yield
        return loaded

    def _keep(self) -> None:
        """Add the record of the result; what the user has removed meanwhile is no part of it."""
        loaded = self._loaded
        loaded.nodes = {role: node for role, node in loaded.nodes.items() if _isPresent(node)}
        loaded.hints = {role: hints for role, hints in loaded.hints.items() if role in loaded.nodes}
        record = keepRecord(loaded, self._call)
        for node in self._added:
            if _isPresent(node) and node.GetAttribute(TASK):
                node.SetNodeReferenceID(RECORD_REFERENCE, record.GetID())

    def _loadArtifact(self, artifact: Mapping[str, Any]) -> Generator[None, None, None]:
        path, role = self._file(artifact), artifact["role"]
        loader = self._artifactNodes.loader(artifact["kind"])
        if loader is None:
            if self._keepFiles:
                self._loaded.files[role] = path
            about = artifact.get("description") or ""
            picture = yield from inBackground(lambda _isStopped: Picture.fromFile(path, artifact["name"], about))
            if picture is not None:
                self._loaded.pictures[role] = picture
            return
        name = uniqueNodeName(f"{self._inputName} {artifact['name']}".strip())
        try:
            node = yield from loader(path, name, artifact)
        except EngineError:
            raise
        except RuntimeError as error:
            raise EngineError(
                _("{file}, a {kind} of the result, cannot be loaded: {reason}").format(
                    file=path.name, kind=artifact["kind"], reason=error
                ),
                _("Run the job again."),
            ) from error
        self._describe(node, artifact)
        self._loaded.nodes[role] = node
        self._loaded.hints[role] = artifact.get("display") or {}

    def _file(self, artifact: Mapping[str, Any]) -> Path:
        folder = _resultFile(self._path).parent
        path = (folder / artifact["file"]).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            raise EngineError(
                _("The result lacks its file {file}.").format(file=artifact["file"]), _("Run the job again.")
            )
        return path

    def _explained(self) -> Any:
        """Return the node that was explained, if it is still in the scene."""
        return self._inputNode if self._inputNode is not None and _isPresent(self._inputNode) else None

    def _addFolder(self) -> None:
        title = taskName(self._loaded.task)
        self._loaded.folderItem = addResultFolder(self._explained(), f"{self._inputName} {title}".strip())

    def _nodeOf(self, role: str | None) -> Any:
        node = self._loaded.nodes.get(role)
        return node if node is not None and _isPresent(node) else None

    def _describe(self, node: Any, artifact: Mapping[str, Any]) -> None:
        """Write on a node what it is and how it was made; this is saved with the scene."""
        node.SetAttribute(TASK, self._loaded.task)
        node.SetAttribute(ROLE, artifact["role"])
        node.SetAttribute(UNITS, artifact.get("units") or "")
        node.SetAttribute(PROVENANCE, self._provenance)
        if artifact.get("description"):
            node.SetDescription(artifact["description"])
        explained = self._explained()
        if explained is not None:
            node.SetNodeReferenceID(INPUT_REFERENCE, explained.GetID())
        if not hasItem(self._loaded.folderItem):
            self._addFolder()
        placeInFolder(node, self._loaded.folderItem)


def _isPresent(node: Any) -> bool:
    return bool(slicer.mrmlScene.IsNodePresent(node))


def _resultFile(path: Path) -> Path:
    return path if path.is_file() else path / RESULT_NAME
