"""What a run will take, said before the work starts."""

from __future__ import annotations

from ..core.console import duration
from ..io.grid import Grid

PASSES_PER_SLICE = {"iba": 45.0, "inverse-iba": 30.0, "grad-cam": 3.0, "grad-cam++": 3.0}
"""Forward passes whose time one explained slice takes: some 20 steps of 2 copies through the tail, there and back."""
BYTES_PER_VOXEL = 42
"""Scan, its float32 copy while it is prepared or measured, map, labels and masks that live at the same time."""
ENGINE_BYTES = 800 << 20


def memory_needed(grid: Grid) -> int:
    """Bytes that quantifying a scan of this size takes at its peak."""
    return ENGINE_BYTES + grid.voxel_count * BYTES_PER_VOXEL


def seconds_needed(called: int, seconds_per_slice: float, method: str, repeats: int = 1) -> float:
    """Seconds for explaining ``called`` slices, from the measured time of one forward pass of one slice."""
    return called * seconds_per_slice * PASSES_PER_SLICE[method] * repeats


def in_words(seconds: float) -> str:
    return f"about {duration(max(1.0, seconds))}"
