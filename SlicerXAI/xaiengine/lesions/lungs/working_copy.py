"""A coarse copy of a scan whose axes run along the patient's, for morphology in millimeters.

Index axes of the copy run to the patient's right, front and head (RAS), with equal spacing, whatever the
orientation, obliqueness or anisotropy of the scan. Masks found on it are carried back by linear interpolation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...io.grid import Grid

LOWEST_HU = -1024.0
HIGHEST_HU = 1000.0
SLAB_VOXELS = 4_000_000
"""Voxels of the full grid handled at a time when a mask is carried back."""


@dataclass(frozen=True, eq=False)
class WorkingCopy:
    """``hu`` (I, J, K) float32 on the RAS-aligned ``grid``; ``known`` is where the scan has voxels."""

    hu: np.ndarray
    known: np.ndarray
    grid: Grid

    @property
    def spacing(self) -> float:
        """Spacing in mm, the same along the three axes."""
        return self.grid.spacing[0]

    @property
    def voxel_ml(self) -> float:
        return self.grid.voxel_volume_ml


def working_copy(hu: np.ndarray, grid: Grid, spacing: float = 2.5) -> WorkingCopy:
    """Average the scan (I, J, K) over about one working voxel and sample it on a RAS-aligned grid of ``spacing`` mm.

    Values are limited to -1024..1000 HU, which also turns the padding of round reconstructions (-2048, -3024) to air.
    """
    factors = [max(1, int(spacing / step)) for step in grid.spacing]
    reduced = _block_means(hu, factors)
    reduced_grid = _reduced_grid(grid, reduced.shape, factors)
    target = _aligned_grid(grid, spacing)
    copy = carried_back(reduced, reduced_grid, target, tuple(slice(0, size) for size in target.shape))
    return WorkingCopy(copy, _inside(grid, target), target)


def cropped(copy: WorkingCopy, box: tuple[slice, ...]) -> WorkingCopy:
    """The part of the copy inside a box of indices."""
    shift = np.eye(4)
    shift[:3, 3] = [extent.start for extent in box]
    hu = np.ascontiguousarray(copy.hu[box])
    return WorkingCopy(hu, copy.known[box], Grid(hu.shape, copy.grid.affine @ shift))


def carried_back(field: np.ndarray, copy_grid: Grid, grid: Grid, box: tuple[slice, ...]) -> np.ndarray:
    """Linear interpolation of ``field`` on the working grid at the voxels of ``box`` of the scan's grid, float32."""
    mapping = copy_grid.index_mapping(grid)
    start = np.array([extent.start for extent in box])
    shape = tuple(extent.stop - extent.start for extent in box)
    offset = mapping[:3, :3] @ start + mapping[:3, 3]
    field = field.astype(np.float32, copy=False)
    if np.count_nonzero(np.abs(mapping[:3, :3]) > 1e-9) == 3:
        return _along_axes(field, mapping[:3, :3], offset, shape)
    return ndimage.affine_transform(field, mapping[:3, :3], offset, output_shape=shape, order=1, mode="nearest")


def _along_axes(field: np.ndarray, matrix: np.ndarray, offset: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The same for grids whose axes are parallel: one axis after another, many times faster."""
    order = [int(np.abs(row).argmax()) for row in matrix]
    for axis, target in enumerate(order):
        position = np.clip(np.arange(shape[target]) * matrix[axis, target] + offset[axis], 0, field.shape[axis] - 1)
        low = np.minimum(position.astype(int), max(field.shape[axis] - 2, 0))
        high = np.minimum(low + 1, field.shape[axis] - 1)
        weight = (position - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        lower = field.take(low, axis)
        field = lower + weight * (field.take(high, axis) - lower)
    return field.transpose(np.argsort(order))


def box_on_scan(mask: np.ndarray, copy_grid: Grid, grid: Grid, margin_mm: float) -> tuple[slice, ...]:
    """Index box of the scan's grid that holds every voxel of ``mask`` (on the working grid) and a margin in mm."""
    corners = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = margin_mm / copy_grid.spacing[axis] + 1
        corners.append((hit[0] - margin, hit[-1] + margin))
    points = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, 3)
    index = grid.ras_to_index(copy_grid.index_to_ras(points))
    low = np.clip(np.floor(index.min(0)), 0, np.array(grid.shape) - 1).astype(int)
    high = np.clip(np.ceil(index.max(0)) + 1, low + 1, grid.shape).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high))


def slabs(box: tuple[slice, ...], voxels: int = SLAB_VOXELS) -> Iterator[tuple[slice, ...]]:
    """Cut a box of indices into slabs along its last axis, of about ``voxels`` voxels each."""
    area = (box[0].stop - box[0].start) * (box[1].stop - box[1].start)
    thickness = max(1, voxels // max(area, 1))
    for start in range(box[2].start, box[2].stop, thickness):
        yield box[0], box[1], slice(start, min(start + thickness, box[2].stop))


def _block_means(hu: np.ndarray, factors: list[int]) -> np.ndarray:
    """Means over blocks of ``factors`` voxels (the last block of an axis may be smaller), float32."""
    shape = tuple(-(-size // factor) for size, factor in zip(hu.shape, factors))
    means = np.empty(shape, np.float32)
    thickness = factors[2] * max(1, SLAB_VOXELS // (hu.shape[0] * hu.shape[1] * factors[2]))
    for start in range(0, hu.shape[2], thickness):
        slab = np.clip(hu[:, :, start : start + thickness], LOWEST_HU, HIGHEST_HU).astype(np.float32)
        np.nan_to_num(slab, copy=False, nan=LOWEST_HU)
        for axis, factor in enumerate(factors):
            if factor == 1:
                continue
            edges = np.arange(0, slab.shape[axis], factor)
            counts = np.diff(np.append(edges, slab.shape[axis]))
            slab = np.add.reduceat(slab, edges, axis=axis)
            slab /= counts.reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
        first = start // factors[2]
        means[:, :, first : first + slab.shape[2]] = slab
    return means


def _reduced_grid(grid: Grid, shape: tuple[int, ...], factors: list[int]) -> Grid:
    scale = np.diag([*factors, 1]).astype(float)
    scale[:3, 3] = (np.array(factors) - 1) / 2
    return Grid(shape, grid.affine @ scale)


def _aligned_grid(grid: Grid, spacing: float) -> Grid:
    corners = grid.corners()
    low, high = corners.min(0), corners.max(0)
    shape = tuple(int(np.floor(extent / spacing + 1e-6)) + 1 for extent in high - low)
    origin = (low + high) / 2 - (np.array(shape) - 1) / 2 * spacing
    return Grid.from_directions(shape, (spacing,) * 3, None, origin)


def _inside(grid: Grid, target: Grid) -> np.ndarray:
    """Where the voxel centers of ``target`` lie in the scan's field of view, (I, J, K) bool."""
    mapping = grid.index_mapping(target)
    inside = np.ones(target.shape, bool)
    steps = np.ogrid[tuple(slice(size) for size in target.shape)]
    for row, size in zip(mapping[:3], grid.shape):
        index = row[0] * steps[0] + row[1] * steps[1] + row[2] * steps[2] + row[3]
        inside &= (index >= -0.5) & (index <= size - 0.5)
    return inside
