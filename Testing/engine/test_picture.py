"""Pictures follow the radiologist's conventions, in mm, for scans stored in any orientation."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest
from support.scans import GRIDS
from xaiengine.figures.scan_picture import PLANES, cut_through, overlay_picture
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume

AXIAL, CORONAL, SAGITTAL = range(3)
REACH_MM = 12.0


def blob(grid: Grid, ras, width: float = 6.0) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    distance = np.linalg.norm(grid.index_to_ras(index) - ras, axis=-1)
    return np.exp(-((distance / width) ** 2)).astype(np.float32)


def seen_at(grid: Grid, center, ras) -> list[np.ndarray]:
    """Where a blob at ``ras`` appears in the three planes through ``center``: mm right and down in the picture."""
    places = []
    for plane in PLANES:
        cut = cut_through(grid, center, plane)
        weight = cut.sample(blob(grid, ras), grid) ** 2
        rows, columns = np.indices(weight.shape)
        places.append(np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum() * cut.pixel)
    return places


@pytest.mark.parametrize("name", GRIDS)
def test_right_is_left_front_is_up_and_head_is_up_by_the_true_distance(name):
    grid = GRIDS[name]
    center = grid.center
    still = seen_at(grid, center, center)
    right, front, head = (
        [moved - rest for moved, rest in zip(seen_at(grid, center, center + REACH_MM * axis), still)]
        for axis in np.eye(3)
    )
    off = 0.35 * max(grid.spacing)
    assert right[AXIAL] == pytest.approx((-REACH_MM, 0), abs=off)
    assert right[CORONAL] == pytest.approx((-REACH_MM, 0), abs=off)
    assert front[AXIAL] == pytest.approx((0, -REACH_MM), abs=off)
    assert front[SAGITTAL] == pytest.approx((-REACH_MM, 0), abs=off)
    assert head[CORONAL] == pytest.approx((0, -REACH_MM), abs=off)
    assert head[SAGITTAL] == pytest.approx((0, -REACH_MM), abs=off)


def test_letters_name_the_sides_that_the_patient_shows():
    assert [plane.letters for plane in PLANES] == [("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I")]


def test_a_plane_equals_the_slice_it_is():
    grid = Grid.from_directions((20, 24, 9), (1.0, 1.0, 4.0), np.diag([-1.0, -1.0, 1.0]))
    array = np.random.default_rng(0).random(grid.shape)
    cut = cut_through(grid, grid.index_to_ras((7, 7, 4)), PLANES[AXIAL])
    # voxels run to the patient's left and back: columns and rows of a picture as they are
    assert cut.sample(array, grid) == pytest.approx(array[:, :, 4].T, abs=1e-6)


def test_nothing_is_shown_beside_an_oblique_scan():
    grid = GRIDS["oblique"]
    shown = cut_through(grid, grid.center, PLANES[AXIAL]).sample(np.ones(grid.shape), grid, outside=-1.0)
    assert set(np.unique(shown)) == {-1.0, 1.0}
    assert shown[0, 0] == -1.0


def test_map_appears_on_the_left_of_the_written_axial_plane_when_it_is_on_the_right(tmp_path):
    grid = GRIDS["axial"]
    scan = Volume(np.zeros(grid.shape, np.int16), grid, "scan")
    values = blob(grid, grid.center + [25.0, 0.0, 0.0], 9.0)
    path = overlay_picture(
        tmp_path / "a.png", scan, values, values > 0.5, center_ras=grid.center, threshold=0.05, title="A", caption="B"
    )
    pixels = matplotlib.image.imread(path)[..., :3]
    panel = pixels[: pixels.shape[0] // 2, : int(0.3 * pixels.shape[1])]
    warm = (panel[..., 0] - panel[..., 2] > 0.2) & (panel[..., 0] > 0.5)
    columns = np.nonzero(warm)[1]
    assert columns.size > 50
    assert columns.mean() < 0.45 * panel.shape[1]
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_an_empty_map_gives_a_picture_too(tmp_path):
    grid = GRIDS["anisotropic"]
    zeros = np.zeros(grid.shape, np.float32)
    path = overlay_picture(tmp_path / "empty.png", Volume(zeros, grid, "scan"), zeros, zeros > 0, threshold=0.1)
    assert matplotlib.image.imread(path).shape[1] > 800
