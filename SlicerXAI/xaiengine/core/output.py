"""The output folder: artifacts appear in it all together when a job has succeeded, or not at all."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from .errors import InputError, ResourceError, XAIError
from .folder_lock import FolderLock
from .job import RESULT_NAME, Artifact, ArtifactKind, Result, write_json, write_text_atomically

PARTIAL_PREFIX = ".partial-"
PARTIAL_MARK = ".xaiengine-partial"
PREVIOUS_NAME = "previous-result"
"""Where the result of an earlier run goes when a later run into the same folder fails."""


_open: weakref.WeakSet[OutputFolder] = weakref.WeakSet()


def abandon_all() -> None:
    """Remove what the jobs of this process have not published; for a process that ends at once."""
    for output in list(_open):
        output.discard()


class OutputFolder:
    """Collects artifacts in a hidden folder beside their destination; :meth:`publish` moves them there.

    The folder belongs to one job at a time. Of what lies in it, a job touches what an earlier ``result.json`` lists
    and what a job that was killed left; never a foreign file, and never one of ``inputs``.
    """

    def __init__(self, folder: Path, inputs: Iterable[Path] = ()) -> None:
        self.folder = Path(folder)
        with disk_errors(self.folder):
            if self.folder.exists() and not self.folder.is_dir():
                raise InputError(
                    f"The output {self.folder} is a file, not a folder.", "Name a folder for the results."
                )
            self._inputs = {path.resolve() for path in inputs}
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.folder)
            try:
                self._begin()
            except BaseException:
                self._lock.release()
                raise
        self.artifacts: list[Artifact] = []

    def _begin(self) -> None:
        for stale in self.folder.glob(f"{PARTIAL_PREFIX}*"):
            if (stale / PARTIAL_MARK).is_file():
                shutil.rmtree(stale, ignore_errors=True)
        self._previous = _listed(self.folder)
        if self._previous is None:
            raise InputError(
                f"{self.folder / RESULT_NAME} was not written by this program and would be overwritten.",
                "Choose another output folder.",
            )
        self._partial = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=self.folder))
        (self._partial / PARTIAL_MARK).touch()
        _open.add(self)

    def path(self, file: str) -> Path:
        """Where to write the file of an artifact to be added.

        Raises:
            InputError: a foreign file of that name lies in the output folder.
        """
        self._check_free(file)
        return self._partial / file

    def _check_free(self, file: str) -> None:
        place = self.folder / file
        if not place.exists() or file == RESULT_NAME:
            return
        if place.resolve() in self._inputs:
            raise InputError(
                f"The result {file} would overwrite the input of the same name in {self.folder}.",
                "Choose another output folder.",
            )
        if file not in (self._previous or ()):
            raise InputError(
                f"{place} is there already and is not of an earlier result; it would be overwritten.",
                "Choose another output folder.",
            )

    def add(self, kind: ArtifactKind, file: str, name: str, role: str, **more: Any) -> Artifact:
        """Enter a file that lies at :meth:`path` as an artifact."""
        if not self.path(file).is_file():
            raise FileNotFoundError(f"the artifact {file} was not written")
        artifact = Artifact(kind=kind, file=file, name=name, role=role, **more)
        self.artifacts.append(artifact)
        return artifact

    def table(
        self, file: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], name: str, role: str, **more: Any
    ) -> Artifact:
        """Write rows as CSV (UTF-8, comma, point, empty cell for nothing) and enter it."""
        with disk_errors(self.folder):
            write_text_atomically(self.path(file), csv_text(columns, rows))
        return self.add("table", file, name, role, **more)

    def publish(self, result: Result | None = None) -> list[Artifact]:
        """Move every artifact to the output folder, then write the result; what is left of the one before goes.

        While artifacts are moved there is no ``result.json``, so an end in between leaves nothing that could be
        taken for a result.
        """
        files = list(dict.fromkeys(artifact.file for artifact in self.artifacts))  # a plot shares its table's
        with disk_errors(self.folder):
            if result is not None:  # written beside the artifacts first: a full disk shows before anything is moved
                write_json(self._partial / RESULT_NAME, result)
            for file in files:
                self._check_free(file)
            (self.folder / RESULT_NAME).unlink(missing_ok=True)
            for file in files:
                (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(self.path(file), self.folder / file)
            if result is not None:
                os.replace(self._partial / RESULT_NAME, self.folder / RESULT_NAME)
        for file in set(self._previous or ()) - set(files) - {RESULT_NAME}:
            if (self.folder / file).resolve() not in self._inputs:
                with contextlib.suppress(OSError):
                    (self.folder / file).unlink()
        self.discard()
        return self.artifacts

    def fail(self, result: Result) -> None:
        """Write the result of a failure; what an earlier run has left goes to a folder of its own, whole."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self._partial, ignore_errors=True)
            files = [file for file in self._previous or () if (self.folder / file).is_file()]
            if files and not any((self.folder / file).resolve() in self._inputs for file in files):
                self._set_aside(files)
            write_json(self.folder / RESULT_NAME, result)
        self.discard()

    def _set_aside(self, files: Sequence[str]) -> None:
        place = self.folder / PREVIOUS_NAME
        if place.exists():
            kept = _listed(place)
            for file in kept or ():
                (place / file).unlink(missing_ok=True)
        for file in [*files, RESULT_NAME]:
            if (self.folder / file).is_file():
                (place / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(self.folder / file, place / file)

    def discard(self) -> None:
        """Remove what has not been published and give the folder free."""
        _open.discard(self)
        shutil.rmtree(self._partial, ignore_errors=True)
        self._lock.release()


def _listed(folder: Path) -> tuple[str, ...] | None:
    """The files of the finished result in a folder; nothing where there is none, None for somebody else's file."""
    path = folder / RESULT_NAME
    if not path.exists():
        return ()
    try:
        result = Result.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return () if path.is_file() and path.stat().st_size == 0 else None
    return tuple(artifact.file for artifact in result.artifacts if _is_inside(artifact.file))


def _is_inside(file: str) -> bool:
    parts = PurePath(file.replace("\\", "/")).parts
    return bool(parts) and ".." not in parts and not PurePath(file).is_absolute() and ":" not in file


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_cell(column) for column in columns])
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return stream.getvalue()


