"""MetaImage files (.mha, .mhd with a data file), as ITK writes them.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.errors import InputError
from ..grid import Grid
from .sizes import check_count, check_size, compressed_limit, inflated

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_LONGEST_HEADER = 1 << 16


def read_metaimage(path: Path) -> tuple[np.ndarray, Grid]:
    """Read .mha or .mhd: the array (I, J, K) or (C, I, J, K), and its grid."""
    fields, data_offset = _read_fields(path)
    shape = tuple(int(size) for size in _required(fields, "DimSize").split())
    if len(shape) < 3:
        raise InputError(
            f"the image has {len(shape)} dimensions (sizes {shape}); 3 were expected.",
            "Choose a three-dimensional scan.",
        )
    channels = int(fields.get("ElementNumberOfChannels", 1))
    if min(channels, *shape) < 1:
        raise InputError(
            f"the image is empty: {channels} channels of {' x '.join(map(str, shape))} voxels.",
            "Choose a volume that holds an image.",
        )
    kind = _required(fields, "ElementType").removesuffix("_ARRAY")
    if kind not in _TYPES:
        raise InputError(f"the values have the unknown type {kind}.", "Save it again with 3D Slicer.")
    big_endian = _flag(fields, "BinaryDataByteOrderMSB") or _flag(fields, "ElementByteOrderMSB")
    dtype = np.dtype((">" if big_endian else "<") + _TYPES[kind])
    count = channels * int(np.prod(shape, dtype=object))
    if not _flag({"BinaryData": "True", **fields}, "BinaryData"):
        array = _read_text(path, fields, data_offset, count, dtype)
    else:
        raw = _read_values(path, fields, data_offset, count * dtype.itemsize)
        array = np.frombuffer(raw, dtype, count)
    array = array.reshape((channels, *shape), order="F")
    array = array.astype(dtype.newbyteorder("="), copy=False)
    array = array.reshape(-1, *shape[:3], order="F") if len(shape) == 3 else _times_as_channels(array)
    return (array[0] if array.shape[0] == 1 else array), Grid(shape[:3], _affine(fields, len(shape)))


def _times_as_channels(array: np.ndarray) -> np.ndarray:
    """(C, I, J, K, T, ...) to (C * T * ..., I, J, K)."""
    extra = tuple(range(4, array.ndim))
    array = array.transpose(0, *extra, 1, 2, 3)
    return array.reshape(-1, *array.shape[-3:])


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields of the header, and the position of the first byte after it."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        for line in iter(lambda: stream.readline(_LONGEST_HEADER), b""):
            name, equals, value = line.decode("utf-8", "replace").partition("=")
            if not equals:
                break
            fields[name.strip()] = value.strip()
            if name.strip() == "ElementDataFile":
                return fields, stream.tell()
    raise InputError("this is not a MetaImage file.", "Choose a file that 3D Slicer can open.")


def _required(fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise InputError(f"the header lacks the field {name}.", "Save it again with 3D Slicer.")
    return fields[name]


def _flag(fields: dict[str, str], name: str) -> bool:
    return fields.get(name, "False").lower() in ("true", "1")


def _data_file(path: Path, fields: dict[str, str]) -> Path:
    data_file = fields["ElementDataFile"]
    if data_file.startswith("LIST") or "%" in data_file:
        raise InputError("the values are spread over several files.", "Save it as one .mha file with 3D Slicer.")
    source = path if data_file.upper() == "LOCAL" else path.parent / data_file
    if not source.is_file():
        raise InputError(
            f"the file with its values, {data_file}, is missing.", "Copy both files into the same folder."
        )
    return source


def _read_values(path: Path, fields: dict[str, str], data_offset: int, size: int) -> bytearray:
    source = _data_file(path, fields)
    offset = data_offset if source == path else 0
    header_size = int(fields.get("HeaderSize", 0))
    compressed = _flag(fields, "CompressedData")
    if header_size < -1:
        raise InputError(f"the header skips {header_size} bytes.", "Save it again with 3D Slicer.")
    if header_size == -1 and not compressed:
        offset = source.stat().st_size - size
    elif header_size > 0:
        offset += header_size
    check_size(size, compressed_limit(source, offset) if compressed else source.stat().st_size - max(offset, 0))
    with source.open("rb") as stream:
        stream.seek(max(offset, 0))
        if compressed:
            return inflated(stream, size, "zlib")
        raw = bytearray(stream.read(size))
    check_count(len(raw), size)
    return raw


def _read_text(path: Path, fields: dict[str, str], data_offset: int, count: int, dtype: np.dtype) -> np.ndarray:
    """Values written as numbers in text (BinaryData = False)."""
    source = _data_file(path, fields)
    if _flag(fields, "CompressedData"):
        raise InputError("its values are said to be text and compressed at once.", "Save it again with 3D Slicer.")
    offset = data_offset if source == path else 0
    check_size(2 * count - 1, source.stat().st_size - offset)
    with source.open("rb") as stream:
        stream.seek(offset)
        words = stream.read().split()
    check_count(len(words), count)
    return np.array(words, dtype="S").astype(np.float64 if dtype.kind == "f" else np.int64).astype(dtype)


def _affine(fields: dict[str, str], dimensions: int) -> np.ndarray:
    """The matrix from indices to RAS; the file's is LPS, its TransformMatrix lists one axis after the other."""

    def numbers(names: tuple[str, ...], default: np.ndarray) -> np.ndarray:
        text = next((fields[name] for name in names if name in fields), None)
        return default if text is None else np.array([float(word) for word in text.split()])

    spacing = numbers(("ElementSpacing", "ElementSize"), np.ones(dimensions))
    origin = numbers(("Offset", "Position", "Origin"), np.zeros(dimensions))
    axes = numbers(("TransformMatrix", "Rotation", "Orientation"), np.eye(dimensions).ravel())
    affine = np.eye(4)
    affine[:3, :3] = axes.reshape(dimensions, dimensions)[:3, :3].T * spacing[:3]
    affine[:3, 3] = origin[:3]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
