"""Images of one place as a sequence of volumes, in the way 3D Slicer stores them (.seq.nrrd)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ...io.formats.nrrd_format import write_nrrd
from ...io.grid import Grid


def write_sequence(path: Path, frames: np.ndarray, grid: Grid, names: Sequence[str]) -> Path:
    """Write volumes (n, I, J, K) of one grid; ``names`` are the index values that Slicer's browser shows.

    Raises:
        ResourceError: the file cannot be written.
    """
    if len(names) != len(frames):
        raise ValueError(f"{len(frames)} frames, but {len(names)} names")
    keys = {
        "axis 0 index type": "text",
        "axis 0 index values": " ".join(quote(name, safe="+-.,()") for name in names),
    }
    write_nrrd(path, frames, grid, keys, channel_kind="list")
    return path
