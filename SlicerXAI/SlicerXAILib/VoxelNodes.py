"""Volumes and segmentations from voxels that a thread has read.

Images are made empty, filled by the thread while no node knows them, and given to nodes then: the application's
thread neither reads nor copies voxels.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from .NrrdFile import NrrdHeader, readVoxels

_SEGMENT_FIELD = re.compile(r"Segment(\d+)_(\w+)")
_GRAY = "vtkMRMLColorTableNodeGrey"


def emptyImage(header: NrrdHeader) -> tuple[vtk.vtkImageData, np.ndarray]:
    """Return an image for a file's voxels, and its values (K, J, I) to be filled."""
    image = vtk.vtkImageData()
    image.SetDimensions(*header.size)
    return image, _allocate(image, header.voxelType)


def makeRightHanded(values: np.ndarray, ijkToRas: np.ndarray) -> np.ndarray:
    """Turn the order of slices (K, J, I) in place where the axes are left-handed, as Slicer does with such scans.

    :return: the matrix (4, 4) that belongs to the values now. Touches no node.
    """
    if np.linalg.det(ijkToRas[:3, :3]) > 0:
        return ijkToRas
    for first in range(len(values) // 2):
        last = len(values) - 1 - first
        values[first], values[last] = values[last].copy(), values[first].copy()
    turned = ijkToRas.copy()
    turned[:3, 3] += (len(values) - 1) * ijkToRas[:3, 2]
    turned[:3, 2] *= -1
    return turned


def addVolume(image: vtk.vtkImageData, ijkToRas: np.ndarray, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a volume of an image to the scene, with a gray display whose window is still to be set.

    A display that finds its window by itself would look at every voxel.
    """
    scene = slicer.mrmlScene
    display = scene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.AutoWindowLevelOff()
    display.SetAndObserveColorNodeID(_GRAY)
    node = scene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    node.UnRegister(None)
    node.SetName(name)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRas))
    node.SetAndObserveImageData(image)
    scene.AddNode(node)
    node.SetAndObserveDisplayNodeID(display.GetID())
    return node


@dataclass(frozen=True)
class SegmentFields:
    """What a file says of a segment; ``extent`` is the first and last voxel along I, J and K."""

    identity: str
    fields: Mapping[str, str]
    layer: int
    extent: tuple[int, ...]


def readSegmentFields(header: NrrdHeader) -> list[SegmentFields] | None:
    """Return the segments of a file; None if it does not describe them as the engine does."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for key, value in header.keys.items():
        if match := _SEGMENT_FIELD.fullmatch(key):
            found[int(match[1])][match[2]] = value
    try:
        segments = [
            SegmentFields(
                entry["ID"], entry, int(entry["Layer"]), tuple(int(number) for number in entry["Extent"].split())
            )
            for _index, entry in sorted(found.items())
        ]
        isKnown = header.keys["Segmentation_MasterRepresentation"] == "Binary labelmap" and all(
            item.layer < max(header.layers, 1)
            and len(item.extent) == 6
            and _isWithin(item.extent, header.size)
            and {"Name", "Color", "LabelValue"} <= item.fields.keys()
            for item in segments
        )
    except (KeyError, ValueError):
        return None
    return segments if isKnown and segments else None


def emptyLayers(
    header: NrrdHeader, segments: list[SegmentFields]
) -> dict[int, tuple[slicer.vtkOrientedImageData, np.ndarray]]:
    """Return an image for each layer, as large as its segments are, with its values (K, J, I) to be filled."""
    matrix = slicer.util.vtkMatrixFromArray(header.ijkToRas)
    layers = {}
    for layer in {item.layer for item in segments}:
        image = slicer.vtkOrientedImageData()
        image.SetImageToWorldMatrix(matrix)
        image.SetExtent(_union([item.extent for item in segments if item.layer == layer]))
        layers[layer] = image, _allocate(image, header.voxelType)
    return layers


def fillLayers(
    isStopped: Callable[[], bool], header: NrrdHeader, layers: Mapping[int, tuple[Any, np.ndarray]]
) -> None:
    """Read a file's voxels and cut out what each layer holds; touches no node.

    :raises EngineError: the file is damaged.
    """
    whole = np.empty(header.shape, header.voxelType)
    readVoxels(header, whole, isStopped)
    voxels = whole if header.layers else whole[..., None]
    for layer, (image, values) in layers.items():
        low, high = image.GetExtent()[::2], image.GetExtent()[1::2]
        i, j, k = (slice(first, last + 1) for first, last in zip(low, high))
        values[...] = voxels[k, j, i, layer]


def addSegmentation(
    segments: list[SegmentFields], layers: Mapping[int, tuple[Any, np.ndarray]], name: str
) -> slicer.vtkMRMLSegmentationNode:
    """Add a segmentation of filled layers to the scene."""
    representation = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(representation)
    for item in segments:
        segment = slicer.vtkSegment()
        segment.SetName(item.fields["Name"])
        segment.SetColor(*(float(number) for number in item.fields["Color"].split()))
        segment.SetNameAutoGenerated(item.fields.get("NameAutoGenerated") == "1")
        segment.SetColorAutoGenerated(item.fields.get("ColorAutoGenerated") == "1")
        segment.SetLabelValue(int(item.fields["LabelValue"]))
        for tag in item.fields.get("Tags", "").split("|"):
            key, separator, value = tag.partition(":")
            if separator:
                segment.SetTag(key.strip(), value)
        segment.AddRepresentation(representation, layers[item.layer][0])
        segmentation.AddSegment(segment, item.identity)
    node.CreateDefaultDisplayNodes()
    return node


def _allocate(image: vtk.vtkImageData, voxelType: np.dtype) -> np.ndarray:
    """Give an image its memory and return it as an array (K, J, I)."""
    image.AllocateScalars(get_vtk_array_type(voxelType), 1)
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def _isWithin(extent: tuple[int, ...], size: tuple[int, ...]) -> bool:
    return all(0 <= low and high < count for low, high, count in zip(extent[::2], extent[1::2], size))


def _union(extents: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the extent that holds all of those that hold something; an empty one if none does."""
    filled = [extent for extent in extents if all(low <= high for low, high in zip(extent[::2], extent[1::2]))]
    if not filled:
        return (0, -1, 0, -1, 0, -1)
    bounds = [(min(item[at] for item in filled), max(item[at + 1] for item in filled)) for at in (0, 2, 4)]
    return tuple(number for pair in bounds for number in pair)
