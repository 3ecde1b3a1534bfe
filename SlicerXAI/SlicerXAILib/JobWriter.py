"""Writes nodes as the files of a job, placed where they are in the world."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from .AbandonedFolders import JOB_PREFIX, FolderLock, removeFreeLock
from .EngineErrors import NodeError
from .FileNames import fileName
from .MarkupInputs import boxLabels, labelMapNode, pointText
from .ResultAttributes import PROVENANCE, RESULT_NAME, ROLE, TASK
from .ScanWriting import ScanWriting
from .Translation import tr as _

SCAN = "volume"
# Written in a few milliseconds.
_SMALL_VOXELS = 2_000_000
# Of the folder beside its destination in which the engine collects a result.
_PARTIAL_PREFIX = ".partial-"
_PARTIAL_MARK = ".xaiengine-partial"
_ENGINE_LOCK = ".xaiengine.lock"


class JobFolder:
    """A folder of its own for one job's input and output files.

    ``notes`` tells the user what was done to the inputs.
    """

    def __init__(self, parent: str | Path, output: str | Path = "", inTurns: bool = False) -> None:
        """:param output: where the results stay; a folder that is removed with the others if empty.
        :param inTurns: whether large scans are left to :meth:`writeScans`, so that the event loop turns meanwhile.

        :raises NodeError: the parent folder cannot be written.
        """
        try:
            self.path = Path(tempfile.mkdtemp(prefix=JOB_PREFIX, dir=str(parent)))
        except OSError as error:
            raise NodeError(
                _("The temporary folder {folder} cannot be written: {error}.").format(folder=parent, error=error),
                _("Choose another one in Edit / Application Settings / General."),
            ) from error
        self._lock = FolderLock(self.path)
        self.keepsOutput = bool(output)
        self.output = Path(output).resolve() if output else self.path / "output"
        self.notes: list[str] = []
        self._inTurns = inTurns
        self._scans: list[ScanWriting] = []
        # Where the scan lies: IJK to RAS of the world (4, 4), and its size (I, J, K).
        self._grid: tuple[np.ndarray, tuple[int, int, int]] | None = None

    def writeInput(self, name: str, value: Any) -> Any:
        """Return what the job says of an input: the file of a node, any other value as it is.

        A pair of a segmentation and the name of one of its segments (or a list of names) becomes a segmentation of
        these alone. Several volumes, or a sequence of them, become a folder. Of a markup the first point counts; an
        ROI becomes a label map on the grid of the input ``volume``, which is written before.

        :raises NodeError: the node holds nothing, or is of a kind that the engine does not read.
        """
        if isinstance(value, tuple) and len(value) == 2 and _isA(value[0], "vtkMRMLSegmentationNode"):
            return self._writeSegmentation(value[0], name, value[1])
        if isinstance(value, (list, tuple)):
            return self._writeFolder(name, value)
        if isinstance(value, Path):
            return str(value)
        if not isinstance(value, slicer.vtkMRMLNode):
            return value
        if value.IsA("vtkMRMLSegmentationNode"):
            return self._writeSegmentation(value, name)
        if value.IsA("vtkMRMLMarkupsROINode"):
            return self._writeBox(value, name)
        if value.IsA("vtkMRMLMarkupsNode"):
            return self._point(value)
        if value.IsA("vtkMRMLSequenceNode"):
            return self._writeFolder(name, [value.GetNthDataNode(i) for i in range(value.GetNumberOfDataNodes())])
        if value.IsA("vtkMRMLTableNode"):
            return self._write(value, slicer.vtkMRMLTableStorageNode(), self.path / f"{name}.csv")
        if value.IsA("vtkMRMLScalarVolumeNode") and not value.IsA("vtkMRMLTensorVolumeNode"):
            return self._writeVolume(value, name)
        raise NodeError(
            _("{name} is a {kind}, which the engine does not read.").format(
                name=value.GetName(), kind=value.GetNodeTagName()
            ),
            _("Choose a volume or a segmentation."),
        )

    def writeOption(self, name: str, value: Any) -> Any:
        """Return what the job says of an option; a list stays a list, its nodes become files."""
        if isinstance(value, (list, tuple)):
            return [self.writeInput(f"{name}_{index}", item) for index, item in enumerate(value)]
        return self.writeInput(name, value)

    def job(
        self,
        task: str,
        inputs: Mapping[str, Any],
        options: Mapping[str, Any],
        **more: Any,
    ) -> dict[str, Any]:
        """Write the inputs and return the job; ``more`` are its other fields (``model``, ``seed`` ...)."""
        names = sorted((name for name in inputs if inputs[name] is not None), key=lambda name: name != SCAN)
        files = {name: self.writeInput(name, inputs[name]) for name in names}
        given = {name: self.writeOption(name, value) for name, value in options.items() if value is not None}
        return {"task": task, "inputs": files, "options": given, "output": str(self.output), **more}

    @property
    def isComplete(self) -> bool:
        """Whether the inputs lie in the folder; otherwise the job must wait for :meth:`writeScans`."""
        return not self._scans

    def writeScans(self) -> Generator[None, None, None]:
        """Write the scans that were left, a part before each ``yield``.

        :raises NodeError: a scan cannot be written.
        """
        while self._scans:
            yield from self._scans[0].steps()
            del self._scans[0]

    def remove(self) -> None:
        """Remove what is temporary, also what an engine that was ended has begun to write among files that stay."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)
        if self.keepsOutput and removeFreeLock(self.output / _ENGINE_LOCK):
            for mark in self.output.glob(f"{_PARTIAL_PREFIX}*/{_PARTIAL_MARK}"):
                shutil.rmtree(mark.parent, ignore_errors=True)

    def removeBareOutput(self) -> None:
        """Remove the results' folder where there is nothing in it but word of a failure."""
        if not self.output.is_dir() or any(
            item.name not in (RESULT_NAME, _ENGINE_LOCK) for item in self.output.iterdir()
        ):
            return
        shutil.rmtree(self.output, ignore_errors=True)

    def _writeVolume(self, node: slicer.vtkMRMLScalarVolumeNode, name: str) -> str:
        image = node.GetImageData()
        if image is None or image.GetNumberOfPoints() == 0:
            raise NodeError(
                _("The volume {name} holds no voxels.").format(name=node.GetName()), _("Choose another volume.")
            )
        copy = node.NewInstance()
        copy.SetName(node.GetName())
        copy.CopyOrientation(node)
        copy.SetAndObserveImageData(image)
        self._applyParentTransform(node, copy)
        if name == SCAN:
            matrix = vtk.vtkMatrix4x4()
            copy.GetIJKToRASMatrix(matrix)
            self._grid = slicer.util.arrayFromVTKMatrix(matrix), copy.GetImageData().GetDimensions()
        inFolder = "/" in name  # one of many, in their folder
        path = self.path / (f"{name}.nrrd" if inFolder else Path(name) / _scanFile(node, name))
        path.parent.mkdir(exist_ok=True)
        if node.GetAttribute(PROVENANCE) and not inFolder:
            self._tellOrigin(node, path)
        if self._inTurns and copy.GetImageData().GetNumberOfPoints() > _SMALL_VOXELS:
            scan = ScanWriting(copy, path)
            if scan.isPossible():
                self._scans.append(scan)
                return str(path)
        return self._write(copy, slicer.vtkMRMLVolumeArchetypeStorageNode(), path)

    def _tellOrigin(self, node: Any, path: Path) -> None:
        """Write beside the file of a map how an earlier run made it."""
        artifact = {"kind": "volume", "file": path.name, "name": node.GetName(), "role": node.GetAttribute(ROLE) or ""}
        origin = {
            "status": "finished",
            "task": node.GetAttribute(TASK) or "",
            "artifacts": [artifact],
            "provenance": json.loads(node.GetAttribute(PROVENANCE)),
        }
        (path.parent / RESULT_NAME).write_text(json.dumps(origin), encoding="utf-8")

    def _writeSegmentation(
        self, node: slicer.vtkMRMLSegmentationNode, name: str, segments: str | Sequence[str] | None = None
    ) -> str:
        if node.GetSegmentation().GetNumberOfSegments() == 0:
            raise NodeError(
                _("The segmentation {name} has no segments.").format(name=node.GetName()), _("Choose another one.")
            )
        copy = slicer.vtkMRMLSegmentationNode()
        copy.SetName(node.GetName())
        segmentation = slicer.vtkSegmentation()
        segmentation.DeepCopy(node.GetSegmentation())
        if segments is not None:
            _keepSegments(segmentation, [segments] if isinstance(segments, str) else segments, node.GetName())
        copy.SetAndObserveSegmentation(segmentation)
        if not copy.CreateBinaryLabelmapRepresentation():
            raise NodeError(
                _("The segmentation {name} cannot be turned into a labelmap.").format(name=node.GetName()),
                _("Check its segments in the Segment Editor."),
            )
        self._applyParentTransform(node, copy)
        return self._write(copy, slicer.vtkMRMLSegmentationStorageNode(), self.path / f"{name}.seg.nrrd")

    def _writeBox(self, node: slicer.vtkMRMLMarkupsROINode, name: str) -> str:
        if self._grid is None:
            raise NodeError(
                _("The box of {name} needs a scan.").format(name=node.GetName()), _("Give the scan as a volume.")
            )
        labels = labelMapNode(*boxLabels(node, *self._grid), node.GetName())
        return self._write(labels, slicer.vtkMRMLVolumeArchetypeStorageNode(), self.path / f"{name}.nrrd")

    def _point(self, node: slicer.vtkMRMLMarkupsNode) -> str:
        transformNode = node.GetParentTransformNode()
        if transformNode is not None:
            self.notes.append(
                _("{name} lies under the transform {transform}: its point counts where it is shown.").format(
                    name=node.GetName(), transform=transformNode.GetName()
                )
            )
        return pointText(node)

    def _writeFolder(self, name: str, items: Sequence[Any]) -> str:
        """Write volumes, or copy files, into a folder of their own."""
        if not items:
            raise NodeError(_("{name} holds no volumes.").format(name=name), _("Choose others."))
        (self.path / name).mkdir()
        for index, item in enumerate(items):
            file = f"{name}/{index:04d}"
            if isinstance(item, (str, Path)):
                shutil.copy(item, self.path / f"{file}_{Path(item).name}")
            else:
                self.writeInput(file, item)
        return str(self.path / name)

    def _applyParentTransform(self, node: Any, copy: Any) -> None:
        transformNode = node.GetParentTransformNode()
        if transformNode is None:
            return
        if transformNode.IsTransformToWorldLinear():
            matrix = vtk.vtkMatrix4x4()
            transformNode.GetMatrixTransformToWorld(matrix)
            copy.ApplyTransformMatrix(matrix)  # moves the axes; the voxels stay as they are
        else:
            toWorld = vtk.vtkGeneralTransform()
            transformNode.GetTransformToWorld(toWorld)
            copy.ApplyTransform(toWorld)
        self.notes.append(
            _(
                "{name} lies under the transform {transform}: a copy with the transform applied was "
                "explained, and the results lie where it is shown."
            ).format(name=node.GetName(), transform=transformNode.GetName())
        )

    def _write(self, node: Any, storage: Any, path: Path) -> str:
        storage.SetFileName(str(path))
        storage.SetUseCompression(0)
        if not storage.WriteData(node):
            raise NodeError(
                _("{name} could not be written to {path}.").format(name=node.GetName(), path=path),
                _("Check that the disk is not full."),
            )
        return str(path)


