"""A lock on a folder that its owner's end sets free, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import IO, Any

from .errors import InputError

LOCK_NAME = ".xaiengine.lock"


class FolderLock:
    """Held by one process at a time. The system frees it when the process ends, so none is ever left behind."""

    def __init__(self, folder: Path) -> None:
        """Take the lock. Raises InputError, naming the owner, where another job has it."""
        self._path = folder / LOCK_NAME
        self._stream: IO[str] | None = None
        while True:
            stream = open(self._path, "a+", encoding="utf-8")
            if not _taken(stream):
                owner = _owner(stream)
                stream.close()
                raise InputError(
                    f"Another job{owner} is writing its result to {folder}.",
                    "Wait until it has finished, or choose another output folder.",
                )
            if _is_still(self._path, stream):
                break
            stream.close()  # its owner removed it in between
        stream.seek(0)
        stream.truncate()
        json.dump({"pid": os.getpid()}, stream)
        stream.flush()
        self._stream = stream

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._stream is None:
            return
        stream, self._stream = self._stream, None
        if os.name == "nt":  # an open file cannot be removed there
            stream.close()
        with contextlib.suppress(OSError):
            self._path.unlink()
        stream.close()


def _taken(stream: IO[str]) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            stream.seek(0)
            module: Any = msvcrt
            module.locking(stream.fileno(), module.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True  # a file system without locks
    return True


def _is_still(path: Path, stream: IO[str]) -> bool:
    try:
        return os.name == "nt" or os.stat(path).st_ino == os.fstat(stream.fileno()).st_ino
    except OSError:
        return False


def _owner(stream: IO[str]) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError):
        stream.seek(0)
        return f" (process {int(json.loads(stream.read(200))['pid'])})"
    return ""
