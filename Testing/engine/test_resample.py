"""Resampling between grids: against fields known in closed form, and against a slow, plain interpolation."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage
from support.scans import GRIDS, SHEARED, coordinates, smooth_field
from xaiengine.core.errors import OptionError
from xaiengine.io.grid import Grid
from xaiengine.io.resample import resample

ALL_GRIDS = {**GRIDS, "sheared": SHEARED}


def plain_resample(array, from_grid, to_grid, mode, outside):
    """The definition, voxel by voxel: position in RAS, index there, weights of the eight neighbors."""
    result = np.full(to_grid.shape, outside, dtype=np.float64)
    size = np.array(from_grid.shape)
    for index in np.ndindex(*to_grid.shape):
        position = from_grid.ras_to_index(to_grid.index_to_ras(index))
        position = np.where(np.abs(position - np.round(position)) < 1e-6, np.round(position), position)
        if (position < -0.5 - 1e-6).any() or (position > size - 0.5 + 1e-6).any():
            continue
        position = np.clip(position, 0, size - 1)
        if mode == "nearest":
            result[index] = array[tuple(np.minimum(np.floor(position + 0.5 + 1e-6).astype(int), size - 1))]
            continue
        lower = np.floor(position).astype(int)
        value = 0.0
        for corner in itertools.product((0, 1), repeat=3):
            weight = np.prod(np.where(corner, position - lower, 1 - (position - lower)))
            if weight:
                value += weight * array[tuple(np.minimum(lower + corner, size - 1))]
        result[index] = value
    return result


def small(name: str) -> Grid:
    """The same kind of grid with few voxels, for slow oracles."""
    return ALL_GRIDS[name].resized((9, 8, 7))


TARGETS = {
    "the same": lambda grid: grid,
    "a crop": lambda grid: grid.cropped((1, 2, 1), (5, 4, 6)),
    "padding": lambda grid: grid.cropped((-2, -1, -3), (13, 11, 12)),
    "nothing in common": lambda grid: grid.cropped((40, 0, 0), (4, 4, 4)),
    "a mirror image": lambda grid: Grid(
        grid.shape, grid.affine @ np.array([[-1, 0, 0, 8], [0, 1, 0, 0], [0, 0, -1, 6], [0, 0, 0, 1.0]])
    ),
    "other axes": lambda grid: Grid(
        (7, 9, 8), grid.affine @ np.array([[0, 1, 0, 0], [0, 0, -1, 7], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    ),
    "finer": lambda grid: grid.resized((15, 13, 11)),
    "coarser": lambda grid: grid.resized((5, 3, 4)),
    "half a voxel away": lambda grid: Grid(grid.shape, grid.affine @ _shift(0.5)),
    "a third of a voxel away": lambda grid: Grid(grid.shape, grid.affine @ _shift(1 / 3)),
    "axial": lambda grid: small("axial"),
    "oblique": lambda grid: small("oblique"),
}


def _shift(distance: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = distance
    return matrix


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["axial", "sagittal_stored", "oblique", "sheared"])
def test_equals_the_plain_definition(name, target, mode):
    grid = small(name)
    array = np.random.default_rng(1).normal(size=grid.shape).astype(np.float32)
    to_grid = TARGETS[target](grid)
    result = resample(array, grid, to_grid, mode, outside=-7.0)
    expected = plain_resample(array, grid, to_grid, mode, -7.0)
    np.testing.assert_allclose(result, expected, atol=2e-5)


@pytest.mark.parametrize("to_name", ALL_GRIDS)
@pytest.mark.parametrize("from_name", ALL_GRIDS)
def test_coordinates_stay_what_they_are(from_name, to_name):
    from_grid, to_grid = ALL_GRIDS[from_name], ALL_GRIDS[to_name]
    moved = resample(coordinates(from_grid), from_grid, to_grid)
    index = np.moveaxis(from_grid.ras_to_index(np.moveaxis(coordinates(to_grid), 0, -1)), -1, 0)
    between_centers = np.all((index >= 0) & (index <= np.array(from_grid.shape).reshape(3, 1, 1, 1) - 1), axis=0)
    assert between_centers.any()
    error = np.abs(moved - coordinates(to_grid))[:, between_centers]
    assert error.max() < 1e-9


def test_there_and_back_through_an_oblique_grid_keeps_a_smooth_field():
    grid = GRIDS["axial"]
    over = Grid((110, 110, 110), GRIDS["oblique"].resized((110, 110, 110)).affine)
    there = resample(smooth_field(grid), grid, over, outside="edge")
    back = resample(there, over, grid, outside=np.nan)
    inside = ndimage.binary_erosion(~np.isnan(back), iterations=3)
    assert inside.mean() > 0.2
    assert np.abs(back - smooth_field(grid))[inside].max() < 0.01


def test_edge_continues_the_outermost_voxels():
    grid = Grid.from_directions((4, 3, 2))
    array = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    result = resample(array, grid, grid.cropped((-2, -2, -2), (8, 7, 6)), outside="edge")
    np.testing.assert_array_equal(result, np.pad(array, 2, mode="edge"))
    tilted = Grid((8, 7, 6), GRIDS["oblique"].affine)
    assert resample(array, grid, tilted, outside="edge").min() >= 0


def test_labels_keep_their_type_and_values():
    from_grid, to_grid = GRIDS["axial"], GRIDS["oblique"]
    labels = np.random.default_rng(0).choice([0, 3, 40000], from_grid.shape).astype(np.uint16)
    result = resample(labels, from_grid, to_grid, "nearest")
    assert result.dtype == np.uint16
    assert set(np.unique(result)) == {0, 3, 40000}


@pytest.mark.parametrize("name", ["axial", "oblique"])
def test_booleans_stay_booleans(name):
    mask = coordinates(GRIDS["axial"])[0] > 0
    result = resample(mask, GRIDS["axial"], GRIDS[name].resized((20, 20, 20)), "nearest")
    assert result.dtype == bool
    assert 0.3 < result.mean() < 0.7


def test_integers_become_floats_when_interpolated_linearly():
    grid = Grid.from_directions((2, 2, 2))
    array = np.array([0, 1] * 4, dtype=np.int16).reshape(2, 2, 2)
    middle = resample(array, grid, Grid.from_directions((1, 1, 1), origin=(0.5, 0.5, 0.5)))
    assert middle.dtype == np.float32
    assert middle[0, 0, 0] == 0.5


def test_a_volume_of_one_slice_can_be_resampled():
    grid = Grid.from_directions((6, 5, 1), (1, 1, 5))
    array = np.arange(30, dtype=np.float32).reshape(6, 5, 1)
    finer = resample(array, grid, grid.resized((6, 5, 4)))
    np.testing.assert_allclose(finer, np.repeat(array, 4, axis=2))


def test_channels_are_resampled_one_by_one():
    from_grid, to_grid = GRIDS["axial"], GRIDS["oblique"]
    channels = np.stack([smooth_field(from_grid), -smooth_field(from_grid)])
    result = resample(channels, from_grid, to_grid)
    np.testing.assert_array_equal(result[0], resample(channels[0], from_grid, to_grid))
    np.testing.assert_array_equal(result[1], -result[0])


def test_antialias_removes_what_the_coarse_grid_cannot_show():
    grid = Grid.from_directions((64, 8, 8))
    stripes = np.broadcast_to(np.cos(np.pi * np.arange(64))[:, None, None], grid.shape).astype(np.float32)
    coarse = grid.resized((13, 8, 8))
    assert np.abs(resample(stripes, grid, coarse)).max() > 0.5
    smoothed = resample(stripes, grid, coarse, antialias=True)[2:-2]
    assert np.abs(smoothed).max() < 0.05


def test_antialias_leaves_an_axis_that_gets_finer_alone():
    grid = Grid.from_directions((20, 20, 20))
    array = np.random.default_rng(0).normal(size=grid.shape)
    finer = grid.resized((40, 20, 20))
    np.testing.assert_array_equal(resample(array, grid, finer, antialias=True), resample(array, grid, finer))


@pytest.mark.parametrize("target", ["finer", "oblique"])
def test_extra_memory_is_bounded_by_slabs(target):
    grid = Grid.from_directions((160, 160, 160))
    array = np.zeros(grid.shape, dtype=np.int16)
    tilt = GRIDS["oblique"].directions
    to_grid = grid.resized((200, 200, 200)) if target == "finer" else Grid.from_directions((200,) * 3, directions=tilt)
    tracemalloc.start()
    try:
        result = resample(array, grid, to_grid)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    slabs = 100 * 1024 * 1024
    assert peak < result.nbytes + slabs


def test_an_unknown_mode_is_refused():
    grid = Grid.from_directions((2, 2, 2))
    with pytest.raises(OptionError, match="cubic"):
        resample(np.zeros((2, 2, 2)), grid, grid, "cubic")


def test_an_array_of_another_shape_is_refused():
    grid = Grid.from_directions((2, 2, 2))
    with pytest.raises(ValueError, match="shape"):
        resample(np.zeros((3, 2, 2)), grid, grid)
