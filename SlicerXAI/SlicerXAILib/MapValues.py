"""What must be known of a map's values to show it: found once, by the thread that has read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# The share of a map's values that may lie beyond its window when the engine gives none.
_WINDOW_QUANTILE = 0.999


@dataclass(frozen=True)
class MapSummary:
    """``window`` is the lowest and the highest value of the colors, ``highest`` the highest of the map.

    ``strongest`` is the voxel (i, j, k) of the largest size; None where the map is zero everywhere.
    """

    window: tuple[float, float]
    highest: float
    strongest: tuple[int, int, int] | None


def summarize(values: np.ndarray, hints: Mapping[str, Any]) -> MapSummary:
    """Return what is needed of a map (K, J, I), shown by the engine's hints."""
    return MapSummary(mapWindow(values, hints), float(values.max()), strongestVoxel(values))


def mapWindow(values: np.ndarray, hints: Mapping[str, Any]) -> tuple[float, float]:
    """Return the lowest and the highest value of a map's colors, from the hints or else from its values."""
    window = hints.get("window")
    signed = hints.get("colors") == "diverging"
    if window is None:
        extreme = float(np.quantile(np.abs(values), _WINDOW_QUANTILE)) or float(np.abs(values).max()) or 1.0
        low = -extreme if signed else (0.0 if values.min() >= 0 else float(values.min()))
        return low, extreme
    low, high = window if isinstance(window, (list, tuple)) else (0.0, window)
    extreme = max(abs(low), abs(high))
    return (-extreme, extreme) if signed else (float(low), float(high))


def strongestVoxel(values: np.ndarray) -> tuple[int, int, int] | None:
    """Return the voxel (i, j, k) of the largest size; None where there is none but zero, or for colors."""
    if values.ndim != 3:
        return None
    # Two passes without a copy, which for a large map would be a second map in memory.
    places = [int(values.argmax()), int(values.argmin())]
    k, j, i = max((np.unravel_index(place, values.shape) for place in places), key=lambda at: abs(float(values[at])))
    return (int(i), int(j), int(k)) if values[k, j, i] else None
