"""Reads the files of a model: a folder, a .zip of one, or a single file. Nothing is unpacked to disk.

Every read has a limit that is checked before the bytes are read, and no name leads out of the model.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..core.errors import ModelError, TrustError
from ..core.git_lfs import refuse_pointer
from .trust.expressions import TRUST_REMEDY

LARGEST_TEXT = 4 * 2**20
LARGEST_WEIGHTS = 8 * 2**30
LARGEST_COUNT = 2000
LARGEST_FOLDER = 50_000
"""Files in a folder; nnU-Net keeps its validation cases beside the weights."""
LARGEST_RATIO = 200
"""Uncompressed bytes per compressed byte; network weights hardly compress, configurations 20-fold."""


class ModelFiles(ABC):
    """The files of a model, by their names relative to its folder, with ``/`` between parts."""

    name: str
    names: tuple[str, ...]

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file as it will be read."""

    @abstractmethod
    def _read(self, name: str, limit: int) -> bytes:
        """At most ``limit + 1`` bytes of the file."""

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def first(self, candidates: Iterable[str]) -> str | None:
        """The first of these names that exists."""
        return next((name for name in candidates if name in self), None)

    def read(self, name: str, limit: int = LARGEST_WEIGHTS) -> bytes:
        """The bytes of a file. Raises ModelError if it is missing, TrustError if it is larger than ``limit``."""
        if name not in self:
            raise ModelError(f"{self.name} has no file {name}.", "Check that the model is complete.")
        content = self._read(name, limit) if self.size(name) <= limit else None
        if content is None or len(content) > limit:
            raise TrustError(f"{name} of {self.name} is larger than {limit} bytes and is not read.", TRUST_REMEDY)
        refuse_pointer(content, f"{name} of {self.name}" if name != self.name else name, ModelError)
        return content

    def text(self, name: str) -> str:
        """A text file in UTF-8."""
        try:
            return self.read(name, LARGEST_TEXT).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ModelError(f"{name} of {self.name} is not UTF-8 text.", "Save it in UTF-8.") from error

    def digest(self, names: Iterable[str]) -> str:
        """SHA-256 over names and contents of these files."""
        total = hashlib.sha256()
        for name in sorted(set(names)):
            total.update(f"{name}\0{hashlib.sha256(self.read(name)).hexdigest()}\n".encode())
        return total.hexdigest()


class FolderFiles(ModelFiles):
    """A folder on disk. Links that lead out of it are refused unless the model is trusted."""

    def __init__(self, folder: Path, trust: bool = False) -> None:
        self.folder = folder.resolve()
        self.name = folder.name
        self.names = tuple(sorted(self._walk(trust)))

    def _walk(self, trust: bool) -> Iterable[str]:
        pending = [self.folder]
        count = 0
        while pending:
            for item in sorted(pending.pop().iterdir()):
                count += 1
                if count > LARGEST_FOLDER and not trust:
                    raise ModelError(
                        f"{self.name} holds more than {LARGEST_FOLDER} files, which no model does.",
                        "Choose the folder of the model itself.",
                    )
                name = item.relative_to(self.folder).as_posix()
                if item.is_symlink() and not trust:
                    self._check_link(item, name)
                if item.is_dir() and not item.is_symlink() and not name.startswith(".git"):
                    pending.append(item)
                elif item.is_file():
                    yield name

    def _check_link(self, item: Path, name: str) -> None:
        try:
            target = item.resolve()
        except (OSError, RuntimeError):
            raise TrustError(f"The link {name} of {self.name} leads nowhere or to itself.", TRUST_REMEDY) from None
        if not target.is_relative_to(self.folder) and not self._is_blob(target):
            raise TrustError(f"{name} of {self.name} is a link to {target}, outside the model.", TRUST_REMEDY)

    def _is_blob(self, target: Path) -> bool:
        """Whether a file is one of the same model's ``blobs`` in a Hugging Face cache, whose snapshots are links."""
        model = self.folder.parent.parent
        is_snapshot = self.folder.parent.name == "snapshots" and model.name.startswith("models--")
        return is_snapshot and target.parent == model / "blobs"

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def _read(self, name: str, limit: int) -> bytes:
        return read_regular(self.folder / name, limit)


