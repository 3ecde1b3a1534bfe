"""NIfTI files, read with nibabel."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from ...core.errors import InputError
from ..grid import Grid

_TO_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


def read_nifti(path: Path) -> tuple[np.ndarray, Grid]:
    """Read .nii or .nii.gz: the array (I, J, K) or (C, I, J, K), and its grid.

    The sform is used where it is set, else the qform, else the voxel sizes alone. Values with a slope and
    intercept stay integers when the result is one, else they become 32-bit floats.
    """
    image = nibabel.load(path)
    array = _values(image)
    shape = array.shape
    if array.ndim < 3:
        raise InputError(
            f"the image has {array.ndim} dimensions (sizes {shape}); 3 were expected.",
            "Choose a three-dimensional scan.",
        )
    if array.ndim > 3:
        array = array.reshape(*shape[:3], -1, order="F")
        array = array[..., 0] if array.shape[-1] == 1 else np.moveaxis(array, -1, 0)
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= _TO_MM.get(image.header.get_xyzt_units()[0], 1.0)
    return array, Grid(array.shape[-3:], affine)


def _values(image: nibabel.spatialimages.SpatialImage) -> np.ndarray:
    stored = image.get_data_dtype()
    if stored.fields:  # RGB and RGBA voxels
        raw = np.asanyarray(image.dataobj)
        return np.stack([raw[name] for name in stored.names], axis=-1)
    if stored.kind == "c":
        raise InputError("the values are complex numbers; real ones were expected.", "Choose a scalar volume.")
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    raw = np.asanyarray(image.dataobj.get_unscaled())
    raw = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    if slope == 1 and intercept == 0:
        return raw
    return rescaled(raw, slope, intercept)


def rescaled(raw: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """raw * slope + intercept: in the smallest integer type that holds it exactly, else in 32-bit floats."""
    if raw.dtype.kind in "iu" and float(slope).is_integer() and float(intercept).is_integer():
        ends = [int(raw.min()) * int(slope) + int(intercept), int(raw.max()) * int(slope) + int(intercept)]
        for kind in (np.int16, np.int32, np.int64):
            limits = np.iinfo(kind)
            if limits.min <= min(ends) and max(ends) <= limits.max:
                return raw.astype(kind) * kind(int(slope)) + kind(int(intercept))
    return raw.astype(np.float32) * np.float32(slope) + np.float32(intercept)
