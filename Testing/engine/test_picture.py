"""Pictures follow the radiologist's conventions, in mm, for scans stored in any orientation."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from matplotlib.text import Text
from support.scans import GRIDS, Ball, thorax
from xaiengine.core.errors import OptionError
from xaiengine.figures.gray_window import BRAIN, LUNG, SOFT_TISSUE, gray_window
from xaiengine.figures.planes import PLANES, cut_through, planes_of
from xaiengine.figures.three_planes import (
    MapLayer,
    Outline,
    PictureText,
    draw_three_planes,
    has_opposing,
    power_of_ten,
    three_planes,
)
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


def texts(figure) -> list[str]:
    return [item.get_text() for item in figure.findobj(Text) if item.get_text()]


def warm_places(figure, number: int) -> np.ndarray:
    """Where a panel of the drawn picture is warm (the map): (n, 2) in mm to the right and up from its lower left."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    axes = figure.axes[number]
    (left, bottom), (right, top) = axes.transData.transform([(0, 0), (axes.get_xlim()[1], axes.get_ylim()[1])])
    height = pixels.shape[0]
    panel = pixels[int(height - top) : int(height - bottom), int(left) : int(right)]
    warm = (panel[..., 0] - panel[..., 2] > 60) & (panel[..., 0] > 120)
    rows, columns = np.nonzero(warm)
    scale = axes.get_xlim()[1] / panel.shape[1]
    return np.stack([columns * scale, (panel.shape[0] - rows) * scale], 1)


@pytest.mark.parametrize("name", ["axial", "sagittal_stored", "oblique", "anisotropic"])
def test_a_planted_point_moves_in_the_drawing_as_the_patient_does(name):
    grid = GRIDS[name]
    scan = Volume(np.zeros(grid.shape, np.int16), grid, "scan", "HU")

    def drawn(ras) -> list[np.ndarray]:
        layer = MapLayer(blob(grid, ras, 7.0), unit="bits per voxel", threshold=0.3, upper=1.0)
        figure = three_planes(scan, [layer], center_ras=grid.center)
        return [warm_places(figure, number).mean(0) for number in planes]

    planes = range(3)
    still = drawn(grid.center)
    right, front, head = (
        [moved - rest for moved, rest in zip(drawn(grid.center + REACH_MM * axis), still)] for axis in np.eye(3)
    )
    off = 0.5 * max(grid.spacing) + 0.5
    assert right[AXIAL] == pytest.approx((-REACH_MM, 0), abs=off)
    assert right[CORONAL] == pytest.approx((-REACH_MM, 0), abs=off)
    assert front[AXIAL] == pytest.approx((0, REACH_MM), abs=off)
    assert front[SAGITTAL] == pytest.approx((-REACH_MM, 0), abs=off)
    assert head[CORONAL] == pytest.approx((0, REACH_MM), abs=off)
    assert head[SAGITTAL] == pytest.approx((0, REACH_MM), abs=off)


@pytest.mark.parametrize("name", ["anisotropic", "sagittal_stored", "oblique"])
def test_a_ball_is_drawn_as_wide_as_high(name):
    grid = GRIDS[name]
    layer = MapLayer(blob(grid, grid.center, 14.0), threshold=0.37, upper=1.0)
    figure = three_planes(Volume(np.zeros(grid.shape, np.int16), grid, "scan", "HU"), [layer], center_ras=grid.center)
    for number in range(3):
        wide, high = np.ptp(warm_places(figure, number), axis=0)
        assert wide == pytest.approx(high, abs=1.2 * max(grid.spacing))


def test_a_single_slice_is_drawn_in_its_own_plane_however_it_lies():
    # coronal, tilted by 20 degrees about the axis to the right
    turn = np.deg2rad(20)
    directions = np.array([[-1, 0, 0], [0, np.sin(turn), np.cos(turn)], [0, -np.cos(turn), np.sin(turn)]], float)
    grid = Grid.from_directions((40, 30, 1), (2.0, 1.0, 5.0), directions)
    assert [plane.name for plane in planes_of(grid)] == ["coronal"]
    cut = cut_through(grid, grid.center, planes_of(grid)[0])
    array = np.zeros(grid.shape)
    array[5, 25, 0] = 1  # far right of the patient, far down
    rows, columns = np.nonzero(cut.sample(array, grid, order=0))
    assert columns.mean() * cut.pixel == pytest.approx(5.5 * 2, abs=1)
    assert rows.mean() * cut.pixel == pytest.approx(25.5, abs=1)
    assert cut.extent == pytest.approx((0, 80, 0, 30))


def test_a_picture_says_sides_position_scale_unit_and_threshold():
    grid = GRIDS["axial"]
    ball = Ball()
    layer = MapLayer(ball.mask(grid).astype(float), "Bottleneck", "bits per voxel", threshold=0.25)
    said = texts(three_planes(thorax(grid, [ball]), [layer], [Outline(ball.mask(grid), "lesion 1")]))
    assert {"R", "L", "A", "P", "S", "I", "bits per voxel", "lesion 1"} <= set(said)
    assert any(text.startswith("axial, S ") and text.endswith(" mm") for text in said)
    assert any("threshold 0.25 bits per voxel" in text for text in said)
    assert any(text.endswith(" mm") and text.split()[0].isdigit() for text in said)
    assert "lung window, level -400, width 1500 HU" in said


