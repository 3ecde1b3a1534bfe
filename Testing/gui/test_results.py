"""What is done with a result: sliders, table, comparison, curves, surfaces, series, report, repetition, saving."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from host.panel_driver import run_to_end
from host.qt_driver import choose, click, click_cell, drag, turn, wait_until
from PySide6 import QtWidgets
from SlicerXAILib import Display, Navigation
from SlicerXAILib.Compare import VIEW_NAMES, compareMaps, compositeNode


@pytest.fixture
def shown(panel, a_scan):
    """The panel with the example result on the screen."""
    run_to_end(panel)
    return panel


def composites():
    return [compositeNode(name) for name in ("Red", "Yellow", "Green")]


def map_node():
    return slicer.util.getNode("CT attribution")


def test_the_map_lies_over_its_scan_in_its_colors(shown, a_scan):
    for composite in composites():
        assert composite.GetForegroundVolumeID() == map_node().GetID()
        assert composite.GetBackgroundVolumeID() == a_scan.GetID()
    assert map_node().GetDisplayNode().GetColorNode().GetName() == "XAI Heat"
    assert shown.ui.mapSelector.currentNode() is map_node()


def test_the_opacity_slider_acts_while_it_is_pulled(shown):
    seen = []
    shown.ui.opacitySlider.connect("valueChanged(double)", lambda _: seen.append(Display.opacity(map_node())))
    drag(shown.ui.opacitySlider, 0.1)
    assert len(set(seen)) > 3
    for composite in composites():
        assert composite.GetForegroundOpacity() == pytest.approx(0.1, abs=0.02)


def test_the_threshold_slider_is_in_the_units_of_the_map(shown):
    slider = shown.ui.thresholdSlider
    assert slider.suffix == " bits/voxel"
    assert slider.value == pytest.approx(0.5), "the engine's own threshold"
    drag(slider, 0.75)
    display = map_node().GetDisplayNode()
    assert display.GetApplyThreshold()
    assert display.GetLowerThreshold() == pytest.approx(1.5, abs=0.01)


def test_the_threshold_of_a_signed_map_takes_away_both_signs(shown):
    choose(shown.ui.mapSelector, "CT contrast")
    signed = slicer.util.getNode("CT contrast")
    drag(shown.ui.thresholdSlider, 0.5)
    colors = signed.GetDisplayNode().GetColorNode()
    end = signed.GetDisplayNode().GetWindowLevelMax()
    values = np.linspace(-end, end, 256)
    alpha = np.array([colors.GetLookupTable().GetTableValue(index)[3] for index in range(256)])
    assert alpha[np.abs(values) < 0.49 * end].max() == 0
    assert alpha[np.abs(values) > 0.51 * end].min() > 0.7
    assert map_node().GetDisplayNode().GetColorNode() is not colors


def test_a_click_on_a_row_goes_to_that_place(shown, gui):
    table = slicer.util.getNode("CT lesion table")
    for axis, value in zip("RAS", (12.0, -34.0, 56.0)):
        column = vtk.vtkDoubleArray()
        column.SetName(f"centroid {axis} (mm)")
        for row in range(table.GetNumberOfRows()):
            column.InsertNextValue(value + row)
        table.AddColumn(column)
    views = gui.layout_manager.visible_views()
    for view in views.values():
        view.node.SetFieldOfView(200.0, 200.0, view.node.GetFieldOfView()[2])
    before = {name: seen_place(view.node, (0.0, 0.0, 0.0)) for name, view in views.items()}
    click_cell(shown.ui.resultTable, 1)
    for name, axis in (("Red", 2), ("Yellow", 0), ("Green", 1)):
        node = views[name].node
        assert node.GetSliceToRAS().GetElement(axis, 3) == pytest.approx((13.0, -33.0, 57.0)[axis])
        np.testing.assert_allclose(seen_place(node, (0.0, 0.0, 0.0)), before[name], err_msg="the scan stays in place")


def test_a_place_out_of_sight_moves_to_the_middle_of_the_view(shown, gui):
    view = gui.layout_manager.visible_views()["Red"]
    view.node.SetFieldOfView(50.0, 50.0, view.node.GetFieldOfView()[2])
    far = (500.0, -300.0, 20.0)
    Navigation.jumpTo(far)
    size = view.node.GetDimensions()
    np.testing.assert_allclose(seen_place(view.node, far), [size[0] / 2, size[1] / 2], atol=1.0)


def seen_place(sliceNode, ras) -> tuple[float, float]:
    """Where in a view a place is drawn, in pixels."""
    toView = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(sliceNode.GetXYToRAS(), toView)
    return toView.MultiplyPoint([*ras, 1.0])[:2]


def test_two_maps_are_compared_side_by_side_in_linked_views(shown, gui, a_scan):
    before = gui.layout_manager.layout
    choose(shown.ui.compareSelector, "CT contrast")
    assert gui.layout_manager.sliceViewNames() == list(VIEW_NAMES)
    shown_maps = [slicer.mrmlScene.GetNodeByID(compositeNode(name).GetForegroundVolumeID()) for name in VIEW_NAMES]
    assert [node.GetName() for node in shown_maps] == ["CT attribution", "CT contrast"]
    for name in VIEW_NAMES:
        assert compositeNode(name).GetLinkedControl()
        assert compositeNode(name).GetBackgroundVolumeID() == a_scan.GetID()
    drag(shown.ui.opacitySlider, 0.3)
    assert compositeNode(VIEW_NAMES[1]).GetForegroundOpacity() == pytest.approx(0.3, abs=0.02)
    choose(shown.ui.compareSelector, "(nothing)")
    assert gui.layout_manager.layout == before


def field_of_view(name: str) -> np.ndarray:
    return np.array(compositeNodeSlice(name).GetFieldOfView()[:2])


def compositeNodeSlice(name: str):
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    return next(node for node in nodes if node.GetLayoutName() == name)


def test_a_comparison_shows_the_whole_scan_in_views_of_their_final_size(shown, a_scan):
    choose(shown.ui.compareSelector, "CT contrast")
    turn()
    bounds = [0.0] * 6
    a_scan.GetRASBounds(bounds)
    extent = np.array([bounds[1] - bounds[0], bounds[3] - bounds[2]])
    for name in VIEW_NAMES:
        width, height = compositeNodeSlice(name).GetDimensions()[:2]
        seen = field_of_view(name)
        assert (seen >= extent * 0.999).all(), "nothing is cut off"
        assert (seen / extent).min() < 1.3, "and it fills the view"
        assert seen[0] / seen[1] == pytest.approx(width / height, rel=0.02)


def test_a_second_comparison_with_another_scan_is_fitted_too(shown, a_scan):
    choose(shown.ui.compareSelector, "CT contrast")
    turn()
    before = field_of_view(VIEW_NAMES[0])
    larger = slicer.util.addVolumeFromArray(np.zeros((20, 200, 200), np.int16), name="Larger")
    larger.SetSpacing(3.0, 3.0, 3.0)
    maps = [slicer.util.getNode("CT attribution"), slicer.util.getNode("CT contrast")]
    # As the application does, before the panel fits anything.
    slicer.util.setSliceViewerLayers(background=larger)
    compareMaps(*maps, larger, 0.5)
    turn()
    assert field_of_view(VIEW_NAMES[0]).min() >= 599 > before.min()


def test_a_curve_is_shown_in_a_plot_view(shown):
    click(shown.ui.chartButton)
    views = slicer.util.getNodesByClass("vtkMRMLPlotViewNode")
    assert [view.GetPlotChartNode().GetName() for view in views if view.GetPlotChartNode()] == ["CT volumes"]


def test_a_table_becomes_bars(shown):
    click(shown.ui.tableChartButton)
    chart = slicer.util.getNode("CT lesion table chart")
    assert chart.GetNthPlotSeriesNode(0).GetYColumnName() == "volume_ml"
    click(shown.ui.tableChartButton)
    assert len(slicer.util.getNodes("CT lesion table chart*", useLists=True)["CT lesion table chart"]) == 1


def test_segments_are_shown_in_3d_and_hidden_again(shown):
    lesions = slicer.util.getNode("CT lesions")
    click(shown.ui.show3DCheckBox)
    assert lesions.GetSegmentation().ContainsRepresentation("Closed surface")
    assert lesions.GetDisplayNode().GetVisibility3D()
    click(shown.ui.show3DCheckBox)
    assert not lesions.GetDisplayNode().GetVisibility3D()


def test_how_it_was_made_is_told(shown):
    click(shown.ui.provenanceButton.header)
    assert shown.ui.provenanceLabel.isVisible()
    for words in ("quantify-lesions", "Seed: 3"):
        assert words in shown.ui.provenanceLabel.text


def test_it_is_made_again_as_it_was(shown):
    choose(shown.page.editor("threshold_method").widget, "otsu")
    shown.ui.seedSpinBox.value = 11
    click(shown.ui.rerunButton)
    assert shown.page.options() == {}, "the page shows how the result was asked for"
    wait_until(lambda: not shown.run.isRunning)
    assert shown.ui.resultSelector.count == 2
    assert shown.ui.resultSelector.currentIndex == 1


def test_the_report_is_written_where_the_user_says(shown, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    monkeypatch.setattr(QtWidgets.QFileDialog, "getSaveFileName", lambda *_arguments: (str(path), ""))
    click(shown.ui.reportButton)
    assert str(path) in shown.ui.messageLabel.text
    assert "burden" in path.read_text(encoding="utf-8").lower()


def test_results_lie_beside_their_scan_in_the_subject_hierarchy(shown, a_scan):
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(map_node()))
    assert hierarchy.GetItemName(folder) == "CT Quantify lesions"
    assert hierarchy.GetItemParent(folder) == hierarchy.GetItemParent(hierarchy.GetItemByDataNode(a_scan))


def test_a_saved_scene_reopens_with_its_results(shown, tmp_path):
    drag(shown.ui.thresholdSlider, 0.75)
    file = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(file)
    slicer.mrmlScene.Clear(False)
    turn()
    assert not shown.ui.resultsButton.isVisible()
    slicer.util.loadScene(file)
    turn()
    assert shown.ui.resultsButton.isVisible()
    assert "8 mL" in shown.ui.valuesLabel.text
    assert shown.ui.mapSelector.currentNode() is map_node()
    assert shown.ui.thresholdSlider.value == pytest.approx(1.5, abs=0.01)
    assert shown.ui.tableSelector.currentText == "Lesion table"
    assert "Seed: 3" in shown.ui.provenanceLabel.text
    run_to_end(shown)
    assert shown.ui.resultSelector.count == 2
