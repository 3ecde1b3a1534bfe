"""Boxes of voxels: a slice along each axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Box = tuple[slice, ...]


def intersection(first: Box, second: Box) -> Box | None:
    """The voxels that two boxes share; None when there are none."""
    parts = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second)]
    return None if any(part.start >= part.stop for part in parts) else tuple(parts)


def shifted(box: Box, origin: Sequence[int]) -> Box:
    """A box as seen from ``origin``."""
    return tuple(slice(part.start - start, part.stop - start) for part, start in zip(box, origin))


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around all."""
    return tuple(
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes))
        for axis in range(len(boxes[0]))
    )


def bounding_box(mask: torch.Tensor) -> Box | None:
    """The smallest box around the voxels of a mask; None for an empty one."""
    parts = []
    for axis in range(mask.ndim):
        line = mask.any(dim=[other for other in range(mask.ndim) if other != axis]) if mask.ndim > 1 else mask
        hit = line.nonzero()
        if not len(hit):
            return None
        parts.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(parts)


def index_of(box: Box, *leading: object) -> Any:
    """The index of a box in a tensor or array whose last axes are the box's; ``leading``: of the axes before."""
    return (*(leading or (...,)), *box)


def box_size(box: Box) -> tuple[int, ...]:
    return tuple(part.stop - part.start for part in box)
