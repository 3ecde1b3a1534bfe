"""Readers and writers, one module for each file format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError, ResourceError, XAIError
from ..volume import Volume

READABLE = ".nrrd, .nhdr, .nii, .nii.gz, .mha, .mhd, or a folder with a DICOM series"
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nrrd", ".nhdr", ".nii", ".mha", ".mhd", ".dcm", ".ima", ".dicom")


def format_suffix(path: Path) -> str:
    """The file's suffix as far as it says what format it is: ``.nii.gz`` is one; "" when it is not known."""
    name = path.name.lower()
    return next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")


def volume_name(path: Path) -> str:
    """The name that a volume read from a file gets: the file's without its suffix."""
    suffix = format_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def read_file(path: Path, series_uid: str = "") -> Volume:
    """Read a file or DICOM folder into a volume, (I, J, K) or (C, I, J, K).

    Raises:
        InputError: with the file's name, what is wrong with it and what to do.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist.", "Check the path, or choose the file again.")
    with explained_errors(path):
        return _read_known(path, series_uid)


@contextlib.contextmanager
def explained_errors(path: Path) -> Iterator[None]:
    """Give errors the file's name, and turn those of the formats' parsers into ours."""
    try:
        yield
    except MemoryError as error:
        raise ResourceError(
            f"{path.name} does not fit into the memory.", "Close other programs, or crop the volume in 3D Slicer."
        ) from error
    except XAIError as error:
        if path.name in error.message:
            raise
        raise type(error)(f"{path.name}: {error.message}", error.remedy) from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read.", "Check the permissions of the file.") from error
    except Exception as error:  # the parsers raise nearly anything on damaged files
        raise InputError(
            f"{path.name} could not be read: {error or type(error).__name__}. The file is damaged, incomplete, "
            "or not what its extension says.",
            "Open it in 3D Slicer and save it again as .nrrd, or copy it again from its source.",
        ) from error


def _read_known(path: Path, series_uid: str) -> Volume:
    from . import dicom_format, metaimage_format, nifti_format, nrrd_format

    suffix = format_suffix(path)
    if path.is_dir() or suffix in (".dcm", ".ima", ".dicom") or (not suffix and dicom_format.is_dicom(path)):
        return dicom_format.read_series(path, series_uid)
    if path.stat().st_size == 0:
        raise InputError("the file is empty.", "Copy it again from its source.")
    if suffix == ".seg.nrrd":
        raise InputError(
            "this is a segmentation; a scan was expected.",
            "Choose the scan here, and this file as segmentation.",
        )
    if suffix in (".nrrd", ".nhdr"):
        array, grid, keys = nrrd_format.read_nrrd(path)
        unit = keys.get("unit", "")
    elif suffix in (".nii", ".nii.gz"):
        (array, grid), unit = nifti_format.read_nifti(path), ""
    elif suffix in (".mha", ".mhd"):
        (array, grid), unit = metaimage_format.read_metaimage(path), ""
    elif path.suffix.lower() in PICTURES:
        raise InputError("this is a two-dimensional image; a volume was expected.", "Choose a scan with slices.")
    else:
        raise InputError(
            f"the extension is not one of a volume; {READABLE} was expected.",
            "Open the file in 3D Slicer and save it as .nrrd.",
        )
    return Volume(np.asarray(array), grid, volume_name(path), unit, path)
