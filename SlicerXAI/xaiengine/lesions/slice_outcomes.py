"""What became of each explained slice: it ended in a lesion, or why it did not; and where the map looked at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.number_text import percent
from ..io.grid import Grid
from ..io.resample import resample
from .slice_maps import SliceMaps

if TYPE_CHECKING:
    from .pipeline import LesionFindings

IN_A_LESION = "in a lesion"
FAINT, OUTSIDE, NOT_COUNTED, LEFT_OUT = (
    "the map stays below the threshold",
    "the map is above the threshold outside the lungs alone",
    "what was found there is not counted as a lesion",
    "what lies above the threshold is too small, too faint or not dense enough for a lesion",
)
MOST_PLACES = 6


def explained_voxels(maps: SliceMaps, grid: Grid) -> np.ndarray:
    """The voxels (I, J, K) bool of a grid whose nearest slice was explained: elsewhere 0 means "not asked"."""
    shape = [1, 1, 1]
    shape[maps.slice_axis] = len(maps.explained)
    asked = np.broadcast_to(maps.explained.astype(np.uint8).reshape(shape), maps.grid.shape)
    return resample(asked, maps.grid, grid, "nearest", outside=0) > 0


def slice_outcomes(found: LesionFindings) -> list[str]:
    """For each slice of the model's view what became of it; "" for those that were not explained."""
    maps, grid = found.maps, found.regions.lungs.grid
    above = found.bits > found.threshold.value
    inside = above & found.regions.lungs.combined
    doubtful = np.zeros_like(above) if found.doubtful is None else found.doubtful.labels > 0
    slices = {
        name: set(_slice_numbers(maps, grid, mask))
        for name, mask in (
            ("lesion", found.labels > 0),
            ("above", above),
            ("inside", inside),
            ("doubtful", doubtful),
        )
    }
    outcomes = []
    for number, explained in enumerate(maps.explained):
        if not explained:
            outcomes.append("")
        elif number in slices["lesion"]:
            outcomes.append(IN_A_LESION)
        elif number in slices["doubtful"]:
            outcomes.append(NOT_COUNTED)
        else:
            outcomes.append(
                LEFT_OUT if number in slices["inside"] else OUTSIDE if number in slices["above"] else FAINT
            )
    return outcomes


def _slice_numbers(maps: SliceMaps, grid: Grid, mask: np.ndarray) -> np.ndarray:
    """The slices of the model's view that the voxels of a mask reach into."""
    mapping = maps.grid.index_mapping(grid)[maps.slice_axis]
    place = np.argwhere(mask) @ mapping[:3] + mapping[3]
    half = max(0.5, float(np.abs(mapping[:3]).sum()) / 2)  # a voxel reaches this far, a slice half a slice
    count = len(maps.explained)
    first, last = np.ceil(place - half).astype(int), np.floor(place + half).astype(int)
    pairs = np.unique(np.stack([first, last], 1), axis=0) if len(place) else np.empty((0, 2), int)
    return np.unique([number for low, high in pairs for number in range(max(low, 0), min(high, count - 1) + 1)])


def outcome_sentence(found: LesionFindings, outcomes: list[str]) -> str:
    """One sentence on explained slices that did not end in a lesion, where they are and why; "" without any."""
    maps = found.maps
    lost = [number for number, text in enumerate(outcomes) if text and text != IN_A_LESION]
    if not lost:
        return ""
    center = (np.array(maps.grid.shape) - 1) / 2.0
    parts = []
    for reason in dict.fromkeys(outcomes[number] for number in lost):
        places = []
        for number in (number for number in lost if outcomes[number] == reason):
            center[maps.slice_axis] = number
            axis = int(np.abs(maps.grid.affine[:3, maps.slice_axis]).argmax())
            position = float(maps.grid.index_to_ras(center)[axis])
            places.append(f"{('RL', 'AP', 'SI')[axis][int(position < 0)]} {abs(position):.0f} mm")
        shown = ", ".join(places[:MOST_PLACES]) + (
            f" and {len(places) - MOST_PLACES} more" * (len(places) > MOST_PLACES)
        )
        parts.append(f"at {shown}, {reason}")
    asked = int(maps.explained.sum())
    return f"{len(lost)} of {asked} explained slices did not end in a lesion: {'; '.join(parts)}."


def information_share(found: LesionFindings) -> float | None:
    """The share (0..1) of the whole map's information that lies in the reported lesions; None for an empty map."""
    total = float(found.bits.sum(dtype=np.float64))
    return float(found.bits[found.labels > 0].sum(dtype=np.float64)) / total if total > 0 else None


def information_sentence(found: LesionFindings, unit: str = "information") -> str:
    """How much of the map the reported lesions hold, in words."""
    share = information_share(found)
    if share is None:
        return ""
    return f"{percent(share)} of the map's {unit} lies in the reported lesions, the rest elsewhere in the scan."
