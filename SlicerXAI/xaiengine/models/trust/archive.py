"""The one reader of archives (.pt2, .ts) whose content goes on to PyTorch.

PyTorch reads archives with a reader of its own, which may see other entries than Python's in an archive that was made
so. The entries read and checked here are therefore written into a new archive in memory, and only that is loaded.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from ...core.errors import ModelError, TrustError
from .expressions import TRUST_REMEDY

MOST_ENTRIES = 50_000
LARGEST_RATIO = 200
LARGEST_COMPRESSED_ENTRY = 16 * 2**20
LARGEST_COMPRESSED = 64 * 2**20
"""Bytes of all compressed entries; PyTorch compresses code alone."""


def read_entries(content: bytes, name: str) -> dict[str, bytes]:
    """The entries of an archive by their names below its one top folder, in their order.

    Raises:
        TrustError: names that occur twice or lead elsewhere, or entries out of proportion.
        ModelError: it is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            top = _top_folder(infos, name)
            _check(infos, len(content), name)
            return {info.filename[len(top) :]: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise ModelError(f"{name} is damaged: {error}.", "Export it again, or copy it again.") from error
    except Exception as error:  # zlib's own error
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{name} is damaged: {error}.", "Export it again, or copy it again.") from error


def _top_folder(infos: list[zipfile.ZipInfo], name: str) -> str:
    tops = {info.filename.partition("/")[0] for info in infos if "/" in info.filename}
    if len(tops) == 1 and all("/" in info.filename for info in infos):
        return tops.pop() + "/"
    if any(info.filename == "version" for info in infos):  # torch.export of PyTorch 2.7 and before has no top folder
        return ""
    raise ModelError(f"{name} has not the one top folder that PyTorch gives its archives.", "Export it again.")


def _check(infos: list[zipfile.ZipInfo], total: int, name: str) -> None:
    if len(infos) > MOST_ENTRIES:
        raise TrustError(f"{name} holds {len(infos)} entries, which no model does.", TRUST_REMEDY)
    seen: set[str] = set()
    stored = unpacked = 0
    for info in infos:
        file = info.filename
        if file in seen or ".." in file.split("/") or file.startswith("/") or "\\" in file or "\0" in file:
            raise TrustError(f"{name} holds the entry {file[:100]!r} twice or with an odd name.", TRUST_REMEDY)
        seen.add(file)
        if info.flag_bits & 1:
            raise ModelError(f"{file} of {name} is encrypted.", "Export it without a password.")
        if info.compress_type == zipfile.ZIP_STORED:
            stored += info.file_size
            grows = info.file_size != info.compress_size or stored > total
        else:
            limit = max(LARGEST_RATIO * info.compress_size, 2**20)
            unpacked += info.file_size
            grows = info.file_size > min(limit, LARGEST_COMPRESSED_ENTRY) or unpacked > LARGEST_COMPRESSED
        if grows:
            raise TrustError(f"{file[:100]} of {name} grows without measure when unpacked.", TRUST_REMEDY)


def rebuilt(entries: Mapping[str, bytes], top: str = "model") -> io.BytesIO:
    """An archive in memory that holds these entries and nothing else."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for file, content in entries.items():
            archive.writestr(zipfile.ZipInfo(f"{top}/{file}" if top else file), content)
    stream.seek(0)
    return stream
