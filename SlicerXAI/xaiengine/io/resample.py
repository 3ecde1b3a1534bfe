"""Arrays moved from one grid to another, exactly in the patient's coordinates."""

from __future__ import annotations

from itertools import permutations
from typing import Literal

import numpy as np
from scipy import ndimage

from ..core.errors import OptionError
from .grid import Grid

Mode = Literal["linear", "nearest"]
Outside = float | Literal["edge"]

ROUNDING = 1e-6
"""Coordinates closer to a whole voxel, or to the border of a voxel, than this are taken to be on it "
"(voxels)."""

_SLAB_VOXELS = 1 << 22


def resample(
    array: np.ndarray,
    from_grid: Grid,
    to_grid: Grid,
    mode: Mode = "linear",
    outside: Outside = 0.0,
    antialias: bool = False,
) -> np.ndarray:
    """Values of ``array`` at the voxel centers of another grid.

    Args:
        array: (I, J, K) or (C, I, J, K) on ``from_grid``.
        mode: "linear" for images and maps; "nearest" for labels, which keeps the scalar type.
        outside: value where ``to_grid`` leaves the extent of ``from_grid``; "edge" continues the outermost
            voxels. They continue in any case from their centers to their borders.
        antialias: smooth first by a Gaussian of (ratio - 1) / 2 voxels along axes where ``to_grid`` is coarser.

    Returns:
        The array on ``to_grid``, with channels as in ``array``. Linear gives 32-bit floats, or 64-bit ones
        for 64-bit input. It shares memory with ``array`` where nothing changes. Extra memory is bounded by
        the result and a few slabs, and by one smoothed copy with ``antialias``.

    Raises:
        OptionError: the mode is unknown.
    """
    if mode not in ("linear", "nearest"):
        raise OptionError(f"The interpolation '{mode}' is not known.", "Use 'linear' or 'nearest'.")
    if array.ndim == 4:
        result = np.empty((array.shape[0], *to_grid.shape), _result_type(array, mode))
        for channel, plane in enumerate(array):
            result[channel] = resample(plane, from_grid, to_grid, mode, outside, antialias)
        return result
    if array.shape != from_grid.shape:
        raise ValueError(f"The array has the shape {array.shape}, its grid {from_grid.shape}.")
    mapping = from_grid.index_mapping(to_grid)
    dtype = _result_type(array, mode)
    if antialias and mode == "linear":
        array = _smoothed(array, mapping, dtype)
    axes = _axis_mapping(mapping)
    if axes is None:
        return _general(array, mapping, to_grid.shape, mode, outside, dtype)
    order, scale, offset = axes
    moved = array.transpose(order)
    if outside != "edge" and all(_is_whole(scale[axis], offset[axis]) for axis in range(3)):
        return _shifted(moved, scale, offset, to_grid.shape, outside, dtype)
    return _separable(moved, scale, offset, to_grid.shape, mode, outside, dtype)


def _result_type(array: np.ndarray, mode: Mode) -> np.dtype:
    if mode == "nearest":
        return array.dtype
    wide = array.dtype.itemsize == 8 or (array.dtype.kind in "iu" and array.dtype.itemsize == 4)
    return np.dtype(np.float64 if wide else np.float32)


def _smoothed(array: np.ndarray, mapping: np.ndarray, dtype: np.dtype) -> np.ndarray:
    ratio = np.linalg.norm(mapping[:3, :3], axis=1)
    sigma = np.maximum(0.0, (ratio - 1) / 2)
    if sigma.max() < 0.05:
        return array
    return ndimage.gaussian_filter(array, sigma, output=dtype, mode="nearest", truncate=3.0)


def _axis_mapping(mapping: np.ndarray) -> tuple[tuple[int, int, int], np.ndarray, np.ndarray] | None:
    """(source axis, scale, offset) of each target axis if every target axis runs along one source axis."""
    linear = mapping[:3, :3]
    order = max(permutations(range(3)), key=lambda axes: sum(abs(linear[axes[axis], axis]) for axis in range(3)))
    scale = np.array([linear[order[axis], axis] for axis in range(3)])
    rest = np.abs(linear).copy()
    rest[list(order), range(3)] = 0
    # Over a whole axis of 1e4 voxels the deviation stays below the rounding.
    if rest.max() > ROUNDING * 1e-4 or np.abs(scale).min() == 0:
        return None
    return order, scale, mapping[list(order), 3]


def _is_whole(scale: float, offset: float) -> bool:
    """Whether steps are single voxels and land on voxel centers: then nothing needs interpolation."""
    return abs(abs(scale) - 1) < ROUNDING * 1e-3 and abs(offset - round(offset)) < ROUNDING


def _shifted(
    array: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    shape: tuple[int, int, int],
    outside: float,
    dtype: np.dtype,
) -> np.ndarray:
    """Crop, pad and flip; ``array`` has its axes in target order already."""
    take, put = [], []
    for axis in range(3):
        sign, start = int(np.sign(scale[axis])), round(offset[axis])
        indices = start + sign * np.arange(shape[axis])
        valid = np.flatnonzero((indices >= 0) & (indices < array.shape[axis]))
        if not len(valid):
            return np.full(shape, outside, dtype)
        first, last = int(indices[valid[0]]), int(indices[valid[-1]])
        stop = last + sign
        take.append(slice(first, stop if stop >= 0 else None, sign))
        put.append(slice(int(valid[0]), int(valid[-1]) + 1))
    part = array[tuple(take)]
    if part.shape == tuple(shape):
        return part.astype(dtype, copy=False)
    result = np.full(shape, outside, dtype)
    result[tuple(put)] = part
    return result