class SingleFile(ModelFiles):
    """One file by itself, under its own name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.names = (path.name,)

    def size(self, name: str) -> int:
        return self.path.stat().st_size

    def _read(self, name: str, limit: int) -> bytes:
        return read_regular(self.path, limit)


class SubFiles(ModelFiles):
    """The files below one folder of a model's files."""

    def __init__(self, files: ModelFiles, folder: str) -> None:
        self._files = files
        self._top = folder.rstrip("/") + "/"
        self.name = PurePosixPath(folder).name
        self.names = tuple(name[len(self._top) :] for name in files.names if name.startswith(self._top))

    def size(self, name: str) -> int:
        return self._files.size(self._top + name)

    def _read(self, name: str, limit: int) -> bytes:
        return self._files._read(self._top + name, limit)


class ZipFiles(ModelFiles):
    """A .zip file whose single top folder, if there is one, is taken as the model's folder."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.path = path
        with self._archive() as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        self._check(entries)
        top = _common_folder([entry.filename for entry in entries])
        self._entries = {entry.filename[len(top) :]: entry for entry in entries}
        self.names = tuple(sorted(self._entries))

    def _archive(self) -> zipfile.ZipFile:
        """Opened for each use, so that the file can be moved or replaced in between (on Windows too)."""
        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise ModelError(f"{self.name} is not a readable .zip file: {error}.", "Make or copy it again.") from error

    def _check(self, entries: list[zipfile.ZipInfo]) -> None:
        if len(entries) > LARGEST_COUNT:
            raise TrustError(f"{self.name} holds {len(entries)} files, which no model does.", TRUST_REMEDY)
        seen: set[str] = set()
        for entry in entries:
            name = entry.filename
            if _leaves_folder(name):
                raise TrustError(f"{self.name} holds the name {name!r}, which leads out of its folder.", TRUST_REMEDY)
            if (entry.external_attr >> 16) & 0o170000 == 0o120000:
                raise TrustError(f"{name} of {self.name} is a link.", "Pack the files themselves.")
            if entry.flag_bits & 1:
                raise ModelError(f"{self.name} is encrypted.", "Unpack it and give the folder.")
            if name in seen:
                raise TrustError(f"{self.name} holds {name} twice.", TRUST_REMEDY)
            if entry.file_size > 2**20 and entry.file_size > LARGEST_RATIO * max(entry.compress_size, 1):
                raise TrustError(
                    f"{name} of {self.name} grows from {entry.compress_size} to {entry.file_size} bytes unpacked.",
                    TRUST_REMEDY,
                )
            seen.add(name)
        if sum(entry.file_size for entry in entries) > LARGEST_WEIGHTS:
            raise TrustError(f"{self.name} holds more than {LARGEST_WEIGHTS} bytes unpacked.", TRUST_REMEDY)

    def size(self, name: str) -> int:
        return self._entries[name].file_size

    def _read(self, name: str, limit: int) -> bytes:
        entry = self._entries[name]
        try:
            with self._archive() as archive, archive.open(entry) as stream:
                return stream.read(min(limit, entry.file_size) + 1)
        except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError) as error:
            raise ModelError(f"{name} of {self.name} is damaged: {error}.", "Make or copy the file again.") from error


def _common_folder(names: list[str]) -> str:
    """The folder (with ``/``) that holds ``configs/`` when a zip was made of a folder instead of its content."""
    tops = {name.split("/", 1)[0] for name in names if not name.startswith("__MACOSX")}
    if len(tops) == 1 and all("/" in name for name in names):
        top = tops.pop()
        if top not in ("configs", "models"):
            return top + "/"
    return ""


def _leaves_folder(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return name.startswith(("/", "\\")) or ".." in parts or ":" in name or "\0" in name


def check_regular(path: Path) -> None:
    """Refuse what is no plain file: a pipe or a device would be waited for without end."""
    if path.exists() and not path.is_file():
        raise ModelError(f"{path.name} is no plain file (a pipe or a device).", "Give the file of the model itself.")


def read_regular(path: Path, limit: int) -> bytes:
    """At most ``limit + 1`` bytes of a plain file, taking the memory for what there is, not for the limit."""
    check_regular(path)
    with open(path, "rb") as stream:
        return stream.read(min(os.fstat(stream.fileno()).st_size, limit) + 1)


def open_model(path: Path, trust: bool = False) -> ModelFiles:
    """The files of a model given by its folder, .zip or single file."""
    if path.is_dir():
        return FolderFiles(path, trust)
    return ZipFiles(path) if path.suffix.lower() == ".zip" else SingleFile(path)
