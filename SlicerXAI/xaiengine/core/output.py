"""The output folder: artifacts appear in it all together when a job has succeeded, or not at all."""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError, ResourceError
from .job import RESULT_NAME, Artifact, ArtifactKind, write_text_atomically

PARTIAL_PREFIX = ".partial-"


class OutputFolder:
    """Collects artifacts in a hidden folder beside their destination; :meth:`publish` moves them there."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        with disk_errors(self.folder):
            if self.folder.exists() and not self.folder.is_dir():
                raise InputError(
                    f"The output {self.folder} is a file, not a folder.", "Name a folder for the results."
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            for stale in self.folder.glob(f"{PARTIAL_PREFIX}*"):
                shutil.rmtree(stale, ignore_errors=True)
            (self.folder / RESULT_NAME).unlink(missing_ok=True)
            self._partial = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=self.folder))
        self.artifacts: list[Artifact] = []

    def path(self, file: str) -> Path:
        """Where to write the file of an artifact to be added."""
        return self._partial / file

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

    def publish(self) -> list[Artifact]:
        """Move every artifact to the output folder."""
        with disk_errors(self.folder):
            for file in dict.fromkeys(artifact.file for artifact in self.artifacts):  # a plot shares its table's
                os.replace(self.path(file), self.folder / file)
        self.discard()
        return self.artifacts

    def discard(self) -> None:
        """Remove what has not been published."""
        shutil.rmtree(self._partial, ignore_errors=True)


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


@contextmanager
def disk_errors(folder: Path):
    """Turn the system's complaints about a disk into errors with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC):
            raise ResourceError(
                f"The disk that holds {folder} is full.", "Free some space or choose another output folder."
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise InputError(
                f"The output folder {folder} cannot be written.", "Choose a folder that you may write to."
            ) from error
        raise
