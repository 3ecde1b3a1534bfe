"""Segmentation files: 3D Slicer's .seg.nrrd, and label maps.

Format: https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html#segmentations-file-format-seg-nrrd
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...core.errors import InputError
from ..segmentation import Segment, Segmentation, default_color
from ..terminology import TISSUE, Terminology
from ..volume_files import read_file
from .file_names import explained_errors, refuse_pointer, volume_name
from .nrrd_format import read_nrrd, write_nrrd

MOST_LABELS = 1000
"""A label map with more values than this is taken for an image."""

_FIELD = re.compile(r"Segment(\d+)_(\w+)")


def read_seg_nrrd(path: Path) -> Segmentation:
    """Read .seg.nrrd with segments that may overlap."""
    if not path.is_file():
        raise InputError(f"{path} does not exist.", "Check the path, or choose the file again.")
    with explained_errors(path):
        refuse_pointer(path)
        array, grid, keys = read_nrrd(path)
        if array.dtype.kind not in "iu" or "fractional" in keys.get("Segmentation_MasterRepresentation", "").lower():
            raise InputError(
                "it is a fractional segmentation; a binary one was expected.",
                "Convert it to a binary labelmap in 3D Slicer's Segmentations module.",
            )
        layers = tuple(array) if array.ndim == 4 else (array,)
        segments = _segments(keys, len(layers))
        return Segmentation(segments, layers, grid, volume_name(path), path)


def _segments(keys: Mapping[str, str], layer_count: int) -> tuple[Segment, ...]:
    fields: dict[int, dict[str, str]] = defaultdict(dict)
    for key, value in keys.items():
        if match := _FIELD.fullmatch(key):
            fields[int(match[1])][match[2]] = value
    segments = []
    for index, entry in sorted(fields.items()):
        identity = entry.get("ID", f"Segment_{index + 1}")
        # Files of 3D Slicer 4.10 and earlier have one layer of ones for each segment, and do not say so.
        layer = int(entry.get("Layer", min(index, layer_count - 1)))
        if layer >= layer_count:
            raise InputError(
                f"the segment {identity} lies in layer {layer}, but there are {layer_count}.",
                "Save the segmentation again with 3D Slicer.",
            )
        segments.append(
            Segment(
                entry.get("Name", identity),
                identity,
                _color(entry.get("Color", ""), index),
                int(entry.get("LabelValue", 1)),
                layer,
                _terminology(entry.get("Tags", "")),
            )
        )
    return tuple(segments)


def _color(text: str, index: int) -> tuple[float, float, float]:
    numbers = [float(word) for word in text.split()]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else default_color(index)


def _terminology(tags: str) -> Terminology | None:
    for tag in tags.split("|"):
        name, _, value = tag.partition(":")
        if name.strip() in ("TerminologyEntry", "Segmentation.TerminologyEntry"):
            return Terminology.from_slicer(value)
    return None


def read_labels(path: Path, names: Mapping[int, str] | None) -> Segmentation:
    """Read a label map: whole numbers, each other than 0 being a segment."""
    volume = read_file(path)
    with explained_errors(path):
        labels = _whole_numbers(volume.array)
        if labels.ndim == 4:
            raise InputError(
                f"it has {labels.shape[0]} values per voxel; one label per voxel was expected.",
                "Save overlapping segments as .seg.nrrd.",
            )
        segmentation = Segmentation.from_labels(labels, volume.grid, names, volume.name)
        if not 0 < len(segmentation.segments) <= MOST_LABELS:
            raise InputError(
                f"it holds {len(segmentation.segments)} different labels; a segmentation with 1 to {MOST_LABELS} was "
                "expected.",
                "Choose a segmentation or label map, not a scan.",
            )
        return Segmentation(segmentation.segments, (labels,), volume.grid, volume.name, path)


def _whole_numbers(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    if array.dtype.kind in "iu":
        return array
    if not np.isfinite(array).all() or (array != np.rint(array)).any():
        raise InputError(
            "its values are not whole numbers; labels were expected.",
            "Choose a segmentation or label map, not a scan.",
        )
    return array.astype(np.int32)


def write_seg_nrrd(path: Path, segmentation: Segmentation) -> None:
    """Write .seg.nrrd; segments in several layers give a fourth, leading axis of the kind "list"."""
    layers = [layer.astype(_label_type(layer), copy=False) for layer in segmentation.layers]
    array = layers[0] if len(layers) == 1 else np.stack(layers)
    keys = {}
    for index, segment in enumerate(segmentation.segments):
        terminology = (segment.terminology or TISSUE).to_slicer()
        fields = {
            "Color": " ".join(f"{component:.6g}" for component in segment.color),
            "ColorAutoGenerated": "0",
            "Extent": _extent(segmentation.layers[segment.layer] == segment.label),
            "ID": segment.id,
            "LabelValue": str(segment.label),
            "Layer": str(segment.layer),
            "Name": segment.name,
            "NameAutoGenerated": "0",
            "Tags": f"Segmentation.Status:inprogress|TerminologyEntry:{terminology}|",
        }
        keys.update({f"Segment{index}_{field}": value for field, value in fields.items()})
    keys["Segmentation_ContainedRepresentationNames"] = "Binary labelmap|"
    keys["Segmentation_MasterRepresentation"] = "Binary labelmap"
    keys["Segmentation_ReferenceImageExtentOffset"] = "0 0 0"
    write_nrrd(path, array, segmentation.grid, keys, channel_kind="list")


def _label_type(layer: np.ndarray) -> np.dtype:
    """The smallest type for the labels of those that 3D Slicer uses for label maps."""
    highest = int(layer.max(initial=0))
    return np.dtype(np.uint8 if highest < 256 else np.int16 if highest < 1 << 15 else np.int32)


def _extent(mask: np.ndarray) -> str:
    """First and last voxel of a segment along each axis; for an empty one 3D Slicer's mark of an empty extent."""
    ends = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        indices = np.flatnonzero(mask.any(axis=others))
        if not len(indices):
            return "0 -1 0 -1 0 -1"
        ends += [int(indices[0]), int(indices[-1])]
    return " ".join(str(end) for end in ends)
