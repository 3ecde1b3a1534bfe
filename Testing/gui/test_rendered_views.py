"""Views as they are drawn: outlines of lesions and color bars in slices, surfaces in 3D, charts in plot views."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from host.panel_driver import run_to_end
from host.qt_driver import choose, click, drag

SIZE = (380, 320)


@pytest.fixture
def shown(gui, panel, a_scan):
    """The panel with the example result on the screen, the axial view alone and large."""
    from host.rendered_views import can_render

    if not can_render():
        pytest.skip("OpenGL does not work here without a screen.")
    gui.layout_manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    run_to_end(panel)
    return panel


def pixels_of(name: str) -> np.ndarray:
    from host.screenshot import view_pixels

    return view_pixels(name).astype(int)


def legend_part(pixels: np.ndarray) -> np.ndarray:
    return pixels[:, int(0.75 * pixels.shape[1]) :]


def colorful(pixels: np.ndarray) -> np.ndarray:
    return (pixels.max(-1) - pixels.min(-1)) > 60


def legend_of(name: str):
    return slicer.modules.colors.logic().GetColorLegendDisplayNode(slicer.util.getNode(name))


def test_the_color_bar_shows_the_colors_of_the_map(shown):
    with_bar = pixels_of("Red")
    legend_of("CT attribution").SetVisibility(False)
    without = pixels_of("Red")
    bar = legend_part(np.abs(with_bar - without).max(-1)) > 20
    assert bar.sum() > 200
    assert colorful(legend_part(with_bar))[bar].sum() > 100


def test_only_the_bar_of_the_map_on_the_screen_is_drawn(shown):
    choose(shown.ui.mapSelector, "CT contrast")
    contrast = pixels_of("Red")
    legend_of("CT attribution").SetVisibility(False)
    np.testing.assert_array_equal(pixels_of("Red"), contrast)


def test_a_series_has_no_bar_of_a_map_that_is_not_there(shown):
    drag(shown.ui.seriesSlider, 1.0)
    series = pixels_of("Red")
    legend_of("CT attribution").SetVisibility(False)
    np.testing.assert_array_equal(pixels_of("Red"), series)


def test_lesions_are_outlined(shown):
    with_lesion = pixels_of("Red")
    slicer.util.getNode("CT lesions").GetDisplayNode().SetVisibility(False)
    assert (np.abs(with_lesion - pixels_of("Red")).max(-1) > 40).sum() > 20


def test_the_scan_is_seen_through_the_fill_of_a_lesion(shown):
    lesions = slicer.util.getNode("CT lesions")
    slicer.util.setSliceViewerLayers(foreground=None)
    lesions.GetDisplayNode().SetOpacity2DOutline(0.0)
    with_fill = pixels_of("Red")
    lesions.GetDisplayNode().SetVisibility(False)
    scan = pixels_of("Red")
    filled = np.abs(with_fill - scan).max(-1) > 10
    opacity = lesions.GetDisplayNode().GetOpacity2DFill()
    color = 255 * np.array(lesions.GetSegmentation().GetNthSegment(0).GetColor())
    assert filled.sum() > 50 and opacity < 0.5
    np.testing.assert_allclose(with_fill[filled], (1 - opacity) * scan[filled] + opacity * color, atol=3)


def test_surfaces_are_seen_in_3d(shown):
    from host.rendered_views import surface_pixels

    view = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLViewNode")
    before = surface_pixels(view, SIZE).astype(int)
    click(shown.ui.show3DCheckBox)
    assert (np.abs(surface_pixels(view, SIZE) - before).max(-1) > 40).mean() > 0.05


def test_a_curve_is_drawn_with_its_titles(shown):
    from host.rendered_views import plot_pixels

    click(shown.ui.chartButton)
    (view,) = [node for node in slicer.util.getNodesByClass("vtkMRMLPlotViewNode") if node.GetPlotChartNode()]
    drawn = plot_pixels(view, SIZE).astype(int)
    color = np.array(view.GetPlotChartNode().GetNthPlotSeriesNode(0).GetColor()) * 255
    assert (np.abs(drawn - color).max(-1) < 12).sum() > 500, "the bars are in the color of their series"
    view.GetPlotChartNode().SetTitle("")
    assert np.abs(plot_pixels(view, SIZE) - drawn).max() > 100
