"""Lesions from an attribution map: threshold, refinement by density, connected components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..core.errors import InputError, OptionError
from ..io.grid import Grid

MINIMAL_LESION_ML = 0.1
WHOLE_NEIGHBOURHOOD = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True)
class Refinement:
    """How the thresholded map, which is as coarse as the explained layer, is fitted to the scan's densities.

    ``hu_floor``: voxels below this density are aerated lung and leave the lesion (None: no such floor).
    ``growth_mm``: the lesion grows by up to this distance into lung above the floor that it touches.
    ``smoothing_mm``: standard deviation of the Gaussian, over lung voxels alone, that calms the noise before densities
    are compared.
    ``closing_mm``: gaps narrower than twice this, such as open airways in a consolidation, are closed.
    """

    hu_floor: float | None = None
    growth_mm: float = 0.0
    smoothing_mm: float = 1.0
    closing_mm: float = 0.0

    def __post_init__(self) -> None:
        for name in ("growth_mm", "smoothing_mm", "closing_mm"):
            if not 0.0 <= getattr(self, name) <= 100.0:
                raise OptionError(
                    f"{name} is {getattr(self, name)} mm; a distance from 0 to 100 mm was expected.",
                    "Choose a smaller distance.",
                )
        if self.growth_mm and self.hu_floor is None:
            raise OptionError(
                f"Growth by {self.growth_mm} mm has no limit without a density floor.",
                "Set hu_floor too, for example -600 HU, or set growth_mm to 0.",
            )


def find_lesions(
    bits: np.ndarray,
    lungs: np.ndarray,
    grid: Grid,
    threshold: float,
    *,
    minimal_volume_ml: float = MINIMAL_LESION_ML,
    hu: np.ndarray | None = None,
    refinement: Refinement | None = None,
) -> np.ndarray:
    """Label the lesions, 1 the largest: connected parts of the lungs whose map exceeds ``threshold``.

    ``bits`` (I, J, K) is the map in bits per voxel on the scan's ``grid``, ``lungs`` (I, J, K) bool, ``hu`` the scan
    (needed by ``refinement``). Voxels that share a face, an edge or a corner are connected. Parts smaller than
    ``minimal_volume_ml`` are left out. Returns int32.

    Raises:
        InputError: shapes differ, or the map holds values that are not finite inside the lungs.
    """
    _check_shapes(grid, bits=bits, lungs=lungs, **({} if hu is None else {"hu": hu}))
    labels = np.zeros(grid.shape, np.int32)
    box = bounding_box(lungs)
    if box is None:
        return labels
    lung = lungs[box]
    if not np.isfinite(bits[box][lung]).all():
        raise InputError(
            "The attribution map holds values that are not finite inside the lungs.",
            "Explain the scan again; report the model and the method if it happens again.",
        )
    mask = (bits[box] > threshold) & lung
    if refinement is not None and mask.any():
        mask = _refined(mask, lung, None if hu is None else hu[box], grid.spacing, refinement)
    labels[box] = _by_size(mask, minimal_volume_ml / grid.voxel_volume_ml)
    return labels


def label_mask(mask: np.ndarray, grid: Grid, minimal_volume_ml: float = 0.0) -> np.ndarray:
    """Label the connected parts (26 neighbors) of a mask (I, J, K), 1 the largest; int32 (I, J, K)."""
    labels = np.zeros(mask.shape, np.int32)
    box = bounding_box(mask)
    if box is not None:
        labels[box] = _by_size(mask[box] > 0, minimal_volume_ml / grid.voxel_volume_ml)
    return labels


def smoothed_density(
    hu: np.ndarray, lung: np.ndarray, smoothing_mm: float, spacing: tuple[float, float, float]
) -> np.ndarray:
    """Smoothed density (I, J, K) in HU, averaged over the lung's voxels alone.

    The chest wall must have no say: its brightness, blurred into the lung, made a rind along the pleura that passed
    the density floor and clung to lesions near it.
    """
    sigma = [smoothing_mm / step for step in spacing]
    weight = ndimage.gaussian_filter(lung.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(lung, hu, 0).astype(np.float32), sigma)
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice, slice] | None:
    """Index box of the mask, grown by ``margin`` voxels; None when the mask is empty."""
    box = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if hit.size == 0:
            return None
        box.append(slice(max(int(hit[0]) - margin, 0), min(int(hit[-1]) + margin + 1, mask.shape[axis])))
    first, second, third = box
    return first, second, third


def _by_size(mask: np.ndarray, minimal_voxels: float) -> np.ndarray:
    labels, count = ndimage.label(mask, WHOLE_NEIGHBOURHOOD)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] >= minimal_voxels - 1e-9]
    new_label = np.zeros(count + 1, np.int32)
    new_label[order + 1] = np.arange(1, order.size + 1)
    return new_label[labels]


def _refined(
    mask: np.ndarray, lung: np.ndarray, hu: np.ndarray | None, spacing: tuple[float, float, float], options: Refinement
) -> np.ndarray:
    if options.hu_floor is not None:
        if hu is None:
            raise InputError("A density floor was given without the scan.", "Pass the scan (hu) as well.")
        dense = lung & (smoothed_density(hu, lung, options.smoothing_mm, spacing) > options.hu_floor)
        allowed = dense & _within(mask, options.growth_mm, spacing) if options.growth_mm else dense & mask
        mask = ndimage.binary_propagation(mask & dense, WHOLE_NEIGHBOURHOOD, mask=allowed)
    if options.closing_mm and mask.any():
        grown = _within(mask, options.closing_mm, spacing)
        mask = mask | lung & (ndimage.distance_transform_edt(grown, sampling=spacing) > options.closing_mm)
    return mask


def _within(mask: np.ndarray, distance_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask, sampling=spacing) <= distance_mm


def _check_shapes(grid: Grid, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if tuple(array.shape) != tuple(grid.shape):
            raise InputError(
                f"The array '{name}' has the shape {tuple(array.shape)}, but the scan {tuple(grid.shape)}.",
                "Bring the map, the lungs and the scan to one grid first.",
            )
