"""Pictures follow the radiologist's conventions: checked on pixels, for scans stored in any orientation."""

import matplotlib.image
import numpy as np
import pytest
from engine.scans import GRIDS
from xaiengine.picture import overlay_picture
from xaiengine.volume import Volume


def bright_at(grid, ras, radius=12.0):
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3)
    distance = np.linalg.norm(grid.index_to_ras(index) - ras, axis=1).reshape(grid.shape)
    return np.exp(-((distance / radius) ** 2)).astype(np.float32)


def centroids(path, grid, ras, tmp_path):
    """Centre (column, row) of the map's colors within each of the three planes, in 0..1 of the plane."""
    values = bright_at(grid, ras)
    scan = Volume(np.zeros(grid.shape, np.int16), grid, "scan")
    overlay_picture(path, scan, values, np.zeros(grid.shape, bool), center_ras=ras, threshold=0.05, upper=1.0)
    pixels = matplotlib.image.imread(path)[..., :3]
    height, width = pixels.shape[:2]
    found = []
    for place in range(3):
        left, right = int((0.01 + 0.305 * place) * width), int((0.305 + 0.305 * place) * width)
        panel = pixels[int(0.14 * height) : int(0.88 * height), left:right]
        hot = (panel[..., 0] - panel[..., 2]) * (panel[..., 0] > 0.45) * (panel[..., 1] < 0.75)
        rows, columns = np.nonzero(hot > 0.2)
        found.append((columns.mean() / panel.shape[1], rows.mean() / panel.shape[0]))
    return found


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_right_is_left_front_is_up_and_head_is_up(name, tmp_path):
    grid = GRIDS[name]
    center = grid.index_to_ras((np.array(grid.shape) - 1) / 2)
    corners = grid.corners()
    reach = 0.22 * (corners.max(0) - corners.min(0)).min()
    moved = {
        axis: centroids(tmp_path / f"{axis}.png", grid, center + reach * np.eye(3)[axis], tmp_path)
        for axis in range(3)
    }
    still = centroids(tmp_path / "c.png", grid, center, tmp_path)
    axial, coronal, sagittal = 0, 1, 2
    assert moved[0][axial][0] < still[axial][0] - 0.02, "the patient's right is on the left"
    assert moved[0][coronal][0] < still[coronal][0] - 0.02
    assert moved[1][axial][1] < still[axial][1] - 0.02, "the front is up"
    assert moved[1][sagittal][0] < still[sagittal][0] - 0.02, "the front is on the left"
    assert moved[2][coronal][1] < still[coronal][1] - 0.02, "the head is up"
    assert moved[2][sagittal][1] < still[sagittal][1] - 0.02


def test_an_empty_map_gives_a_picture_too(tmp_path):
    grid = next(iter(GRIDS.values()))
    zeros = np.zeros(grid.shape, np.float32)
    overlay_picture(tmp_path / "empty.png", Volume(zeros, grid, "scan"), zeros, zeros > 0, threshold=0.1)
    assert (tmp_path / "empty.png").stat().st_size > 5000
    assert [path.name for path in tmp_path.iterdir()] == ["empty.png"]
