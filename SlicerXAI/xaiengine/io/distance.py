"""Distances from the surface of a structure, in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def signed_distance(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distance in mm of each voxel center from the surface of a mask (I, J, K), negative inside.

    The surface lies between the outermost voxels of the mask and their neighbors, half the smallest spacing from
    each. The border of the scan is no surface: a structure goes on there.
    """
    if not mask.any():
        raise ValueError("the mask is empty")
    half = min(spacing) / 2
    if mask.all():
        return np.full(mask.shape, -half)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    return np.where(mask, half - inside, outside - half)
