"""Reading and writing segmentations, whatever their format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..core.errors import InputError
from .segmentation import Segmentation


def read_segmentation(path: Path | str, names: Mapping[int, str] | None = None) -> Segmentation:
    """Read a segmentation of 3D Slicer (.seg.nrrd) or a label map in any format that :func:`read_volume`
    reads.

    ``names`` gives the values of a label map their names.

    Raises:
        InputError: the file is unreadable, holds no labels, or is a fractional segmentation.
    """
    from .formats.segmentation_format import read_labels, read_seg_nrrd

    path = Path(path)
    if path.name.lower().endswith(".seg.nrrd"):
        return read_seg_nrrd(path)
    return read_labels(path, names)


def write_segmentation(path: Path | str, segmentation: Segmentation) -> Path:
    """Write .seg.nrrd as 3D Slicer does, with names, ids, colors and terminology; whole or not at all.

    Raises:
        InputError: the name does not end in .seg.nrrd.
        ResourceError: the file cannot be written.
    """
    from .formats.segmentation_format import write_seg_nrrd

    path = Path(path)
    if not path.name.lower().endswith(".seg.nrrd"):
        raise InputError(
            f"Segmentations are written as .seg.nrrd, not as {path.name}.",
            "Give a name that ends in .seg.nrrd.",
        )
    write_seg_nrrd(path, segmentation)
    return path
