"""Job folders hold copies of scans: those of an application that has crashed are removed by the next one.

The owner of a folder holds a lock on a file in it, which the system releases when the owner ends, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from pathlib import Path
from typing import IO

JOB_PREFIX = "xai-job-"
_LOCK_NAME = "owner.lock"
# A folder without a lock may have been made just now.
_NEW_SECONDS = 3600.0
# An owner makes the file first and locks it then: between the two it must not be taken for one that has gone.
_UNSETTLED_SECONDS = 60.0


class FolderLock:
    """Says that a folder is in use, until it is released or the process ends."""

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] | None = None
        with contextlib.suppress(OSError):  # without locks (some network drives) the folder is kept for its age alone
            self._file = (folder / _LOCK_NAME).open("wb")
            _lock(self._file)

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def removeFreeLock(path: Path) -> bool:
    """Remove a lock's file that an owner who is gone has left; returns whether no one holds the lock."""
    try:
        with path.open("r+b") as file:
            _lock(file)
            if os.name != "nt":  # while it is held, so that no one takes a file that is about to go
                path.unlink()
        if os.name == "nt":  # an open file cannot be removed there
            path.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def removeAbandoned(parent: str | Path) -> list[Path]:
    """Remove the job folders in a folder whose owners are gone; returns them."""
    abandoned = [folder for folder in Path(parent).glob(f"{JOB_PREFIX}*") if folder.is_dir() and _isAbandoned(folder)]
    for folder in abandoned:
        shutil.rmtree(folder, ignore_errors=True)
    return abandoned


def removeAbandonedSoon(parent: str | Path) -> threading.Thread:
    """Do the same in a thread, as there may be gigabytes."""
    thread = threading.Thread(target=removeAbandoned, args=(parent,), daemon=True)
    thread.start()
    return thread


def _isAbandoned(folder: Path) -> bool:
    lock = folder / _LOCK_NAME
    try:
        if not lock.exists():
            return _age(folder) > _NEW_SECONDS
        if _age(lock) < _UNSETTLED_SECONDS:
            return False
        with lock.open("r+b") as file:
            _lock(file)
        return True
    except OSError:
        return False


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _lock(file: IO[bytes]) -> None:
    """Lock a file for this process alone.

    :raises OSError: another one, or another open file of this one, has locked it.
    """
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
