"""Values of a layer's cells over all windows, on the voxels of the image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..inference.window_layers import LayerLattice
from ..io.grid import Grid
from ..io.resample import resample
from .cam import upsample


def continued(values: np.ndarray, grid: Grid, lattice: LayerLattice) -> tuple[np.ndarray, Grid]:
    """Cell values (cells...) with one more cell at each end, so that they reach the border of the windows.

    The outermost centers of coarse cells lie inside the border, by up to a cell.
    """
    more = [int(scale > 1) for scale in lattice.scale]
    padded = np.pad(values, [(width, width) for width in more], mode="edge")
    return padded, grid.cropped([-width for width in more], padded.shape)


def lattice_on_image(values: Tensor, lattice: LayerLattice, grid: Grid) -> Tensor:
    """Cell values (cells...) on the voxels of the image, linearly; 0 beyond the cells."""
    if lattice.scale == (1.0, 1.0, 1.0) and tuple(values.shape) == grid.shape:
        return values
    if tuple(lattice.shape) == lattice.window_cells and tuple(lattice.layout.window_size) == grid.shape:
        return upsample(values[None], grid.shape)[0]
    return lattice_in_place(values, lattice, grid)


def lattice_in_place(values: Tensor, lattice: LayerLattice, grid: Grid) -> Tensor:
    """The same by the place of each cell in the patient."""
    moved = resample(*continued(values.detach().float().cpu().numpy(), lattice.grid(grid), lattice), grid)
    return torch.from_numpy(np.ascontiguousarray(moved))