def _scanFile(node: Any, name: str) -> str:
    """Return the file's name for a volume: pictures that the engine draws bear it.

    Writers on some systems cannot open names beyond ASCII; there, and where the name would tell of another format, the
    input's name has to do.
    """
    title = (node.GetName() or "").strip() or name
    if not title.isascii() or title.lower().endswith((".seg", ".seq")):  # .seg.nrrd is a segmentation
        title = name
    return fileName(title, extension=".nrrd")


def _isA(value: Any, className: str) -> bool:
    return isinstance(value, slicer.vtkMRMLNode) and bool(value.IsA(className))


def _keepSegments(segmentation: slicer.vtkSegmentation, wanted: Sequence[str], name: str) -> None:
    """Remove all segments but those of the names (or identifiers) that are wanted."""
    names = {
        segmentation.GetNthSegmentID(index): segmentation.GetNthSegment(index).GetName()
        for index in range(segmentation.GetNumberOfSegments())
    }
    unknown = [item for item in wanted if item not in names and item not in names.values()]
    if unknown or not wanted:
        if unknown:
            what = _("{name} has no segment called {segment}.").format(name=name, segment=unknown[0])
        else:
            what = _("{name} was given without the name of a segment.").format(name=name)
        raise NodeError(what, _("Its segments are: {names}.").format(names=", ".join(names.values())))
    for identity, title in names.items():
        if identity not in wanted and title not in wanted:
            segmentation.RemoveSegment(identity)
