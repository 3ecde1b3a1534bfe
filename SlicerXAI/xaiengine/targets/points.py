"""Points that a user marks: coordinates in a text, or the first control point of a markups file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from ..core.errors import InputError, OptionError
from ..io.grid import Grid

REMEDY = "Give R, A and S in mm, as in 12.5,-40,118, or a markups file (.mrk.json, .fcsv)."


def read_point(text: str) -> np.ndarray:
    """The RAS position (3,) in mm of ``"R,A,S"`` or of the first point in a .mrk.json or .fcsv file.

    Raises:
        OptionError: the text is neither.
        InputError: the file holds no point.
    """
    path = Path(text)
    if path.suffix.lower() in (".json", ".fcsv"):
        try:
            content = path.read_text(encoding="utf-8")
            return _from_json(content) if path.suffix.lower() == ".json" else _from_fcsv(content)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise InputError(f"{path.name} holds no markup point: {error!r}.", REMEDY) from error
    parts = [part for part in re.split(r"[,;\s]+", text.strip("()[] ")) if part]
    try:
        point = np.array([float(part) for part in parts])
    except ValueError:
        point = np.zeros(0)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise OptionError(f"The point {text!r} is not a position.", REMEDY)
    return point


def _from_json(content: str) -> np.ndarray:
    markup = json.loads(content)["markups"][0]
    point = np.array(markup["controlPoints"][0]["position"], dtype=float)
    system = str(markup.get("coordinateSystem", "LPS"))
    return point * ([-1, -1, 1] if system in ("LPS", "1") else [1, 1, 1])


def _from_fcsv(content: str) -> np.ndarray:
    left_posterior = False
    for line in content.splitlines():
        if line.startswith("# CoordinateSystem"):
            left_posterior = line.split("=")[1].strip() in ("LPS", "1")
        elif line and not line.startswith("#"):
            point = np.array([float(part) for part in line.split(",")[1:4]])
            return point * ([-1, -1, 1] if left_posterior else [1, 1, 1])
    raise ValueError("no line with a point")


def voxel_of(point: np.ndarray, grid: Grid, name: str) -> tuple[int, int, int]:
    """The voxel that holds a RAS position. Raises InputError when it lies outside the volume."""
    if not bool(grid.contains(point)):
        far = np.round(grid.center).astype(int).tolist()
        raise InputError(
            f"The point {np.round(point, 1).tolist()} (RAS, mm) lies outside {name}, whose center is {far}.",
            "Choose a point inside the scan.",
        )
    index = np.clip(np.round(grid.ras_to_index(point)), 0, np.array(grid.shape) - 1)
    i, j, k = (int(number) for number in index)
    return i, j, k
