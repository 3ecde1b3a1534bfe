"""Patients with a planted lesion, as volumes and masks."""

import numpy as np
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.lesions.regions import Lungs

SHAPE = (60, 56, 20)
LESION_AT = np.array([-38.0, 10.0, 4.0])
RADIUS = 16.0


def grid_of(spacing=(3.0, 3.0, 5.0), shape=SHAPE):
    return Grid.from_directions(shape, spacing, np.eye(3), -(np.array(shape) - 1) / 2 * np.array(spacing))


def patient(grid=None, lesion=True):
    """A CT of two box-shaped lungs, with one bright ball in the left one, and masks of lungs and ball."""
    grid = grid or grid_of()
    ras = grid.index_to_ras(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3))
    ras = ras.reshape(*grid.shape, 3)
    box = (np.abs(ras[..., 1]) < 55) & (np.abs(ras[..., 2]) < 40)
    lungs = box & (np.abs(np.abs(ras[..., 0]) - 40) < 30)
    ball = np.linalg.norm(ras - LESION_AT, axis=-1) <= RADIUS
    hu = np.where(lungs, -850, 20).astype(np.int16)
    if lesion:
        hu[ball & lungs] = 400
    side = ras[..., 0] < 0
    return Volume(hu, grid, "patient", "HU"), Lungs(lungs & side, lungs & ~side, grid), ball & lungs