def _axis_samples(count: int, size: int, scale: float, offset: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each target voxel along an axis: the lower source voxel, the weight of the next, and whether "
    "inside."""
    position = offset + scale * np.arange(count)
    whole = np.round(position)
    position = np.where(np.abs(position - whole) < ROUNDING, whole, position)
    inside = (position >= -0.5 - ROUNDING) & (position <= size - 0.5 + ROUNDING)
    clamped = np.clip(position, 0, size - 1)
    lower = np.minimum(np.floor(clamped).astype(np.intp), max(size - 2, 0))
    return lower, clamped - lower, inside


def _separable(
    array: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    shape: tuple[int, int, int],
    mode: Mode,
    outside: Outside,
    dtype: np.dtype,
) -> np.ndarray:
    """One axis at a time, a slab of target slices at a time; ``array`` has its axes in target order "
    "already."""
    samples = [_axis_samples(shape[axis], array.shape[axis], scale[axis], offset[axis]) for axis in range(3)]
    if outside == "edge":
        samples = [(lower, weight, np.ones_like(valid)) for lower, weight, valid in samples]
    result = np.full(shape, 0 if outside == "edge" else outside, dtype, order="F")
    inside = [np.flatnonzero(valid) for _, _, valid in samples]
    if not all(len(indices) for indices in inside):
        return result
    box = [slice(int(indices[0]), int(indices[-1]) + 1) for indices in inside]
    samples = [(lower[part], weight[part], valid) for (lower, weight, valid), part in zip(samples, box)]
    target = result[tuple(box)]
    step = max(1, _SLAB_VOXELS // max(target[..., 0].size, array[..., 0].size))
    for start in range(0, target.shape[2], step):
        stop = min(start + step, target.shape[2])
        slab = array
        for axis in (2, 1, 0):
            lower, weight, _ = samples[axis]
            if axis == 2:
                lower, weight = lower[start:stop], weight[start:stop]
            slab = _along_axis(slab, axis, lower, weight, mode, dtype)
        target[..., start:stop] = slab
    return result


def _along_axis(
    array: np.ndarray, axis: int, lower: np.ndarray, weight: np.ndarray, mode: Mode, dtype: np.dtype
) -> np.ndarray:
    if mode == "nearest":
        # Half-way points go to the higher voxel, as floor(x + 0.5) does.
        return array.take(lower + (weight >= 0.5 - ROUNDING), axis=axis)
    below = array.take(lower, axis=axis).astype(dtype, copy=False)
    if not weight.any():
        return below
    above = array.take(np.minimum(lower + 1, array.shape[axis] - 1), axis=axis).astype(dtype, copy=False)
    weights = weight.astype(dtype).reshape([-1 if dimension == axis else 1 for dimension in range(3)])
    above -= below
    above *= weights
    above += below
    return above


def _general(
    array: np.ndarray,
    mapping: np.ndarray,
    shape: tuple[int, int, int],
    mode: Mode,
    outside: Outside,
    dtype: np.dtype,
) -> np.ndarray:
    """Any affine mapping, a slab of target slices at a time."""
    result = np.empty(shape, dtype, order="F")
    source = array.astype(np.uint8) if array.dtype == np.bool_ else array
    step = max(1, _SLAB_VOXELS // (shape[0] * shape[1]))
    nudge = ROUNDING if mode == "nearest" else 0.0
    for start in range(0, shape[2], step):
        stop = min(start + step, shape[2])
        offset = mapping[:3, 3] + mapping[:3, 2] * start
        slab = ndimage.affine_transform(
            source,
            mapping[:3, :3],
            offset + nudge,
            output_shape=(shape[0], shape[1], stop - start),
            output=source.dtype if mode == "nearest" else dtype,
            order=0 if mode == "nearest" else 1,
            mode="nearest",
        )
        slab = slab.astype(dtype, copy=False)
        if outside != "edge":
            slab[_outside(mapping[:3, :3], offset, slab.shape, array.shape)] = outside
        result[..., start:stop] = slab
    return result


def _outside(
    linear: np.ndarray, offset: np.ndarray, shape: tuple[int, ...], source_shape: tuple[int, ...]
) -> np.ndarray:
    """Where the target voxels of a slab lie outside the source voxels, boolean (I, J, K)."""
    outside = np.zeros(shape, dtype=bool)
    i, j, k = (np.arange(size, dtype=np.float64) for size in shape)
    for axis in range(3):
        plane = offset[axis] + linear[axis, 0] * i[:, None] + linear[axis, 1] * j
        position = plane[:, :, None] + linear[axis, 2] * k
        outside |= position < -0.5 - ROUNDING
        outside |= position > source_shape[axis] - 0.5 + ROUNDING
    return outside
