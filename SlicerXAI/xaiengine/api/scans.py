"""Scans and regions as the API takes them: volumes, plain arrays, segmentations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError, OptionError
from ..inference.channel_files import with_channels
from ..io.grid import Grid
from ..io.segmentation import Segmentation
from ..io.volume import Volume
from ..io.volume_files import read_volume as read_scan


def read_volume(path: str | Path, *, channels: bool | Sequence[str | Path] = True, series: str = "") -> Volume:
    """A scan or picture from its file: NRRD, NIfTI, MetaImage, a DICOM folder, PNG, JPEG, TIFF.

    Args:
        path: the file, or the folder of a DICOM series.
        channels: files of further channels, in the model's order, which are resampled onto the first; or whether
            several values per voxel are accepted, which give an array (C, I, J, K).
        series: which series of a DICOM folder, by its series instance UID; needed where there are several.

    Returns:
        The scan with ``array`` (I, J, K), ``grid`` (where its voxels lie, RAS mm) and ``name``.

    Raises:
        InputError: the file is missing, unreadable or of another kind, or a channel lies elsewhere.
    """
    if isinstance(channels, (str, Path)):
        channels = [channels]
    others = [] if isinstance(channels, bool) else [Path(item).expanduser() for item in channels]
    scan = read_scan(Path(path).expanduser(), allow_channels=channels is not False, series_uid=series)
    return with_channels(scan, others) if others else scan


def as_volume(scan: Any, dimensions: int = 3) -> Volume:
    """A volume from one, or from an array without geometry (1 mm voxels): (I, J, K), (I, J) or (C, ...).

    Raises OptionError for a path, InputError for an array of another form.
    """
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, (str, Path)):
        raise OptionError(f"A scan was expected, {str(scan)!r} is a name.", "Read it: xai.read_volume(path).")
    array = np.asarray(scan.detach().cpu() if hasattr(scan, "detach") else scan)
    if array.ndim == 2 or (array.ndim == 3 and dimensions == 2 and array.shape[0] in (1, 3)):
        array = array[..., None]
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim not in (3, 4) or array.dtype.kind not in "buif":
        raise InputError(
            f"A scan was expected, found an array of {array.dtype} of shape {array.shape}.",
            "Give (I, J, K), (I, J) for a picture, or (channels, I, J, K).",
        )
    return Volume(array, Grid.from_directions(array.shape[-3:]), "array")


def as_mask(region: Any, grid: Grid, segment: str = "") -> np.ndarray:
    """A region as boolean voxels (I, J, K) of a grid.

    Raises InputError when an array has another shape, or the segmentation no such structure.
    """
    if isinstance(region, Segmentation):
        moved = region if region.grid == grid else region.on_grid(grid)
        return moved.mask(segment) if segment else moved.union()
    if isinstance(region, Volume):
        from ..io.resample import resample

        array = region.array if region.grid == grid else resample(region.array, region.grid, grid, "nearest")
        return np.asarray(array) != 0
    array = np.asarray(region.detach().cpu() if hasattr(region, "detach") else region)
    if array.shape != grid.shape and array[..., None].shape == grid.shape:
        array = array[..., None]
    if array.shape != grid.shape:
        raise InputError(
            f"The region has the shape {array.shape}, the scan {grid.shape}.",
            "Give an array on the scan's voxels, or a segmentation, which knows where it lies.",
        )
    return array != 0


def box_mask(corners: tuple[tuple[float, ...], ...], grid: Grid, name: str) -> np.ndarray:
    """The voxels whose centers lie between two corners (RAS mm). Raises InputError when there is none."""
    given = np.array(corners, dtype=float)
    lower, upper = given.min(0), given.max(0)
    points = grid.index_to_ras(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    mask = np.asarray(((points >= lower) & (points <= upper)).all(-1))
    if not mask.any():
        raise InputError(
            f"The box from {lower.tolist()} to {upper.tolist()} (RAS, mm) holds no voxel of {name}, whose center is "
            f"{np.round(grid.center, 1).tolist()}.",
            "Choose a box inside the scan.",
        )
    return mask
