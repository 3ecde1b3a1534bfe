"""Which structures and channels a segmentation relies on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..targets.segmentation_targets import SegmentationTarget
from .regions import NET_COLUMN, PART_COLUMN, region_table


def region_rows(
    values: np.ndarray,
    structures: Mapping[str, np.ndarray],
    voxel_ml: float,
    target: str,
    method: str,
    more: Callable[[str], Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """What each structure holds of one map (I, J, K), ranked by density; ``more`` gives further columns by name."""
    return [
        {"target": target, "method": method, **row.row(), **(more(row.segment) if more is not None else {})}
        for row in region_table(values, structures, voxel_ml)
    ]


def relation_matrix(
    maps: Mapping[str, np.ndarray], structures: Mapping[str, np.ndarray]
) -> tuple[list[str], list[dict[str, Any]]]:
    """How much of the absolute attribution of each class (rows) lies in each structure (columns), in percent.

    A last column has what lies in none. Structures may overlap; the columns then add up to more than 100.
    """
    columns = ["segmentation of", *structures, "elsewhere"]
    rows = []
    covered = np.zeros_like(next(iter(maps.values())), dtype=bool)
    for mask in structures.values():
        covered |= mask
    for label, values in maps.items():
        amount = np.abs(values)
        total = float(amount.sum()) or 1.0
        row: dict[str, Any] = {"segmentation of": label}
        row |= {name: 100 * float(amount[mask].sum()) / total for name, mask in structures.items()}
        row["elsewhere"] = 100 * float(amount[~covered].sum()) / total
        rows.append(row)
    return columns, rows


def channel_rows(
    values: np.ndarray, names: Sequence[str], target: SegmentationTarget, method: str
) -> list[dict[str, Any]]:
    """The importance of each input channel: its part of the absolute attribution (C, I, J, K), and its signed sum."""
    amount = np.abs(values).reshape(len(values), -1).sum(1)
    total = float(amount.sum()) or 1.0
    return [
        {
            "target": target.name,
            "method": method,
            "channel": names[number] if number < len(names) else f"channel {number}",
            PART_COLUMN: 100 * float(amount[number]) / total,
            NET_COLUMN: 100 * float(values[number].sum()) / total,
            "attribution": float(values[number].sum()),
        }
        for number in range(len(values))
    ]
