"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import ResourceError

_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextlib.contextmanager
def written_whole(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its place when the block ends without an error.

    The temporary name keeps the file's extensions, because writers choose the format by them. On an error
    nothing is left behind, and a file that was there before stays as it was.

    Raises:
        ResourceError: the folder cannot be written, the disk is full, or another program holds the file open.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".partial-", suffix="-" + path.name, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _explained(error, path) from error
    temporary = Path(name)
    try:
        yield temporary
        _give_usual_permissions(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _give_usual_permissions(path: Path) -> None:
    """Undo the owner-only permissions of temporary files, so that colleagues can read results as usual."""
    if os.name == "posix":
        mask = os.umask(0)
        os.umask(mask)
        path.chmod(0o666 & ~mask)


def _explained(error: OSError, path: Path) -> ResourceError:
    if error.errno in _DISK_FULL:
        return ResourceError(
            f"The disk is full: {path} could not be written.",
            "Free some space, or choose another output folder.",
        )
    return ResourceError(
        f"{path} could not be written: {error.strerror or error}.",
        "Choose an output folder that you may write to, and close programs that have the file open.",
    )
