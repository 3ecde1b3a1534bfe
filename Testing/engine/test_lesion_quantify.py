"""Lesions as connected parts, their numbers, and the burden of lungs and lobes."""

from __future__ import annotations

import numpy as np
import pytest
from support.scans import GRIDS
from xaiengine.core.errors import InputError, OptionError
from xaiengine.io.grid import Grid
from xaiengine.lesions.components import Refinement, find_lesions, label_mask, smoothed_density
from xaiengine.lesions.lungs.lungs import Lungs
from xaiengine.lesions.quantify import BOTH_LUNGS, LEFT_LUNG, RIGHT_LUNG, max_diameter, quantify_lesions

FINE = Grid.from_directions((40, 36, 44), (1.0, 1.0, 1.0), None, (-20.0, -18.0, -22.0))


def ball(grid: Grid, center, radius) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(size) for size in grid.shape], indexing="ij"), axis=-1)
    return np.linalg.norm(grid.index_to_ras(index) - np.asarray(center), axis=-1) <= radius


def halves(grid: Grid) -> Lungs:
    """Everything at positive R is right lung, the rest left lung."""
    index = np.stack(np.meshgrid(*[np.arange(size) for size in grid.shape], indexing="ij"), axis=-1)
    right = grid.index_to_ras(index)[..., 0] > 0
    return Lungs(~right, right, grid)


def flooded(mask: np.ndarray) -> list[int]:
    """Sizes of the parts connected over faces, edges and corners, by plain flooding."""
    left = {tuple(voxel) for voxel in np.argwhere(mask)}
    steps = [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]
    sizes = []
    while left:
        front, size = [left.pop()], 1
        while front:
            i, j, k = front.pop()
            for a, b, c in steps:
                neighbor = (i + a, j + b, k + c)
                if neighbor in left:
                    left.remove(neighbor)
                    front.append(neighbor)
                    size += 1
        sizes.append(size)
    return sorted(sizes, reverse=True)


def test_parts_equal_plain_flooding_and_are_sorted_by_size():
    rng = np.random.default_rng(3)
    grid = Grid.from_directions((18, 16, 14))
    bits = rng.random(grid.shape)
    labels = find_lesions(bits, np.ones(grid.shape, bool), grid, 0.93, minimal_volume_ml=0.0)
    assert np.bincount(labels.ravel())[1:].tolist() == flooded(bits > 0.93)


def test_parts_below_the_least_volume_are_left_out():
    bits = 1.0 * ball(FINE, (-8, 0, 0), 6) + ball(FINE, (10, 0, 0), 3)
    lungs = np.ones(FINE.shape, bool)
    assert find_lesions(bits, lungs, FINE, 0.5, minimal_volume_ml=0.05).max() == 2
    assert find_lesions(bits, lungs, FINE, 0.5, minimal_volume_ml=0.5).max() == 1
    exact = ball(FINE, (10, 0, 0), 3).sum() * 0.001
    assert label_mask(ball(FINE, (10, 0, 0), 3), FINE, exact).max() == 1
    assert label_mask(ball(FINE, (10, 0, 0), 3), FINE, exact + 0.001).max() == 0


def test_what_lies_outside_the_lungs_or_at_the_threshold_is_no_lesion():
    bits = np.full(FINE.shape, 0.5)
    lungs = ball(FINE, (0, 0, 0), 8)
    assert not find_lesions(bits, lungs, FINE, 0.5).any()
    assert np.array_equal(find_lesions(bits, lungs, FINE, 0.49) > 0, lungs)
    assert not find_lesions(bits, np.zeros(FINE.shape, bool), FINE, 0.1).any()


def test_a_map_that_is_not_finite_in_the_lungs_is_refused_and_outside_ignored():
    lungs = ball(FINE, (0, 0, 0), 8)
    bits = lungs * 1.0
    bits[0, 0, 0] = np.nan
    assert find_lesions(bits, lungs, FINE, 0.5).max() == 1
    bits[20, 18, 22] = np.nan
    with pytest.raises(InputError, match="not finite"):
        find_lesions(bits, lungs, FINE, 0.5)
    with pytest.raises(InputError, match="shape"):
        find_lesions(bits[1:], lungs, FINE, 0.5)


