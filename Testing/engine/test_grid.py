"""Grids: voxel indices, patient coordinates and what cannot be a grid."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from support.scans import GRIDS, SHEARED
from xaiengine.core.errors import InputError
from xaiengine.io.grid import Grid

ALL_GRIDS = {**GRIDS, "sheared": SHEARED}


@pytest.fixture(params=ALL_GRIDS, ids=str)
def grid(request) -> Grid:
    return ALL_GRIDS[request.param]


def test_index_to_ras_is_the_affine_written_out(grid):
    i, j, k = 3.25, 7.0, -2.5
    expected = [sum(row[axis] * (i, j, k)[axis] for axis in range(3)) + row[3] for row in grid.affine[:3]]
    np.testing.assert_allclose(grid.index_to_ras((i, j, k)), expected, atol=1e-12)


def test_ras_to_index_undoes_index_to_ras(grid):
    indices = np.random.default_rng(0).uniform(-5, 60, (40, 3))
    np.testing.assert_allclose(grid.ras_to_index(grid.index_to_ras(indices)), indices, atol=1e-9)


def test_spacing_and_axes_agree_with_nibabel(grid):
    np.testing.assert_allclose(grid.spacing, nibabel.affines.voxel_sizes(grid.affine))
    orientation = nibabel.io_orientation(grid.affine)
    assert grid.anatomical_axes == tuple((int(axis), int(sign)) for axis, sign in orientation)


def test_directions_and_spacing_give_the_affine_back(grid):
    again = Grid.from_directions(grid.shape, grid.spacing, grid.directions, grid.origin)
    np.testing.assert_allclose(again.affine, grid.affine, atol=1e-12)


@pytest.mark.parametrize("name, axis", [("axial", 2), ("sagittal_stored", 1), ("anisotropic", 2)])
def test_the_axis_across_axial_slices(name, axis):
    assert GRIDS[name].index_axis(2) == axis


def test_voxel_volume_is_that_of_the_box_its_edges_span(grid):
    a, b, c = grid.affine[:3, :3].T
    assert grid.voxel_volume_ml == pytest.approx(abs(np.dot(a, np.cross(b, c))) / 1000)


def test_handedness():
    assert GRIDS["axial"].handedness == 1
    assert GRIDS["left_handed"].handedness == -1


def test_only_a_tilted_gantry_is_sheared():
    assert SHEARED.is_sheared
    assert not any(grid.is_sheared for grid in GRIDS.values())


def test_contains_voxels_to_their_borders(grid):
    last = np.array(grid.shape) - 1
    inside = grid.index_to_ras([[0, 0, 0], last, last + 0.49, [-0.49, -0.49, -0.49]])
    outside = grid.index_to_ras([[-0.51, 0, 0], [0, last[1] + 0.51, 0], [0, 0, last[2] + 0.51]])
    assert grid.contains(inside).all()
    assert not grid.contains(outside).any()


def test_overlap_is_the_share_of_the_extent():
    grid = Grid.from_directions((20, 10, 8), (1, 2, 3))
    assert grid.overlaps(grid) == 1
    assert grid.overlaps(grid.cropped((5, 0, 0), (20, 10, 8))) == pytest.approx(0.75, abs=0.02)
    assert grid.overlaps(grid.cropped((0, 5, 4), (40, 10, 8))) == pytest.approx(0.25, abs=0.02)
    assert grid.overlaps(grid.cropped((20, 0, 0), (20, 10, 8))) == 0


def test_overlap_of_a_large_grid_with_a_tiny_one_is_not_lost():
    large, tiny = Grid.from_directions((500, 500, 500)), Grid.from_directions((2, 2, 2), origin=(7, 8, 9))
    assert large.overlaps(tiny) == pytest.approx(8 / 500**3)
    assert tiny.overlaps(large) == 1


def test_same_as_tolerates_rounding_and_nothing_more(grid):
    moved = grid.affine.copy()
    moved[0, 3] += 1e-4
    assert grid.same_as(Grid(grid.shape, moved))
    moved[0, 3] += 1e-2
    assert not grid.same_as(Grid(grid.shape, moved))
    assert not grid.same_as(grid.cropped((0, 0, 0), (5, 5, 5)))


def test_same_as_sees_a_spacing_that_drifts_away_over_many_voxels():
    grid = Grid.from_directions((1000, 10, 10))
    drifting = grid.affine.copy()
    drifting[0, 0] = 1.0001
    assert not grid.same_as(Grid(grid.shape, drifting))


def test_equal_grids_are_equal_and_hash_alike(grid):
    again = Grid(grid.shape, grid.affine.copy())
    assert grid == again
    assert hash(grid) == hash(again)
    assert grid != grid.cropped((1, 0, 0), grid.shape)


def test_resized_keeps_the_extent_edge_to_edge(grid):
    coarse = grid.resized((7, 5, 4))
    for edge, fine_edge in (((-0.5,) * 3, (-0.5,) * 3), ((6.5, 4.5, 3.5), np.array(grid.shape) - 0.5)):
        np.testing.assert_allclose(coarse.index_to_ras(edge), grid.index_to_ras(fine_edge), atol=1e-9)


def test_cropped_keeps_voxels_in_place(grid):
    part = grid.cropped((2, -1, 3), (4, 4, 4))
    np.testing.assert_allclose(part.index_to_ras((1, 1, 1)), grid.index_to_ras((3, 0, 4)), atol=1e-12)


def test_the_affine_cannot_be_changed_afterwards(grid):
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 5


@pytest.mark.parametrize(
    "shape, affine, says",
    [
        ((4, 4), np.eye(4), "2 dimensions"),
        ((4, 4, 0), np.eye(4), "empty"),
        ((4, 4, 4), np.eye(3), "4x4"),
        ((4, 4, 4), np.diag([1, 1, 0, 1.0]), "above zero"),
        ((4, 4, 4), np.diag([1, 1, np.nan, 1.0]), "finite"),
        ((4, 4, 4), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        ((4, 4, 4), np.array([[1, 1, 0, 0], [0, 1e-3, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        ((4, 4, 4), np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1.0]]), "last row"),
    ],
)
def test_what_is_no_grid_is_refused_with_a_remedy(shape, affine, says):
    with pytest.raises(InputError, match=says) as caught:
        Grid(shape, affine)
    assert caught.value.remedy
