"""Boxes around findings, read from a table and filled as masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ...core.errors import InputError
from ...io.grid import Grid
from .image_list import ImageEntry, read_rows

BoxUnit = Literal["pixels", "mm"]


@dataclass(frozen=True)
class Box:
    """A box of a concept: lower and upper ends along i, j and, in volumes, k; 0 is the image's first border.

    In pixels, a box from 10 to 20 holds the pixels 10 to 19. In mm, distances run from the same border along the
    image's axes.
    """

    concept: str
    low: tuple[float, ...]
    high: tuple[float, ...]

    def mask(self, grid: Grid, unit: BoxUnit) -> np.ndarray:
        """The voxels (I, J, K) whose centers lie in the box."""
        inside = np.ones(grid.shape, dtype=bool)
        for axis, (low, high) in enumerate(zip(self.low, self.high)):
            centers = np.arange(grid.shape[axis]) + 0.5
            if unit == "mm":
                centers = centers * grid.spacing[axis]
            within = (centers >= low) & (centers < high)
            inside &= within.reshape([-1 if other == axis else 1 for other in range(3)])
        return inside


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Boxes by the image's name (with or without extension), from a CSV: image,concept,x0,y0,x1,y1[,z0,z1].

    Raises InputError for missing columns, values that are no numbers, and boxes without extent.
    """
    found: dict[str, list[Box]] = {}
    for number, row in enumerate(read_rows(path, ("image", "concept", "x0", "y0", "x1", "y1")), start=2):
        axes = "xyz" if row.get("z0") and row.get("z1") else "xy"
        try:
            low = tuple(float(row[f"{axis}0"]) for axis in axes)
            high = tuple(float(row[f"{axis}1"]) for axis in axes)
        except ValueError as error:
            raise InputError(
                f"{path.name}, line {number}: {error}.", "Give the ends of the box as numbers."
            ) from error
        if not all(end > start for start, end in zip(low, high)):
            raise InputError(
                f"{path.name}, line {number}: the box from {low} to {high} has no extent.",
                "x1 and y1 are the ends of the box, not its width and height.",
            )
        if not row["concept"]:
            raise InputError(f"{path.name}, line {number}: the box names no concept.", "Fill the column concept.")
        found.setdefault(row["image"].lower(), []).append(Box(row["concept"], low, high))
    return found


def boxes_of(entry: ImageEntry, boxes: dict[str, list[Box]]) -> Sequence[Box]:
    """The boxes of an image, by its name or its file's name."""
    for name in (entry.name, entry.path.name):
        if name.lower() in boxes:
            return boxes[name.lower()]
    return ()
