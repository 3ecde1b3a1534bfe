"""NIfTI files, read with nibabel and placed as 3D Slicer (ITK) places them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from ...core.errors import InputError
from ..grid import Grid
from .sizes import check_size, compressed_limit

_TO_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_SCANNER = 1
SKEW_TOLERANCE = 1e-4
"""Cosine between axes above which ITK takes a matrix for sheared."""
TWO_PLACES_MM = 0.1
"""Distance between the places of sform and qform from which a user hears of it."""


def read_nifti(path: Path) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """Read .nii or .nii.gz: the array (I, J, K) or (C, I, J, K), its grid, and notes about its place.

    The place is the one that 3D Slicer shows: the sform where its code is 1 (scanner) or there is no qform, else the
    qform; voxel sizes are those of pixdim. A sheared sform gives way to the qform. Without either, the first voxel
    lies at the origin and the axes run to the left, posterior and up. Values with a slope and intercept stay integers
    when the result is one, else they become 32-bit floats.
    """
    image = nibabel.load(path)
    if 0 in image.shape:
        raise InputError(f"the image is empty: its sizes are {image.shape}.", "Choose a volume that holds an image.")
    needed = int(np.prod([int(size) for size in image.shape], dtype=object)) * image.get_data_dtype().itemsize
    check_size(needed, compressed_limit(path) if path.suffix == ".gz" else path.stat().st_size)
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
    affine, notes = placed(image, array.shape[-3:])
    return array, Grid(array.shape[-3:], affine), notes


def placed(
    image: nibabel.spatialimages.SpatialImage, shape: tuple[int, int, int]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The matrix from indices to RAS mm, as 3D Slicer finds it, and notes for the user."""
    header = image.header
    if not hasattr(header, "get_sform"):
        return np.array(image.affine, dtype=np.float64), ()
    factor = _TO_MM.get(header.get_xyzt_units()[0], 1.0)
    sizes = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = header.get_qform(coded=True)
    if sform_code and not _usable(sform):
        sform, sform_code = None, 0
    notes: list[str] = []
    if not sform_code and not qform_code:
        affine = np.diag([-sizes[0], -sizes[1], sizes[2], 1.0])
        notes.append(
            "The NIfTI file does not say where its voxels lie (neither sform nor qform): as in 3D Slicer the first "
            "voxel is at the origin and the axes run left, posterior, superior."
        )
    elif not qform_code or (sform_code == _SCANNER and not _sheared(sform)):
        affine = np.array(sform, dtype=np.float64)
        if _sheared(affine):
            notes.append("The axes of the NIfTI file's sform are not perpendicular: 3D Slicer does not open it.")
        else:
            affine[:3, :3] *= np.where(sizes > 0, sizes, 1.0) / np.linalg.norm(affine[:3, :3], axis=0)
    else:
        affine = np.array(qform, dtype=np.float64)
    affine[:3] *= factor
    for name, other, code in (("sform", sform, sform_code), ("qform", qform, qform_code)):
        apart = _apart(affine, other, shape, factor) if code else 0.0
        if apart > TWO_PLACES_MM:
            notes.append(
                f"The NIfTI file gives two places: by its {name} the scan lies up to {apart:.1f} mm from where 3D "
                "Slicer shows it, which is used here. Programs that read the other one place results elsewhere."
            )
    return affine, tuple(notes)


def _usable(matrix: np.ndarray) -> bool:
    lengths = np.linalg.norm(np.asarray(matrix, dtype=np.float64)[:3, :3], axis=0)
    return bool(np.isfinite(matrix).all() and lengths.min() > 0)


def _sheared(matrix: np.ndarray) -> bool:
    axes = np.asarray(matrix, dtype=np.float64)[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > SKEW_TOLERANCE)


def _apart(affine: np.ndarray, other: np.ndarray, shape: tuple[int, int, int], factor: float) -> float:
    """Largest distance in mm between a corner's places."""
    other = np.array(other, dtype=np.float64)
    other[:3] *= factor
    corners = np.array([[i, j, k, 1] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)])
    return float(np.linalg.norm(((affine - other) @ corners.T)[:3], axis=0).max())


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
