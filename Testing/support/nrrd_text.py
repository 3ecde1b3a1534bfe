"""NRRD files written out by hand, for headers that no library writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_nrrd_text(path: Path, array: np.ndarray, *fields: str) -> None:
    """Write 16-bit integers, first axis fastest, with these fields in the header besides type and sizes."""
    header = [
        "NRRD0005",
        "type: int16",
        f"dimension: {array.ndim}",
        "encoding: raw",
        "endian: little",
        "sizes: " + " ".join(map(str, array.shape)),
        *fields,
        "",
        "",
    ]
    path.write_bytes("\n".join(header).encode("utf-8") + array.astype("<i2").tobytes(order="F"))
