"""What a run will take, said before it starts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..console import duration
from ..grid import Grid
from .slice_maps import PLANE_AXIS

if TYPE_CHECKING:
    from ..models.explained_model import ExplainedModel

PASSES_PER_SLICE = 90.0
"""Forward-pass equivalents that one explained slice costs: about 22 steps of 2 copies, forward and back."""
BYTES_PER_VOXEL = 26
"""Scan, float32 copies while it is prepared, map, labels and masks that live at the same time."""
LUNGS_SECONDS_PER_VOXEL = 2.5e-7
ENGINE_BYTES = 700 << 20


@dataclass(frozen=True)
class Estimate:
    """Bytes and seconds: ``seconds_if_all`` when every slice is called a lesion, ``seconds_if_none`` when none is."""

    memory: int
    seconds_if_none: float
    seconds_if_all: float

    def sentence(self) -> str:
        return (
            f"This takes about {duration(self.seconds_if_none)} if no slice shows a lesion, up to "
            f"{duration(self.seconds_if_all)} if all do, and {self.memory / (1 << 30):.1f} GB of memory."
        )


def estimate(grid: Grid, model: ExplainedModel, device: torch.device) -> Estimate:
    """From one timed batch of the model's own input size."""
    side = _input_side(model)
    slices = grid.shape[grid.index_axis(PLANE_AXIS[model.inferer.plane])]
    seconds = _seconds_per_slice(model, side, device)
    fixed = 2.0 + grid.voxel_count * LUNGS_SECONDS_PER_VOXEL
    return Estimate(
        memory=ENGINE_BYTES + grid.voxel_count * BYTES_PER_VOXEL,
        seconds_if_none=fixed + slices * seconds,
        seconds_if_all=fixed + slices * seconds * (1 + PASSES_PER_SLICE),
    )


def _seconds_per_slice(model: ExplainedModel, side: int, device: torch.device) -> float:
    batch = torch.zeros(8, model.in_channels, side, side, device=device)
    model.predict(batch)
    start = time.perf_counter()
    model.predict(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / len(batch)


def _input_side(model: ExplainedModel) -> int:
    return max((int(size) for size in model.inferer.roi_size), default=192)
