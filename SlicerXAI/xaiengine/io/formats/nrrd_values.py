"""The values of an NRRD file, read without taking more memory than its header and its size allow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import nrrd
import numpy as np

from ...core.errors import InputError
from .sizes import DEFLATE_RATIO, check_count, check_size, inflated

_COMPRESSED = {"gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_TEXT = ("ascii", "text", "txt")
BZIP2_RATIO = 50_000
LONGEST_SKIP = 1 << 20


def read_values(header: Mapping[str, Any], stream: BinaryIO, path: Path) -> np.ndarray:
    """The array in the order of the header's sizes, first axis fastest; ``stream`` stands behind the header.

    Raises:
        InputError: the values are fewer or more than the header says, damaged, or in an unknown encoding.
        ResourceError: they would not fit into any memory.
    """
    sizes = [int(size) for size in header["sizes"]]
    if min(sizes, default=0) < 1:
        raise InputError(f"the image is empty: its sizes are {sizes}.", "Choose a volume that holds an image.")
    dtype = np.dtype(nrrd.reader._determine_datatype(dict(header)))
    count = 1
    for size in sizes:
        count *= size
    other = header.get("data file", header.get("datafile"))
    if other is None:
        raw = _raw(header, stream, count, dtype, path)
    else:
        with (path.parent / str(other)).open("rb") as values:
            raw = _raw(header, values, count, dtype, path.parent / str(other))
    if isinstance(raw, np.ndarray):
        return raw.reshape(sizes, order="F")
    return np.frombuffer(raw, dtype, count).reshape(sizes, order="F")


def _raw(header: Mapping[str, Any], stream: BinaryIO, count: int, dtype: np.dtype, path: Path) -> Any:
    encoding = str(header.get("encoding", "")).lower()
    lines = int(header.get("line skip", header.get("lineskip", 0)) or 0)
    skipped = int(header.get("byte skip", header.get("byteskip", 0)) or 0)
    if lines < 0 or lines > LONGEST_SKIP or skipped < -1:
        raise InputError(
            f"the header skips {lines} lines and {skipped} bytes, which is not possible.",
            "Correct the header, or save it again with 3D Slicer.",
        )
    for _ in range(lines):
        if not stream.readline(LONGEST_SKIP):
            raise InputError(f"the header skips {lines} lines; the file has fewer.", "Correct the header.")
    size = count * dtype.itemsize
    rest = path.stat().st_size - stream.tell()
    if encoding in _TEXT:
        check_size(2 * count - 1, rest)
        return _numbers(stream.read(), count, dtype)
    if encoding in _COMPRESSED:
        kind = _COMPRESSED[encoding]
        check_size(size, rest * (BZIP2_RATIO if kind == "bzip2" else DEFLATE_RATIO))
        # The skip counts decompressed bytes here.
        return inflated(stream, size + max(skipped, 0), kind)[max(skipped, 0) :]
    if encoding != "raw":
        raise InputError(
            f"the encoding is '{encoding}'; raw, gzip, bzip2 or ascii was expected.", "Save it with 3D Slicer."
        )
    check_size(size, rest - max(skipped, 0))
    stream.seek(rest - size if skipped == -1 else skipped, 1)
    return bytearray(stream.read(size))


def _numbers(text: bytes, count: int, dtype: np.dtype) -> np.ndarray:
    """Values written as text."""
    words = text.split()
    check_count(len(words), count)
    kind = np.float64 if dtype.kind == "f" else np.int64
    return np.array(words, dtype="S").astype(kind).astype(dtype)