_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def _cell(value: Any) -> Any:
    """A number as it is; of a text what a spreadsheet takes for a formula gets an apostrophe in front."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULAS) and not _is_number(value):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def disk_problem(error: OSError, folder: Path | str = "") -> XAIError | None:
    """The error with a remedy for a disk that is full or may not be written; None for other trouble."""
    place = f" that holds {folder}" if str(folder) else ""
    if error.errno in _FULL:
        return ResourceError(f"The disk{place} is full.", "Free some space or choose another output folder.")
    if error.errno == errno.EFBIG:
        return ResourceError(
            f"A file of the result grew beyond the size that this system allows{f' in {folder}' if place else ''}.",
            "Raise the limit (ulimit -f), or choose an output folder on another disk.",
        )
    return None


@contextmanager
def disk_errors(folder: Path):
    """Turn the system's complaints about a disk into errors with a remedy."""
    try:
        yield
    except OSError as error:
        if (problem := disk_problem(error, folder)) is not None:
            raise problem from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise InputError(
                f"The output folder {folder} cannot be written.", "Choose a folder that you may write to."
            ) from error
        raise InputError(
            f"The output folder {str(folder)[:200]} cannot be used: {error.strerror or error}.",
            "Choose another output folder, with a shorter or simpler name.",
        ) from error
    except ValueError as error:  # a zero byte in the name
        raise InputError(
            f"The output folder {str(folder)[:200]!r} cannot be used: {error}.", "Choose another output folder."
        ) from error
