"""Binary morphology with balls given in mm, by distance transforms, on a grid of equal spacing."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

FACES = ndimage.generate_binary_structure(3, 1)
CORNERS = ndimage.generate_binary_structure(3, 3)


def dilated(mask: np.ndarray, radius: float, spacing: float) -> np.ndarray:
    """Voxels within ``radius`` mm of ``mask`` (I, J, K) bool."""
    if not mask.any():
        return mask.copy()
    box = _box(mask, int(np.ceil(radius / spacing)) + 1)
    out = np.zeros_like(mask)
    out[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing) <= radius
    return out


def eroded(mask: np.ndarray, radius: float, spacing: float) -> np.ndarray:
    """Voxels of ``mask`` farther than ``radius`` mm from its complement; the array's border does not erode."""
    if not mask.any():
        return mask.copy()
    box = _box(mask, 1)
    out = np.zeros_like(mask)
    out[box] = mask[box]
    if not mask[box].all():
        out[box] = ndimage.distance_transform_edt(mask[box], sampling=spacing) > radius
    return out


def opened(mask: np.ndarray, radius: float, spacing: float) -> np.ndarray:
    """The part of ``mask`` that balls of ``radius`` mm inside it reach."""
    return dilated(eroded(mask, radius, spacing), radius, spacing) & mask


def closed(mask: np.ndarray, radius: float, spacing: float) -> np.ndarray:
    """``mask`` and the gaps that no ball of ``radius`` mm outside it reaches."""
    if not mask.any():
        return mask.copy()
    box = _box(mask, int(np.ceil(2 * radius / spacing)) + 2)
    out = mask.copy()
    grown = ndimage.distance_transform_edt(~mask[box], sampling=spacing) <= radius
    out[box] |= eroded(grown, radius, spacing)
    return out


def components(mask: np.ndarray, structure: np.ndarray = FACES) -> tuple[np.ndarray, np.ndarray]:
    """Labels (I, J, K) int32 from 1, and the voxel count of each label (index 0 is the background, counted as 0)."""
    labels, count = ndimage.label(mask, structure)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return labels, sizes


def largest_component(mask: np.ndarray, structure: np.ndarray = FACES) -> np.ndarray:
    """The largest connected part of ``mask``; empty when the mask is."""
    labels, sizes = components(mask, structure)
    return labels == sizes.argmax() if sizes.any() else np.zeros_like(mask)


def _box(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(max(hit[0] - margin, 0), min(hit[-1] + margin + 1, mask.shape[axis])))
    return tuple(box)
