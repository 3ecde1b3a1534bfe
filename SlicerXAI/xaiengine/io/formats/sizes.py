"""How many bytes a file can hold, found out before memory is taken for what its header promises."""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...core.errors import InputError, ResourceError

LARGEST_BYTES = 64 << 30
DEFLATE_RATIO = 1040
"""Bytes that a byte of zlib's or gzip's format can give at most (1032 and headers)."""
_BLOCK = 1 << 20


def compressed_limit(path: Path, offset: int = 0) -> int:
    """The largest number of bytes that a zlib or gzip file can give."""
    return (path.stat().st_size - offset) * DEFLATE_RATIO


def check_size(needed: int, available: int) -> None:
    """Refuse an image whose values the file cannot hold, or that no computer holds.

    Raises:
        InputError: the file is too short.
        ResourceError: more than 64 GiB.
    """
    if needed > available:
        raise InputError(
            f"the header promises {needed:,} bytes of values; the file can hold {max(available, 0):,} at most.",
            "The file is incomplete or its header is wrong: copy it again from its source.",
        )
    if needed > LARGEST_BYTES:
        raise ResourceError(
            f"the image would take {needed / 2**30:,.0f} GB of memory.", "Crop or resample it in 3D Slicer."
        )


def inflated(stream: BinaryIO, size: int, kind: str = "gzip") -> bytearray:
    """``size`` bytes out of a compressed stream ("gzip", "zlib" or "bzip2"), and never more than a block beyond.

    Raises:
        InputError: the stream holds less, more, or is damaged.
    """
    raw = bytearray()
    try:
        for block in _bzip2_blocks(stream) if kind == "bzip2" else _zlib_blocks(stream):
            raw += block
            if len(raw) > size:
                break
    except (zlib.error, OSError, ValueError, EOFError) as error:
        raise InputError(f"its compressed values are damaged: {error}.", "Copy it again from its source.") from error
    check_count(len(raw), size)
    return raw


def _zlib_blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Decompressed blocks of gzip or zlib members that follow each other."""
    pending = stream.read(_BLOCK)
    while pending.strip(b"\0"):
        machine = zlib.decompressobj(zlib.MAX_WBITS | 32)
        while not machine.eof:
            if not pending and not (pending := stream.read(_BLOCK)):
                return
            yield machine.decompress(pending, _BLOCK)
            pending = machine.unconsumed_tail
        pending = machine.unused_data or stream.read(_BLOCK)


def _bzip2_blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Decompressed blocks of bzip2 members that follow each other."""
    pending = stream.read(_BLOCK)
    while pending.strip(b"\0"):
        machine = bz2.BZ2Decompressor()
        while not machine.eof:
            if machine.needs_input and not pending and not (pending := stream.read(_BLOCK)):
                return
            yield machine.decompress(pending, _BLOCK)
            pending = b""
        pending = machine.unused_data or stream.read(_BLOCK)


def check_count(found: int, size: int) -> None:
    """Refuse values that are fewer or more than the header says. Raises InputError."""
    if found < size:
        raise InputError(
            f"the file ends early: it holds {found} of {size} bytes of values.", "Copy it again from its source."
        )
    if found > size:
        raise InputError(
            f"the file holds more values than its header says ({size} bytes).",
            "Its header is wrong or it is damaged: export it again.",
        )