def test_what_was_not_explained_is_hatched_and_said():
    grid = GRIDS["axial"]
    values = blob(grid, grid.center)
    asked = np.ones(grid.shape, bool)
    asked[:, :, :10] = False
    scan = thorax(grid)
    assert "not explained" not in texts(three_planes(scan, [MapLayer(values)]))
    assert "not explained" in texts(three_planes(scan, [MapLayer(values, explained=asked)]))
    assert "not explained" in texts(three_planes(scan, [MapLayer(np.where(asked, values, np.nan))]))


def test_only_maps_with_opposing_evidence_have_diverging_colors():
    grid = GRIDS["axial"]
    values = blob(grid, grid.center)
    assert not has_opposing(values) and not MapLayer(values).diverging
    assert MapLayer(values - 0.2).diverging
    said = " ".join(texts(three_planes(thorax(grid), [MapLayer(values, unit="bits per voxel")])))
    assert "opposes" not in said and "bits per voxel" in said
    said = " ".join(texts(three_planes(thorax(grid), [MapLayer(values - 0.2)])))
    assert said.index("opposes") < said.index("supports")


def test_numbers_of_a_color_bar_are_short_and_their_power_of_ten_is_named_once():
    grid = GRIDS["axial"]
    figure = three_planes(
        thorax(grid), [MapLayer(0.002 * blob(grid, grid.center), unit="log-odds per voxel", upper=0.002)]
    )
    figure.canvas.draw()
    said = texts(figure)
    assert "10\u207b\u00b3 log-odds per voxel" in said and not any("1e" in text for text in said)
    assert {"0", "1", "2"} <= set(said)
    assert [power_of_ten(end) for end in (0.02, 7.0, 9000.0, 12000.0, 0.0, 3e-7)] == [0, 0, 0, 4, 0, -7]


def test_every_map_is_drawn_on_as_many_sheets_as_it_takes(tmp_path):
    grid = GRIDS["axial"]
    layers = [MapLayer(blob(grid, grid.center), f"method {number}") for number in range(10)]
    written = draw_three_planes(tmp_path / "a.png", thorax(grid), layers)
    assert (
        [path.name for path in written]
        == ["a.png", "a-2.png"]
        == sorted((path.name for path in tmp_path.iterdir()), key=len)
    )
    said = texts(three_planes(thorax(grid), layers[8:]))
    assert [sum(f"method {number}\n" in text for text in said) for number in (8, 9)] == [1, 1]


@pytest.mark.parametrize("theme, bright", [("dark", False), ("print", True)])
def test_themes_and_formats(theme, bright, tmp_path):
    grid = GRIDS["axial"]
    layers = [MapLayer(blob(grid, grid.center), unit="bits")]
    (png,) = draw_three_planes(tmp_path / "a.png", thorax(grid), layers, theme=theme)
    assert (matplotlib.image.imread(png)[2, 2, :3].mean() > 0.5) == bright
    (svg,) = draw_three_planes(tmp_path / "a.svg", thorax(grid), layers, theme=theme)
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    again = draw_three_planes(tmp_path / "b.svg", thorax(grid), layers, theme=theme)[0]
    assert again.read_bytes() == svg.read_bytes()
    with pytest.raises(OptionError, match="theme"):
        three_planes(thorax(grid), layers, theme="pink")
    with pytest.raises(OptionError, match="a.bmp"):
        draw_three_planes(tmp_path / "a.bmp", thorax(grid), layers)


def test_a_generated_scan_says_so_in_every_plane():
    said = texts(three_planes(thorax(GRIDS["axial"]), [], text=PictureText(synthetic=True)))
    assert said.count("SYNTHETIC") >= 3


def test_a_png_claims_no_side_and_no_mm():
    grid = Grid.from_directions((60, 50, 1), (1, 1, 1), np.diag([-1.0, -1.0, 1.0]))
    picture = Volume(np.random.default_rng(0).random(grid.shape), grid, "xray", source=Path("xray.png"))
    said = texts(three_planes(picture, []))
    assert not {"R", "L", "A", "P"} & set(said)
    assert any(text.endswith(" px") for text in said) and not any(text.endswith(" mm") for text in said)


def test_the_window_fits_what_the_scan_holds():
    assert gray_window(thorax(GRIDS["axial"], noise=10)) == LUNG
    random = np.random.default_rng(0)
    head = random.choice([-1000, 35, 900], (40, 40, 40), p=[0.4, 0.52, 0.08]) + random.normal(0, 4, (40, 40, 40))
    grid = Grid.from_directions(head.shape, (2, 2, 2))
    assert gray_window(Volume(head, grid, unit="HU")) == BRAIN
    belly = random.choice([-1000, -100, 50, 700], (40, 40, 40), p=[0.3, 0.3, 0.38, 0.02])
    assert gray_window(Volume(belly + random.normal(0, 9, head.shape), grid, unit="HU")) == SOFT_TISSUE
    resonance = random.gamma(2, 200, head.shape)
    window = gray_window(Volume(resonance, grid))
    assert not window.text and window.high == pytest.approx(np.percentile(resonance, 99.5))
    assert gray_window(Volume(np.full(head.shape, 3.0), grid)).high > 3
    with pytest.raises(OptionError, match="liver"):
        gray_window(Volume(head, grid), "liver")


def test_an_empty_map_gives_a_picture_too(tmp_path):
    grid = GRIDS["anisotropic"]
    zeros = np.zeros(grid.shape, np.float32)
    scan = Volume(zeros, grid, "scan")
    (path,) = draw_three_planes(
        tmp_path / "empty.png", scan, [MapLayer(zeros, threshold=0.1)], [Outline(zeros > 0, "x")]
    )
    assert matplotlib.image.imread(path).shape[1] > 800
