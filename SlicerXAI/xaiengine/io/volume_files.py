"""Reading and writing volumes, whatever their format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.errors import InputError
from .formats.file_names import PICTURES, READABLE, explained_errors, format_suffix, refuse_pointer, volume_name
from .volume import Volume


def read_volume(path: Path | str, allow_channels: bool = False, series_uid: str = "") -> Volume:
    """Read a scan or an image, in any format: NRRD (.nrrd, .nhdr), NIfTI (.nii, .nii.gz), MetaImage (.mha, .mhd), a
    DICOM series or X-ray, or a picture (PNG, JPEG, TIFF, BMP), which gives (I, J, 1) or, in color, (3, I, J, 1).

    A DICOM series is given by its folder, or by one of its files; ``series_uid`` chooses among several in a
    folder. The scalar type of the file is kept. With ``allow_channels``, several values per voxel give (C,
    I, J, K).

    Raises:
        InputError: the file is missing, unreadable, of another kind, or does not hold one three-dimensional
            image.
    """
    volume = read_file(Path(path), series_uid)
    if volume.channels > 1 and not allow_channels and volume.picture:
        raise InputError(
            f"{volume.name}: the image is in color; gray values were expected.", "Save it as a gray-value image."
        )
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
    from .formats.image2d import read_image

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist.", "Check the path, or choose the file again.")
    with explained_errors(path):
        refuse_pointer(path)
        image = read_image(path)
        if image.channels > 1 and not allow_color:
            raise InputError("the image is in color; gray values were expected.", "Save it as a gray-value image.")
    return image


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


def read_file(path: Path, series_uid: str = "") -> Volume:
    """Read a file or DICOM folder into a volume, (I, J, K) or (C, I, J, K).

    Raises:
        InputError: with the file's name, what is wrong with it and what to do.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist.", "Check the path, or choose the file again.")
    with explained_errors(path):
        return _read_known(path, series_uid)


def _read_known(path: Path, series_uid: str) -> Volume:
    from .formats import dicom_format, metaimage_format, nifti_format, nrrd_format

    suffix = format_suffix(path)
    if path.is_file():
        if path.stat().st_size == 0:
            raise InputError("the file is empty.", "Copy it again from its source.")
        refuse_pointer(path)
    if path.is_dir() or suffix in (".dcm", ".ima", ".dicom"):
        return dicom_format.read_series(path, series_uid)
    if suffix == ".seg.nrrd":
        raise InputError(
            "this is a segmentation; a scan was expected.",
            "Choose the scan here, and this file as segmentation.",
        )
    unit = ""
    notes: tuple[str, ...] = ()
    if suffix in (".nrrd", ".nhdr"):
        array, grid, keys = nrrd_format.read_nrrd(path)
        unit = keys.get("unit", "")
    elif suffix in (".nii", ".nii.gz"):
        array, grid, notes = nifti_format.read_nifti(path)
    elif suffix in (".mha", ".mhd"):
        array, grid = metaimage_format.read_metaimage(path)
    elif path.suffix.lower() in PICTURES:
        from .formats.image2d import read_image

        return read_image(path)
    elif dicom_format.is_dicom(path) or path.name.upper() == "DICOMDIR":
        return dicom_format.read_series(path, series_uid)
    else:
        raise InputError(
            f"the extension is not one of a volume; {READABLE} was expected.",
            "Open the file in 3D Slicer and save it as .nrrd.",
        )
    return Volume(np.asarray(array), grid, volume_name(path), unit, path, notes=notes)
