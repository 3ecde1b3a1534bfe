"""Markups as inputs of a job: points as coordinates, ROI boxes as label maps on the scan's grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from .EngineErrors import NodeError
from .Translation import tr as _


def pointText(node: slicer.vtkMRMLMarkupsNode) -> str:
    """Return the first point of a markup as ``R,A,S`` in mm of the world, transforms applied.

    :raises NodeError: the markup holds no point that has been placed.
    """
    placed = slicer.vtkMRMLMarkupsNode.PositionDefined
    for index in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(index) == placed:
            position = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(index, position)
            return ",".join(f"{value:.4f}" for value in position)
    raise NodeError(
        _("The markup {name} holds no point.").format(name=node.GetName()), _("Place a point in the scan.")
    )


def boxLabels(
    roi: slicer.vtkMRMLMarkupsROINode, ijkToRas: np.ndarray, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels whose centers lie in an ROI, and the IJK-to-RAS matrix of the cut-out that holds them.

    :param ijkToRas: (4, 4), mm, of the scan in the world.
    :param shape: (I, J, K) of the scan.
    :return: uint8 (K, J, I) of the box's bounds only, and (4, 4).
    :raises NodeError: the box holds no voxel of the scan.
    """
    half = np.array(roi.GetSize()) / 2
    objectToWorld = slicer.util.arrayFromVTKMatrix(roi.GetObjectToWorldMatrix())
    voxelToBox = np.linalg.inv(objectToWorld) @ ijkToRas
    first, last = _bounds(np.linalg.inv(voxelToBox), half, shape)
    if (last < first).any() or (half <= 0).any():
        raise _outside(roi)
    axes = [np.arange(low, high + 1) for low, high in zip(first, last)]
    labels = np.ones([len(axis) for axis in axes[::-1]], bool)
    for row in range(3):  # one coordinate of the box after another, so that memory stays that of one array
        i, j, k = (voxelToBox[row, column] * axis for column, axis in enumerate(axes))
        along = i[None, None, :] + j[None, :, None] + k[:, None, None] + voxelToBox[row, 3]
        labels &= np.abs(along) <= half[row] + 1e-6
    if not labels.any():
        raise _outside(roi)
    moved = ijkToRas.copy()
    moved[:3, 3] += ijkToRas[:3, :3] @ first
    return labels.astype(np.uint8), moved


def labelMapNode(labels: np.ndarray, ijkToRas: np.ndarray, name: str) -> slicer.vtkMRMLLabelMapVolumeNode:
    """Return a label map (K, J, I) as a node outside the scene."""
    from vtk.util.numpy_support import numpy_to_vtk

    image = vtk.vtkImageData()
    image.SetDimensions(*labels.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(labels.ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR))
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetName(name)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRas))
    node.SetAndObserveImageData(image)
    return node


def _bounds(boxToVoxel: np.ndarray, half: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """First and last voxel index along each axis that the box can touch."""
    signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1)
    corners = boxToVoxel[:3, :3] @ (signs * half[:, None]) + boxToVoxel[:3, 3:]
    first = np.maximum(np.ceil(corners.min(1) - 1e-6), 0).astype(int)
    return first, np.minimum(np.floor(corners.max(1) + 1e-6), np.array(shape) - 1).astype(int)


def _outside(roi: Any) -> NodeError:
    return NodeError(
        _("The box of {name} holds no voxel of the scan.").format(name=roi.GetName()), _("Move the ROI into the scan.")
    )
