"""Heat maps leave the scan visible where there is nothing to see, and are drawn where there is."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from host.slice_picture import SliceView
from SlicerXAILib.ColorTables import NUMBER_OF_COLORS, colorTable
from SlicerXAILib.Display import setMapDisplay, setThreshold, showOver

SIZE = 20


def opacities(table) -> np.ndarray:
    return np.array([table.GetLookupTable().GetTableValue(index)[3] for index in range(NUMBER_OF_COLORS)])


def aMap(values: np.ndarray):
    return slicer.util.addVolumeFromArray(values.astype(np.float32), name="map")


def picture(background, foreground) -> np.ndarray:
    view = SliceView("Red", "Axial", (100, 100))
    view.show(background, foreground, opacity=1.0)
    view.jump_to((SIZE / 2, SIZE / 2, SIZE / 2))
    return view.pixels()[..., :3].astype(int)


@pytest.fixture
def a_gray_scan(scene):
    node = slicer.util.addVolumeFromArray(np.full((SIZE, SIZE, SIZE), 100, np.int16), name="CT")
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(0, 200)
    return node


def test_heat_is_transparent_at_its_low_end_alone(scene):
    alpha = opacities(colorTable("heat"))
    assert alpha[0] == 0.0
    assert alpha[-1] == 1.0
    assert (np.diff(alpha) >= 0).all()


def test_diverging_is_transparent_in_the_middle_and_symmetric(scene):
    alpha = opacities(colorTable("diverging"))
    assert alpha[[127, 128]].max() == 0.0
    assert alpha[[0, -1]].min() == 1.0
    np.testing.assert_allclose(alpha, alpha[::-1], atol=1 / 128)


def test_color_tables_exist_once_and_survive_closing_the_scene(application, scene):
    first = colorTable("heat")
    assert colorTable("heat") is first
    application.clear_scene()
    assert opacities(colorTable("heat"))[-1] == 1.0
    assert slicer.mrmlScene.GetNodesByName("XAI Heat").GetNumberOfItems() == 1


def test_lightness_of_heat_rises_with_the_evidence(scene):
    table = colorTable("heat").GetLookupTable()
    colors = np.array([table.GetTableValue(index)[:3] for index in range(NUMBER_OF_COLORS)])
    luminance = colors @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -0.01).all()
    assert luminance[-1] - luminance[0] > 0.8


def test_a_heat_map_hides_nothing_of_the_scan_where_it_is_zero(a_gray_scan):
    values = np.zeros((SIZE, SIZE, SIZE))
    values[:, :, : SIZE // 2] = 2.0
    node = aMap(values)
    setMapDisplay(node, {"colors": "heat", "window": [0, 2]})
    pixels = picture(a_gray_scan, node)
    gray = picture(a_gray_scan, None)
    # The view shows R on its left: the half with the small i, of small R, is on the right.
    np.testing.assert_array_equal(pixels[50, :45], gray[50, :45])
    assert np.abs(pixels[50, 60:75] - gray[50, 60:75]).max() > 50


def test_below_its_threshold_a_heat_map_is_not_drawn(a_gray_scan):
    node = aMap(np.full((SIZE, SIZE, SIZE), 1.0))
    setMapDisplay(node, {"colors": "heat", "window": [0, 1], "threshold": 0.5})
    assert np.abs(picture(a_gray_scan, node)[50, 50] - 127).max() > 50
    setThreshold(node, 1.5)
    np.testing.assert_array_equal(picture(a_gray_scan, node), picture(a_gray_scan, None))


def test_a_signed_map_shows_both_signs_in_different_colors_and_nothing_at_zero(a_gray_scan):
    values = np.zeros((SIZE, SIZE, SIZE))
    values[:, :, :6] = -1.0
    values[:, :, 14:] = 3.0
    node = aMap(values)
    setMapDisplay(node, {"colors": "diverging"})
    display = node.GetDisplayNode()
    assert display.GetWindowLevelMin() == -display.GetWindowLevelMax() == -3.0
    setMapDisplay(node, {"colors": "diverging", "window": [-1, 1]})
    pixels = picture(a_gray_scan, node)
    left, middle, right = pixels[50, 20], pixels[50, 50], pixels[50, 80]
    assert left[0] > left[2] + 50  # for: red, at large R, on the left
    assert right[2] > right[0] + 50  # against: blue
    np.testing.assert_array_equal(middle, picture(a_gray_scan, None)[50, 50])


@pytest.mark.parametrize(
    ("values", "hints", "expected"),
    [
        ([0.0, 4.0], {"colors": "heat"}, (0.0, 4.0)),
        ([0.0, 0.0], {"colors": "heat"}, (0.0, 1.0)),
        ([-2.0, 1.0], {"colors": "diverging"}, (-2.0, 2.0)),
        ([0.0, 4.0], {"colors": "heat", "window": 2.5}, (0.0, 2.5)),
        ([0.0, 4.0], {"colors": "diverging", "window": [-1, 3]}, (-3.0, 3.0)),
        ([-5.0, 4.0], {"window": [-5, 4]}, (-5.0, 4.0)),
    ],
)
def test_the_window_follows_the_hints_or_else_the_values(scene, values, hints, expected):
    node = aMap(np.resize(values, (4, 4, 4)))
    setMapDisplay(node, hints)
    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx(expected, rel=1e-3)


def test_show_over_sets_the_layers_of_the_slice_views(a_gray_scan):
    node = aMap(np.ones((SIZE, SIZE, SIZE)))
    SliceView("Red", "Axial", (50, 50))
    showOver(node, a_gray_scan, 0.7)
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert composite.GetBackgroundVolumeID() == a_gray_scan.GetID()
    assert composite.GetForegroundVolumeID() == node.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.7)
