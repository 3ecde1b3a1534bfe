"""Git LFS pointers: small text files that stand in for large ones in a clone that was made without git-lfs."""

from __future__ import annotations

from pathlib import Path

from .errors import InputError, XAIError

_BEGINNING = b"version https://git-lfs.github.com/spec/"
REMEDY = "Fetch the file itself: git lfs pull (in the folder of the clone), or download it from its web page."


def is_pointer(content: bytes) -> bool:
    """Whether a file that begins with these bytes is a pointer."""
    return content.startswith(_BEGINNING)


def refuse_pointer(content: bytes, name: str, error: type[XAIError] = InputError) -> None:
    """Raise when a file that begins with these bytes is a pointer."""
    if is_pointer(content):
        raise error(f"{name} is a Git LFS pointer, not the file itself.", REMEDY)


def refuse_pointer_file(path: Path, error: type[XAIError] = InputError) -> None:
    """As :func:`refuse_pointer`, for a path; what is no readable file is left to its reader."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(len(_BEGINNING))
    except OSError:
        return
    refuse_pointer(head, path.name, error)
