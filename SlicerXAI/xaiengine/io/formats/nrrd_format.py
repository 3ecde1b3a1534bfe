"""NRRD files, read with pynrrd and written in the way 3D Slicer writes them.

Format: http://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import nrrd
import numpy as np

from ...core.atomic import written_whole
from ...core.errors import InputError
from ..grid import Grid
from .nrrd_values import read_values

COMPRESSION_LEVEL = 1
"""Of gzip: files 1 to 9 % larger than at level 6, in a third of the time (512 x 512 x 300 CT and maps)."""

_TO_RAS = {
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
}
_TYPES = {
    "int8": "signed char",
    "uint8": "unsigned char",
    "int16": "short",
    "uint16": "unsigned short",
    "int32": "int",
    "uint32": "unsigned int",
    "int64": "longlong",
    "uint64": "ulonglong",
    "float32": "float",
    "float64": "double",
}
_FIELDS = {
    "type",
    "dimension",
    "space",
    "sizes",
    "endian",
    "encoding",
    "kinds",
    "spacings",
    "thicknesses",
    "centers",
    "centerings",
    "labels",
    "units",
    "content",
    "block size",
    "blocksize",
    "data file",
    "datafile",
    "line skip",
    "lineskip",
    "byte skip",
    "byteskip",
    "number",
    "space dimension",
    "space units",
    "space origin",
    "space directions",
    "measurement frame",
    "axis mins",
    "axismins",
    "axis maxs",
    "axismaxs",
    "min",
    "max",
    "old min",
    "oldmin",
    "old max",
    "oldmax",
    "sample units",
    "sampleunits",
}
_CHUNK_BYTES = 1 << 24


def read_nrrd(path: Path) -> tuple[np.ndarray, Grid, dict[str, str]]:
    """Read .nrrd or .nhdr: the array (I, J, K) or (C, I, J, K), its grid, and the key/value pairs of the header."""
    with path.open("rb") as stream:
        header = read_header(stream)
        _check_header(header, path)
        array = read_values(header, stream, path)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    array, grid = place(array, header)
    return array, grid, key_values(header)


def read_header(stream: BinaryIO) -> dict[str, Any]:
    """The parsed header; the stream is left at the first byte after it. Keys and values may hold any UTF-8 text."""
    lines = []
    for line in iter(stream.readline, b""):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        lines.append(text)
        if not text.strip():
            break
        if len(lines) == 1 and not text.startswith("NRRD"):
            raise InputError("this is not an NRRD file.", "Choose a file that 3D Slicer can open.")
    return nrrd.read_header(lines)


def key_values(header: Mapping[str, Any]) -> dict[str, str]:
    """The entries of the header that are not fields of the format."""
    return {_unescaped(key): _unescaped(str(value)) for key, value in header.items() if key.lower() not in _FIELDS}


def _check_header(header: Mapping[str, Any], path: Path) -> None:
    if header.get("type") == "block":
        raise InputError("the values are of the type 'block'; numbers were expected.", "Choose a scalar volume.")
    data_file = header.get("data file", header.get("datafile"))
    if data_file is None:
        return
    if data_file.startswith("LIST") or "%" in data_file:
        raise InputError(
            "the values are spread over several files.", "Open it in 3D Slicer and save it as one .nrrd file."
        )
    if not (path.parent / data_file).is_file():
        raise InputError(
            f"the file with its values, {data_file}, is missing.", "Copy both files into the same folder."
        )


def place(array: np.ndarray, header: Mapping[str, Any]) -> tuple[np.ndarray, Grid]:
    """Bring the array to (I, J, K) or (C, I, J, K) and find its grid in the header."""
    vectors = _axis_vectors(array, header)
    spatial = [axis for axis in range(array.ndim) if np.isfinite(vectors[axis]).all()]
    other = [axis for axis in range(array.ndim) if axis not in spatial]
    if len(spatial) != 3:
        raise InputError(
            f"the image has {len(spatial)} spatial dimensions (sizes {array.shape}); 3 were expected.",
            "Choose a three-dimensional scan.",
        )
    array = array.transpose(*other, *spatial)
    if other:
        array = array.reshape(-1, *array.shape[-3:], order="F")
    affine = np.eye(4)
    affine[:3, :3] = vectors[spatial].T
    origin = np.asarray(header.get("space origin", np.zeros(3)), dtype=np.float64)
    if not np.isfinite(origin).all():
        raise InputError(
            f"the origin is {', '.join(f'{number:g}' for number in origin)}; three finite numbers were expected.",
            "Correct the origin in 3D Slicer (Volumes module, Volume Information) and save the volume again.",
        )
    affine[:3, 3] = origin
    return array, Grid(array.shape[-3:], np.diag([*_space_to_ras(header), 1.0]) @ affine)


def _space_to_ras(header: Mapping[str, Any]) -> tuple[float, float, float]:
    space = header.get("space")
    if space is None:
        # Without a patient coordinate system the axes are taken as 3D Slicer takes them: left, posterior, superior.
        return _TO_RAS["left-posterior-superior"]
    if space.lower() not in _TO_RAS:
        raise InputError(
            f"the coordinate system is '{space}'; left-posterior-superior, right-anterior-superior or "
            "left-anterior-superior was expected.",
            "Open it in 3D Slicer and save it again.",
        )
    return _TO_RAS[space.lower()]


def _axis_vectors(array: np.ndarray, header: Mapping[str, Any]) -> np.ndarray:
    """For each axis of the array the step in space, (ndim, 3), not a number for axes that are not spatial."""
    directions = header.get("space directions")
    if directions is not None:
        rows = [np.full(3, np.nan) if row is None else np.asarray(row, dtype=np.float64) for row in directions]
        if any(len(row) != 3 for row in rows) or len(rows) != array.ndim:
            raise InputError(
                f"the space directions do not give {array.ndim} vectors in three-dimensional space.",
                "Choose a three-dimensional scan.",
            )
        return np.stack(rows)
    vectors = np.full((array.ndim, 3), np.nan)
    spatial = _axes_without_directions(array, header)
    spacings = header.get("spacings", np.ones(array.ndim))
    for row, axis in enumerate(spatial[:3]):
        vectors[axis] = np.eye(3)[row] * (spacings[axis] if np.isfinite(spacings[axis]) else 1.0)
    if len(spatial) > 3:
        raise InputError(
            f"the image has {len(spatial)} dimensions (sizes {array.shape}) and does not say which are spatial.",
            "Choose a three-dimensional scan.",
        )
    return vectors


def _axes_without_directions(array: np.ndarray, header: Mapping[str, Any]) -> list[int]:
    kinds = header.get("kinds") or ["domain"] * array.ndim
    return [axis for axis, kind in enumerate(kinds) if kind in ("domain", "space", "???", "none")]


def write_nrrd(
    path: Path,
    array: np.ndarray,
    grid: Grid,
    keys: Mapping[str, str] | None = None,
    channel_kind: str = "vector",
) -> None:
    """Write (I, J, K) or (C, I, J, K), whole or not at all, with key/value pairs in the header.

    ``channel_kind`` is NRRD's kind of the channel axis: "vector" for a vector volume, "list" for the layers of a
    segmentation or the items of a sequence.

    Raises:
        InputError: the values have a type that NRRD does not know.
        ResourceError: the file cannot be written.
    """
    array = _writable(array)
    header = _header_lines(array, grid, keys or {}, channel_kind)
    with written_whole(path) as temporary, temporary.open("wb") as stream:
        stream.write("\n".join([*header, "", ""]).encode("utf-8"))
        compressor = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        for block in _blocks(array):
            stream.write(compressor.compress(block))
        stream.write(compressor.flush())


def _writable(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.name not in _TYPES:
        raise InputError(f"Values of type {array.dtype} cannot be written to NRRD.", "Use integers or floats.")
    return array


def _header_lines(array: np.ndarray, grid: Grid, keys: Mapping[str, str], channel_kind: str) -> list[str]:
    with_channels = array.ndim == 4
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    directions: Sequence[str] = [_vector(lps[:3, axis]) for axis in range(3)]
    kinds = ["domain"] * 3
    if with_channels:
        directions, kinds = ["none", *directions], [channel_kind, *kinds]
    lines = [
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {_TYPES[array.dtype.name]}",
        f"dimension: {array.ndim}",
        "space: left-posterior-superior",
        "sizes: " + " ".join(str(size) for size in array.shape),
        "space directions: " + " ".join(directions),
        "kinds: " + " ".join(kinds),
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(lps[:3, 3])}",
    ]
    return lines + [f"{_one_line(key)}:={_one_line(value)}" for key, value in keys.items()]


def _vector(values: np.ndarray) -> str:
    # Adding zero turns -0.0 into 0.0.
    return "(" + ",".join(f"{float(value) + 0.0:.17g}" for value in values) + ")"


def _unescaped(text: str) -> str:
    return re.sub(r"\\(n|\\)", lambda match: "\n" if match[1] == "n" else "\\", text)


def _one_line(text: str) -> str:
    return str(text).replace("\\", "\\\\").replace("\r", "").replace("\n", "\\n")


def _blocks(array: np.ndarray):
    """The values in file order (first axis fastest), little-endian, a few slices at a time."""
    slice_bytes = max(1, array[..., :1].nbytes)
    step = max(1, _CHUNK_BYTES // slice_bytes)
    for start in range(0, array.shape[-1], step):
        block = array[..., start : start + step]
        yield block.astype(block.dtype.newbyteorder("<"), copy=False).tobytes(order="F")
