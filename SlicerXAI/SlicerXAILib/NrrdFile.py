"""NRRD files as the engine reads and writes them, by a thread, while the application goes on.

Slicer's own readers and writers work in the application's thread, which they hold up for long where a scan is large.

Format: http://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .EngineErrors import EngineError
from .Translation import tr as _

_TYPES = {
    "signed char": "i1",
    "unsigned char": "u1",
    "short": "<i2",
    "unsigned short": "<u2",
    "int": "<i4",
    "unsigned int": "<u4",
    "float": "<f4",
    "double": "<f8",
}
_ENCODINGS = ("gzip", "raw")
_HEADER = """NRRD0004
type: {type}
dimension: 3
space: left-posterior-superior
sizes: {sizes}
space directions: {directions}
kinds: domain domain domain
endian: little
encoding: raw
space origin: {origin}

"""
_LONGEST_HEADER = 1 << 20
# Small enough that a thread gives way to the application often.
_BLOCK_BYTES = 1 << 22
_LPS_TO_RAS = (-1.0, -1.0, 1.0, 1.0)


@dataclass(frozen=True)
class NrrdHeader:
    """What a file holds. ``layers`` is 0 for one value per voxel, else the length of a leading axis of the kind list.

    ``size`` is (I, J, K), ``ijkToRas`` (4, 4) in mm, ``keys`` the entries that are not fields of the format, and
    ``offset`` where the values begin, in bytes.
    """

    path: Path
    voxelType: np.dtype
    layers: int
    size: tuple[int, int, int]
    ijkToRas: np.ndarray
    isCompressed: bool
    offset: int
    keys: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array: (K, J, I), or (K, J, I, layers)."""
        return self.size[::-1] + ((self.layers,) if self.layers else ())


def readHeader(path: Path) -> NrrdHeader | None:
    """Return what a file says of itself; None if it is written in another way than the engine's, or damaged."""
    try:
        with open(path, "rb") as stream:
            fields, keys = _fieldsAndKeys(stream)
            return _header(path, fields, keys, stream.tell())
    except (OSError, ValueError, KeyError):
        return None


def readVoxels(header: NrrdHeader, values: np.ndarray, isStopped: Callable[[], bool]) -> None:
    """Fill a contiguous array of the header's type and number of values, in the order of the file.

    :param isStopped: asked now and again; the array is left unfinished once it says so.
    :raises EngineError: the file is damaged, or holds another number of values.
    """
    target = memoryview(values.reshape(-1).view(np.uint8))
    try:
        with open(header.path, "rb") as stream:
            stream.seek(header.offset)
            if header.isCompressed:
                _unpack(stream, target, isStopped)
            else:
                _copy(stream, target, isStopped)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise EngineError(
            _("{file} is damaged: {reason}.").format(file=header.path.name, reason=error), _("Run the job again.")
        ) from error


def headerText(voxelType: np.dtype, size: tuple[int, int, int], ijkToRas: np.ndarray) -> str | None:
    """Return the header of a file of raw values; None for a type that it does not name.

    :param size: (I, J, K).
    :param ijkToRas: (4, 4), mm.
    """
    name = next((name for name, known in _TYPES.items() if np.dtype(known) == voxelType), None)
    if name is None:
        return None
    ijkToLps = np.diag(_LPS_TO_RAS) @ ijkToRas
    return _HEADER.format(
        type=name,
        sizes=" ".join(str(count) for count in size),
        directions=" ".join(_vectorText(ijkToLps[:3, axis]) for axis in range(3)),
        origin=_vectorText(ijkToLps[:3, 3]),
    )


def _vectorText(values: np.ndarray) -> str:
    return "(" + ",".join(f"{float(value):.17g}" for value in values) + ")"


def _fieldsAndKeys(stream: BinaryIO) -> tuple[dict[str, str], dict[str, str]]:
    fields, keys, length = {}, {}, 0
    if not stream.readline(_LONGEST_HEADER).startswith(b"NRRD"):
        raise ValueError("no NRRD file")
    while True:
        line = stream.readline(_LONGEST_HEADER)
        length += len(line)
        text = line.decode("utf-8").rstrip("\r\n")
        if not line or length > _LONGEST_HEADER:
            raise ValueError("the header does not end")
        if not text:
            return fields, keys
        name, separator, value = _split(text)
        if separator == ":=":
            keys[_unescaped(name)] = _unescaped(value)
        elif separator:
            fields[name] = value.strip()


def _split(text: str) -> tuple[str, str, str]:
    if text.startswith("#"):
        return "", "", ""
    found = re.match(r"(.*?)(:=|: )(.*)", text)
    return found.groups() if found else ("", "", "")


def _header(path: Path, fields: Mapping[str, str], keys: Mapping[str, str], offset: int) -> NrrdHeader:
    sizes = [int(word) for word in fields["sizes"].split()]
    kinds = fields["kinds"].split()
    directions = fields["space directions"].split()
    isLayered = kinds[0] == "list" and directions[0] == "none"
    spatial = slice(1, None) if isLayered else slice(None)
    isKnown = (
        kinds[spatial] == ["domain"] * 3
        and len(sizes) == len(kinds) == len(directions)
        and fields["space"] == "left-posterior-superior"
        and fields.get("endian", "little") == "little"
        and fields["encoding"] in _ENCODINGS
        and "data file" not in fields
    )
    if not isKnown:
        raise ValueError("written in another way")
    ijkToLps = np.eye(4)
    ijkToLps[:3, :3] = np.array([_vector(word) for word in directions[spatial]]).T
    ijkToLps[:3, 3] = _vector(fields["space origin"])
    return NrrdHeader(
        path=path,
        voxelType=np.dtype(_TYPES[fields["type"]]),
        layers=sizes[0] if isLayered else 0,
        size=tuple(sizes[spatial]),
        ijkToRas=np.diag(_LPS_TO_RAS) @ ijkToLps,
        isCompressed=fields["encoding"] == "gzip",
        offset=offset,
        keys=keys,
    )


def _vector(text: str) -> list[float]:
    numbers = [float(word) for word in text.strip("()").split(",")]
    if len(numbers) != 3:
        raise ValueError("vectors of three numbers were expected")
    return numbers


def _unescaped(text: str) -> str:
    return re.sub(r"\\(n|\\)", lambda match: "\n" if match[1] == "n" else "\\", text)


def _copy(stream: BinaryIO, target: memoryview, isStopped: Callable[[], bool]) -> None:
    place = 0
    while place < len(target) and not isStopped():
        count = stream.readinto(target[place : place + _BLOCK_BYTES])
        if not count:
            raise EOFError(_("it ends too early"))
        place += count


def _unpack(stream: BinaryIO, target: memoryview, isStopped: Callable[[], bool]) -> None:
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    place = 0
    while not unpacker.eof and not isStopped():
        packed = unpacker.unconsumed_tail or stream.read(_BLOCK_BYTES)
        block = unpacker.decompress(packed, _BLOCK_BYTES)
        if not packed and not block:
            raise EOFError(_("it ends too early"))
        if len(block) > len(target) - place:
            raise ValueError(_("it holds more values than it says"))
        target[place : place + len(block)] = block
        place += len(block)
    if unpacker.eof and place < len(target):
        raise EOFError(_("it holds fewer values than it says"))
