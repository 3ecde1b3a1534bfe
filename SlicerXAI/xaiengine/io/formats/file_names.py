"""What file names say, and errors of parsers in the words of a user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ...core.errors import InputError, ResourceError, XAIError
from ...core.git_lfs import refuse_pointer_file

READABLE = (
    ".nrrd, .nhdr, .nii, .nii.gz, .mha, .mhd, .png, .jpg, .tif, .bmp, a DICOM file or a folder with a DICOM series"
)


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


_POINTER = b"version https://git-lfs"


def refuse_pointer(path: Path) -> None:
    """Raise InputError for the text that Git LFS leaves in the place of a large file."""
    if path.is_file() and path.stat().st_size < 1024:
        with path.open("rb") as stream:
            if stream.read(len(_POINTER)) == _POINTER:
                raise InputError(
                    f"{path.name} is a Git LFS pointer, a few lines of text in the place of the file itself.",
                    "Fetch the file: git lfs pull in its repository, or download it from there.",
                )


@contextlib.contextmanager
def explained_errors(path: Path) -> Iterator[None]:
    """Give errors the file's name, and turn those of the formats' parsers into ours."""
    refuse_pointer_file(path)
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
