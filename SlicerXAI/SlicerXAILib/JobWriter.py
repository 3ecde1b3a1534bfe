"""Writes nodes as the files of a job, placed where they are in the world."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import slicer
import vtk

from .EngineErrors import NodeError


class JobFolder:
    """A folder of its own for one job's input and output files.

    ``notes`` tells the user what was done to the inputs.
    """

    def __init__(self, parent: str | Path) -> None:
        """:raises NodeError: the parent folder cannot be written."""
        try:
            self.path = Path(tempfile.mkdtemp(prefix="xai-job-", dir=str(parent)))
        except OSError as error:
            raise NodeError(
                f"The temporary folder {parent} cannot be written: {error}.",
                "Choose another one in Edit / Application Settings / General.",
            ) from error
        self.output = self.path / "output"
        self.notes: list[str] = []

    def writeInput(self, name: str, value: Any) -> Any:
        """Return what the job says of an input: the file of a node, any other value as it is.

        :raises NodeError: the node holds nothing, or is of a kind that the engine does not read.
        """
        if isinstance(value, (list, tuple)):
            return [self.writeInput(f"{name}_{index}", item) for index, item in enumerate(value)]
        if isinstance(value, Path):
            return str(value)
        if not isinstance(value, slicer.vtkMRMLNode):
            return value
        if value.IsA("vtkMRMLSegmentationNode"):
            return self._writeSegmentation(value, name)
        if value.IsA("vtkMRMLScalarVolumeNode") and not value.IsA("vtkMRMLTensorVolumeNode"):
            return self._writeVolume(value, name)
        raise NodeError(
            f"{value.GetName()} is a {value.GetNodeTagName()}, which the engine does not read.",
            "Choose a volume or a segmentation.",
        )

    def job(
        self,
        task: str,
        inputs: Mapping[str, Any],
        options: Mapping[str, Any],
        **more: Any,
    ) -> dict[str, Any]:
        """Write the inputs and return the job; ``more`` are its other fields (``model``, ``seed`` ...)."""
        files = {name: self.writeInput(name, value) for name, value in inputs.items() if value is not None}
        given = {name: value for name, value in options.items() if value is not None}
        return {"task": task, "inputs": files, "options": given, "output": str(self.output), **more}

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _writeVolume(self, node: slicer.vtkMRMLScalarVolumeNode, name: str) -> str:
        image = node.GetImageData()
        if image is None or image.GetNumberOfPoints() == 0:
            raise NodeError(f"The volume {node.GetName()} holds no voxels.", "Choose another volume.")
        copy = node.NewInstance()
        copy.SetName(node.GetName())
        copy.CopyOrientation(node)
        copy.SetAndObserveImageData(image)
        self._applyParentTransform(node, copy)
        return self._write(copy, slicer.vtkMRMLVolumeArchetypeStorageNode(), name + ".nrrd")

    def _writeSegmentation(self, node: slicer.vtkMRMLSegmentationNode, name: str) -> str:
        if node.GetSegmentation().GetNumberOfSegments() == 0:
            raise NodeError(f"The segmentation {node.GetName()} has no segments.", "Choose another one.")
        copy = slicer.vtkMRMLSegmentationNode()
        copy.SetName(node.GetName())
        segmentation = slicer.vtkSegmentation()
        segmentation.DeepCopy(node.GetSegmentation())
        copy.SetAndObserveSegmentation(segmentation)
        if not copy.CreateBinaryLabelmapRepresentation():
            raise NodeError(
                f"The segmentation {node.GetName()} cannot be turned into a labelmap.",
                "Check its segments in the Segment Editor.",
            )
        self._applyParentTransform(node, copy)
        return self._write(copy, slicer.vtkMRMLSegmentationStorageNode(), name + ".seg.nrrd")

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
            f"{node.GetName()} lies under the transform {transformNode.GetName()}: a copy with the transform "
            "applied was explained, and the results lie where it is shown."
        )

    def _write(self, node: Any, storage: Any, fileName: str) -> str:
        path = self.path / fileName
        storage.SetFileName(str(path))
        storage.SetUseCompression(0)
        if not storage.WriteData(node):
            raise NodeError(f"{node.GetName()} could not be written to {path}.", "Check that the disk is not full.")
        return str(path)