def test_density_floor_fits_a_coarse_map_to_the_lesion():
    lesion = ball(FINE, (0, 0, 0), 9)
    hu = np.where(lesion, 30.0, -850.0)
    bits = ball(FINE, (3, 0, 0), 9) * 1.0
    lungs = np.ones(FINE.shape, bool)
    options = Refinement(hu_floor=-500, growth_mm=4, smoothing_mm=0)
    found = find_lesions(bits, lungs, FINE, 0.5, hu=hu, refinement=options) > 0
    assert np.array_equal(found, lesion)
    trimmed = find_lesions(bits, lungs, FINE, 0.5, hu=hu, refinement=Refinement(hu_floor=-500, smoothing_mm=0)) > 0
    assert np.array_equal(trimmed, lesion & (bits > 0.5))


def test_the_chest_wall_does_not_cling_to_a_lesion_beside_it():
    lesion = ball(FINE, (8, 0, 0), 6)
    lungs = np.zeros(FINE.shape, bool)
    lungs[:30] = lungs[:, :6] = True  # the rest is wall, of the lesion's density
    hu = np.where(lesion | ~lungs, 30.0, -850.0)
    bits = ball(FINE, (8, 0, 0), 10) * 1.0
    found = find_lesions(bits, lungs, FINE, 0.5, hu=hu, refinement=Refinement(hu_floor=-600, smoothing_mm=1.0)) > 0
    far = found & ~ball(FINE, (8, 0, 0), 8)
    assert not far.any() and found[lesion & lungs].mean() > 0.9


def test_density_is_the_gaussian_mean_of_the_lung_s_voxels():
    random = np.random.default_rng(0)
    lungs, hu = random.random(FINE.shape) > 0.4, random.normal(-500, 300, FINE.shape)
    spacing, place = (1.0, 0.8, 2.0), np.array([20, 18, 22])
    index = np.stack(np.meshgrid(*[np.arange(size) for size in FINE.shape], indexing="ij"), axis=-1)
    squares = (((index - place) * spacing) ** 2).sum(-1)
    weight = np.exp(-squares / (2 * 1.2**2)) * lungs
    smoothed = smoothed_density(hu, lungs, 1.2, spacing)
    assert smoothed[tuple(place)] == pytest.approx((weight * hu).sum() / weight.sum(), abs=1.0)


def test_growth_is_limited_in_mm_and_stays_connected():
    hu = np.full(FINE.shape, -850.0)
    hu[:, 18, 22] = 30.0  # a vessel along R
    hu[15, 26, 22] = 30.0  # dense, near, and not connected
    bits = np.zeros(FINE.shape)
    bits[15, 18, 22] = 1.0
    options = Refinement(hu_floor=-500, growth_mm=5, smoothing_mm=0)
    found = find_lesions(bits, np.ones(FINE.shape, bool), FINE, 0.5, hu=hu, refinement=options, minimal_volume_ml=0)
    assert sorted(np.argwhere(found)[:, 0]) == list(range(10, 21))
    assert not found[15, 26, 22]


def test_closing_fills_an_airway_inside_a_lesion():
    lesion = ball(FINE, (0, 0, 0), 9)
    bits = lesion * 1.0
    bits[19:21, 17:19, :] = 0.0
    found = find_lesions(bits, np.ones(FINE.shape, bool), FINE, 0.5, refinement=Refinement(closing_mm=2)) > 0
    assert found[20, 18, 22]
    assert np.count_nonzero(found ^ lesion) < 0.02 * np.count_nonzero(lesion)


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(OptionError, match="floor"):
        Refinement(growth_mm=3)
    with pytest.raises(OptionError, match="closing_mm"):
        Refinement(closing_mm=-1)
    with pytest.raises(InputError, match="without the scan"):
        find_lesions(np.ones(FINE.shape), np.ones(FINE.shape, bool), FINE, 0, refinement=Refinement(hu_floor=-500))


@pytest.mark.parametrize("name", GRIDS)
def test_a_ball_is_measured_alike_on_every_grid(name):
    grid = GRIDS[name]
    center, radius = (-21.0, 4.0, 6.0), 12.0
    mask = ball(grid, center, radius)
    hu = np.where(mask, 25.0, -800.0)
    found = quantify_lesions(label_mask(mask, grid), mask * 0.5, grid, halves(grid), hu=hu)
    (lesion,) = found.lesions
    step = max(grid.spacing)
    assert lesion.volume_ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.06)
    assert lesion.centroid_ras == pytest.approx(center, abs=0.35 * step)
    assert lesion.max_diameter_mm == pytest.approx(2 * radius, abs=step)
    assert lesion.lung == LEFT_LUNG
    assert lesion.mean_hu == pytest.approx(25.0)
    for low, high, middle in zip(lesion.box_low_ras, lesion.box_high_ras, center):
        assert (low, high) == pytest.approx((middle - radius, middle + radius), abs=step)


