"""3D Slicer's own storage nodes as independent readers and writers of the files under test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

_READERS = {
    "archetype": slicer.vtkMRMLVolumeArchetypeStorageNode,
    "nrrd": slicer.vtkMRMLNRRDStorageNode,
}


@dataclass(frozen=True)
class Read:
    """What Slicer shows: voxels (I, J, K), or (I, J, K, components), and IJKToRAS."""

    array: np.ndarray
    affine: np.ndarray


def read_with_slicer(path: Path, reader: str = "archetype", series: Sequence[Path] = ()) -> Read:
    """Load a volume into a scene as Slicer does; ``series`` lists the files of a DICOM series in their order."""
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    storage = _READERS[reader]()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    for file in series:
        storage.AddFileName(str(file))
    if not storage.ReadData(node):
        raise OSError(f"Slicer cannot read {path}")
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return Read(image_array(node.GetImageData()), slicer.util.arrayFromVTKMatrix(matrix))


def write_with_slicer(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Save a scalar volume (I, J, K) in the format of the path's extension."""
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    image = vtk.vtkImageData()
    image.SetDimensions(array.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ravel(array, order="F"), deep=True))
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    if not storage.WriteData(node):
        raise OSError(f"Slicer cannot write {path}")


def read_segmentation_with_slicer(path: Path) -> tuple[slicer.vtkMRMLScene, slicer.vtkMRMLSegmentationNode]:
    """Load .seg.nrrd into a segmentation node; keep the scene for as long as the node is used."""
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise OSError(f"Slicer cannot read {path}")
    return scene, node


def segment_mask(node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of a segment in the extent that Slicer keeps, boolean (I, J, K), and their index-to-RAS matrix."""
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment_id, image)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    first = np.array(image.GetExtent())[::2]
    affine[:3, 3] = affine[:3, :3] @ first + affine[:3, 3]
    return image_array(image) > 0, affine


def image_array(image: vtk.vtkImageData) -> np.ndarray:
    """The voxels of an image, (I, J, K) or (I, J, K, components)."""
    scalars = vtk_to_numpy(image.GetPointData().GetScalars())
    components = scalars.shape[1:]
    return scalars.reshape(*image.GetDimensions()[::-1], *components).transpose(
        2, 1, 0, *range(3, 3 + len(components))
    )
