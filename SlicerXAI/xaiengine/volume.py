"""Volumes: an array of voxel values together with its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import InputError
from .grid import Grid

SMALLEST_VOXEL_COUNT = 2000


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values on a grid.

    ``array`` is (I, J, K), or (C, I, J, K) with channels first; ``unit`` is the unit of the values where it
    is known ("HU", "bits"). ``source`` is the file or folder it was read from.
    """

    array: np.ndarray
    grid: Grid
    name: str = ""
    unit: str = ""
    source: Path | None = None

    def __post_init__(self) -> None:
        if self.array.ndim not in (3, 4) or tuple(self.array.shape[-3:]) != self.grid.shape:
            raise InputError(
                f"The voxel array of {self.name or 'the volume'} has the shape {tuple(self.array.shape)}, "
                f"but its grid has {self.grid.shape}.",
                "Pass an array (I, J, K) or (C, I, J, K) that matches the grid.",
            )

    @property
    def channels(self) -> int:
        """Number of values per voxel."""
        return self.array.shape[0] if self.array.ndim == 4 else 1

    def channels_first(self) -> np.ndarray:
        """The array as (C, I, J, K), without copying."""
        return self.array if self.array.ndim == 4 else self.array[None]

    def with_array(self, array: np.ndarray, name: str | None = None, unit: str | None = None) -> Volume:
        """Other values on the same grid; name and unit stay unless given."""
        return replace(
            self,
            array=array,
            name=self.name if name is None else name,
            unit=self.unit if unit is None else unit,
        )


def read_volume(path: Path | str, allow_channels: bool = False, series_uid: str = "") -> Volume:
    """Read a scan: NRRD (.nrrd, .nhdr), NIfTI (.nii, .nii.gz), MetaImage (.mha, .mhd) or a DICOM series.

    A DICOM series is given by its folder, or by one of its files; ``series_uid`` chooses among several in a
    folder. The scalar type of the file is kept. With ``allow_channels``, several values per voxel give (C,
    I, J, K).

    Raises:
        InputError: the file is missing, unreadable, of another kind, or does not hold one three-dimensional
            image.
    """
    from .formats import read_file

    volume = read_file(Path(path), series_uid)
    if volume.channels > 1 and not allow_channels:
        raise InputError(
            f"{volume.name} has {volume.channels} values per voxel (a color, vector or time series image); "
            "one value per voxel was expected.",
            "Choose a scalar volume, or extract one component or time point (Vector to Scalar Volume, Sequences).",
        )
    if volume.array.ndim == 4 and volume.channels == 1:
        volume = volume.with_array(volume.array[0])
    return volume


def read_image2d(path: Path | str, allow_color: bool = False) -> Volume:
    """Read a two-dimensional image (PNG, JPEG, TIFF, BMP, DICOM X-ray) as (I, J, 1), or (3, I, J, 1) in color.

    i runs to the right of the image, j downwards, as in 3D Slicer. Spacing in mm is that of the DICOM header, else 1.
    X-rays stored with low values for white (MONOCHROME1) are inverted.

    Raises:
        InputError: the file is missing, unreadable, of another kind, or in color where gray values are expected.
    """
    from .formats import explained_errors
    from .formats.image2d import read_image

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist.", "Check the path, or choose the file again.")
    with explained_errors(path):
        image = read_image(path)
        if image.channels > 1 and not allow_color:
            raise InputError("the image is in color; gray values were expected.", "Save it as a gray-value image.")
    return image


def check_volume(volume: Volume, *, allow_2d: bool = False, smallest_voxel_count: int = SMALLEST_VOXEL_COUNT) -> None:
    """Refuse a volume that no model can say anything sensible about.

    Raises:
        InputError: it is two-dimensional, tiny, holds values that are not numbers, or is the same everywhere.
    """
    name = volume.name or "The volume"
    array = volume.array
    if array.dtype.kind not in "buif":
        raise InputError(
            f"{name} holds values of type {array.dtype}; real numbers were expected.",
            "Choose a scalar volume.",
        )
    if min(volume.grid.shape) < 2 and not allow_2d:
        raise InputError(
            f"{name} is a two-dimensional image ({volume.grid.describe()}); a volume was expected.",
            "Choose a scan with several slices.",
        )
    if not allow_2d and volume.grid.voxel_count < smallest_voxel_count:
        raise InputError(
            f"{name} is too small: {volume.grid.describe()}; at least {smallest_voxel_count} voxels were expected.",
            "Choose the whole scan.",
        )
    if array.dtype.kind == "f":
        invalid = array.size - int(np.count_nonzero(np.isfinite(array)))
        if invalid:
            raise InputError(
                f"{name} holds {invalid} values that are not numbers (NaN or infinite) of {array.size}.",
                "Replace them, for example by the value of air, and save the volume again.",
            )
    lowest, highest = array.min(), array.max()
    if lowest == highest:
        raise InputError(
            f"{name} is empty: every voxel has the value {lowest}.", "Choose a volume that holds an image."
        )


def write_volume(path: Path | str, volume: Volume) -> Path:
    """Write a volume as NRRD, whole or not at all; equal volumes give equal bytes.

    The geometry is written as 3D Slicer does, in ``space: left-posterior-superior``. Booleans become
    unsigned char, half floats become floats. The unit goes to the key ``unit`` of the header.

    Raises:
        InputError: the name does not end in .nrrd, or the values have a type that NRRD does not know.
        ResourceError: the file cannot be written.
    """
    from .formats.nrrd_format import write_nrrd

    path = Path(path)
    if path.suffix.lower() != ".nrrd":
        raise InputError(f"Volumes are written as .nrrd, not as {path.name}.", "Give a name that ends in .nrrd.")
    write_nrrd(path, volume.array, volume.grid, {"unit": volume.unit} if volume.unit else {})
    return path