def test_bits_density_and_box_of_one_lesion_by_hand():
    grid = Grid.from_directions((6, 6, 6), (2.0, 1.0, 5.0), None, (10.0, 20.0, 30.0))
    labels = np.zeros(grid.shape, int)
    labels[2, 3, 4] = labels[3, 3, 4] = 1
    bits, hu = np.zeros(grid.shape), np.zeros(grid.shape)
    bits[2, 3, 4], bits[3, 3, 4] = 0.25, 0.75
    hu[2, 3, 4], hu[3, 3, 4] = -100, 50
    everything = np.ones(grid.shape, bool)
    found = quantify_lesions(labels, bits, grid, Lungs(everything, ~everything, grid), hu=hu)
    (lesion,) = found.lesions
    assert (lesion.mean_bits, lesion.max_bits, lesion.total_bits) == (0.5, 0.75, 1.0)
    assert lesion.volume_ml == pytest.approx(0.02)
    assert lesion.mean_hu == -25
    assert lesion.centroid_ras == pytest.approx((15, 23, 50))
    assert lesion.box_low_ras == pytest.approx((13, 22.5, 47.5))
    assert lesion.box_mm == pytest.approx((4, 1, 5))
    assert found.total.percent == pytest.approx(100 * 2 / 216)


def test_burden_of_lungs_and_lobes_adds_up():
    grid = FINE
    lungs = halves(grid)
    labels = label_mask(ball(grid, (-9, 0, 0), 6) | ball(grid, (9, 4, 0), 4), grid)
    index = np.indices(grid.shape)[2]
    lobes = {"left upper lobe": lungs.left & (index >= 22), "left lower lobe": lungs.left & (index < 22)}
    found = quantify_lesions(labels, labels * 0.1, grid, lungs, lobes=lobes)
    total, left, right = (found.burden(name) for name in (BOTH_LUNGS, LEFT_LUNG, RIGHT_LUNG))
    assert total.lesion_ml == pytest.approx(left.lesion_ml + right.lesion_ml)
    assert total.total_bits == pytest.approx(left.total_bits + right.total_bits)
    assert left.percent == pytest.approx(100 * (labels == 1).sum() / lungs.left.sum())
    assert (total.lesion_count, left.lesion_count, right.lesion_count) == (2, 1, 1)
    assert left.lesion_ml == pytest.approx(sum(found.burden(name).lesion_ml for name in lobes))
    assert found.lesions[0].lobe in lobes and found.lesions[1].lobe == ""
    assert found.severity.label == "CT-1"


def test_rows_name_their_units_and_keep_one_set_of_columns():
    labels = label_mask(ball(FINE, (-9, 0, 0), 6) | ball(FINE, (9, 4, 0), 4), FINE)
    found = quantify_lesions(labels, labels * 0.1, FINE, halves(FINE))
    rows = found.lesion_rows()
    assert [list(row) for row in rows] == [list(rows[0])] * 2
    assert {"volume (mL)", "max diameter (mm)", "total (bits)", "centroid R (mm)"} <= set(rows[0])
    assert {"burden (%)", "lesion volume (mL)"} <= set(found.burden_rows()[0])
    assert found.summary()["severity"] == found.severity.label


def test_no_lesions_and_an_absent_lung_give_zeros():
    nothing = np.zeros(FINE.shape, bool)
    found = quantify_lesions(nothing.astype(int), np.zeros(FINE.shape), FINE, Lungs(nothing, ~nothing, FINE))
    assert found.lesions == ()
    assert found.total.percent == 0 and found.burden(LEFT_LUNG).percent == 0
    assert found.severity.label == "CT-0"


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1), (4, 3, 1), (3, 4, 5)])
def test_largest_diameter_equals_the_largest_of_all_distances(shape):
    grid = Grid.from_directions((8, 8, 8), (1.5, 2.0, 3.0))
    mask = np.zeros(grid.shape, bool)
    mask[tuple(slice(1, 1 + size) for size in shape)] = True
    faces = [
        grid.index_to_ras(voxel + np.eye(3)[axis] * half)
        for voxel in np.argwhere(mask)
        for axis in range(3)
        for half in (-0.5, 0.5)
    ]
    longest = max(np.linalg.norm(a - b) for a in faces for b in faces)
    assert max_diameter(mask, grid) == pytest.approx(longest)
