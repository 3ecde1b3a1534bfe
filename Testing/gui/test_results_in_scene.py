"""Results follow the scene: what comes, goes or is scrubbed there is what the panel and the views show."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import slicer
from host.panel_driver import run_to_end
from host.qt_driver import choose, click, drag, turn, wait_until
from PySide6 import QtWidgets
from SlicerXAILib.Compare import VIEW_NAMES, compositeNode
from SlicerXAILib.ResultAttributes import PROVENANCE, ROLE
from SlicerXAILib.ResultRecord import recordOf

_PICTURE = base64.b64decode(  # one red pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)


@pytest.fixture
def shown(panel, a_scan):
    """The panel with the example result on the screen."""
    run_to_end(panel)
    return panel


def map_node():
    return slicer.util.getNode("CT attribution")


def red_pixels(gui) -> np.ndarray:
    return gui.layout_manager.visible_views()["Red"].pixels()


def show_lesion(gui) -> None:
    """Every view at the example's lesion, where the images of the series differ."""
    from SlicerXAILib.Navigation import jumpTo, strongestPoint

    jumpTo(strongestPoint(map_node()))
    gui.layout_manager.visible_views()


def remove_result(panel) -> None:
    """What *Delete* on a result's folder does in the Data module."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.RemoveItem(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(map_node())), True, True)
    turn()


def own_nodes() -> list[str]:
    """What is in the scene of results: all that is described, records, clipped colors."""
    nodes = slicer.util.getNodesByClass("vtkMRMLNode")
    return [
        node.GetName()
        for node in nodes
        if node.GetAttribute(ROLE)
        or "clipped" in (node.GetName() or "")
        or node.GetName() == "CT series"
        or "record" in (node.GetName() or "")
        or "chart" in (node.GetName() or "")
    ]


def test_the_series_slider_changes_what_is_on_the_screen(shown, gui):
    image = slicer.util.getNode("CT series image")
    show_lesion(gui)
    first = slicer.util.arrayFromVolume(image).max()
    drag(shown.ui.seriesSlider, 1.0)
    last_pixels = red_pixels(gui)
    assert slicer.util.arrayFromVolume(image).max() == pytest.approx(2 * first)
    assert shown.ui.seriesText.text.startswith("2 / 2")
    drag(shown.ui.seriesSlider, 0.0)
    first_pixels = red_pixels(gui)
    assert np.abs(first_pixels.astype(int) - last_pixels).max() > 20
    assert compositeNode("Red").GetBackgroundVolumeID() == image.GetID()
    assert not compositeNode("Red").GetForegroundVolumeID(), "the map belongs to another image"


def test_the_map_comes_back_with_its_own_sliders(shown, gui, a_scan):
    drag(shown.ui.seriesSlider, 1.0)
    drag(shown.ui.opacitySlider, 0.4)
    for name in ("Red", "Yellow", "Green"):
        assert compositeNode(name).GetForegroundVolumeID() == map_node().GetID()
        assert compositeNode(name).GetBackgroundVolumeID() == a_scan.GetID()
        assert compositeNode(name).GetForegroundOpacity() == pytest.approx(0.4, abs=0.02)


def test_the_image_of_a_series_stays_a_node_of_its_result(shown):
    image = slicer.util.getNode("CT series image")
    drag(shown.ui.seriesSlider, 1.0)
    assert image.GetName() == "CT series image"
    assert image.GetAttribute(ROLE) == "series"
    assert '"seed": 3' in image.GetAttribute(PROVENANCE)
    assert recordOf(image) is recordOf(map_node())
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folders = [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in (image, map_node())]
    assert folders[0] == folders[1]


def test_a_removed_result_is_no_longer_listed_and_leaves_nothing(shown, gui):
    click(shown.ui.tableChartButton)
    choose(shown.ui.mapSelector, "CT contrast")
    drag(shown.ui.thresholdSlider, 0.5)
    assert [name for name in own_nodes() if "clipped" in name]
    remove_result(shown)
    assert own_nodes() == []
    assert shown.ui.resultSelector.count == 0
    assert not shown.ui.resultsButton.isVisible()


def test_one_of_two_results_is_removed(shown):
    run_to_end(shown)
    assert shown.ui.resultSelector.count == 2
    remove_result(shown)
    assert shown.ui.resultSelector.count == 1
    assert shown.ui.resultSelector.currentText == "CT Quantify lesions 2"


def test_a_chart_that_was_removed_is_not_offered(shown):
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("CT volumes"))
    turn()
    assert not shown.ui.chartArea.isVisible()


def test_a_result_of_the_console_is_listed(shown, a_scan):
    loaded = shown._logic.quantifyLesions(a_scan)
    wait_until(lambda: shown.ui.resultSelector.count == 2)
    assert shown.ui.resultSelector.currentIndex == 0, "what the user looks at stays"
    assert shown.results._records[1] is loaded.record


def test_a_new_result_ends_a_comparison(shown, gui):
    layout = gui.layout_manager.layout
    choose(shown.ui.compareSelector, "CT contrast")
    assert gui.layout_manager.sliceViewNames() == list(VIEW_NAMES)
    run_to_end(shown)
    assert gui.layout_manager.layout == layout
    assert shown.ui.compareSelector.currentNode() is None
    assert compositeNode("Red").GetForegroundVolumeID() == slicer.util.getNode("CT attribution 2").GetID()
    choose(shown.ui.compareSelector, "CT contrast")
    choose(shown.ui.resultSelector, "CT Quantify lesions")
    assert gui.layout_manager.layout == layout


def test_the_panel_says_which_map_is_which_in_a_comparison(shown):
    assert shown.ui.mapLabel.text == "Map:"
    choose(shown.ui.compareSelector, "CT contrast")
    assert shown.ui.mapLabel.text == "Map (A):"
    assert shown.ui.compareLabel.text == "Compare with (B):"


def test_a_scan_that_was_deleted_while_a_task_ran_is_not_mistaken_for_a_result(panel, a_scan):
    wait_until(lambda: panel.ui.applyButton.enabled)
    click(panel.ui.applyButton)
    slicer.mrmlScene.RemoveNode(a_scan)
    wait_until(lambda: not panel.run.isRunning)
    turn()
    assert map_node() is not None
    click(panel.ui.rerunButton)
    assert "CT, which was given as volume, is no longer in the scene" in panel.ui.messageLabel.text
    assert not panel.run.isRunning


def test_the_words_of_a_result_are_in_the_panel(shown):
    assert shown.ui.verdictLabel.text == "Größte Läsion: 7.5 mL"
    slicer.util.getNode("CT report").SetText("CT-1\nMore than before.")
    shown.results.refresh()
    assert shown.ui.verdictLabel.text == "More than before.", "what stands among the numbers is not said twice"


def test_a_picture_is_shown_and_saved(shown, tmp_path, monkeypatch):
    assert not shown.ui.pictureArea.isVisible(), "an empty file is no picture"
    from SlicerXAILib.LoadedResult import Picture

    picture = Picture("film strip", "image/png", base64.b64encode(_PICTURE).decode("ascii"), "One pixel")
    loaded = shown.results._result
    loaded.pictures["film_strip"] = picture
    shown.results.pictures.setPictures(loaded)
    turn()
    assert shown.ui.pictureLabel.pixmap.width() == 1
    path = tmp_path / "kept.png"
    asked = []
    monkeypatch.setattr(
        QtWidgets.QFileDialog, "getSaveFileName", lambda *given: asked.append(given[2]) or (str(path), "")
    )
    click(shown.ui.savePictureButton)
    assert path.read_bytes() == _PICTURE
    assert asked == ["CT film strip.png"]
    monkeypatch.setattr(
        QtWidgets.QFileDialog, "getSaveFileName", lambda *_given: (str(tmp_path / "none" / "a.png"), "")
    )
    click(shown.ui.savePictureButton)
    assert "cannot be written" in shown.ui.messageLabel.text


def test_what_all_rows_say_stands_above_the_table(shown):
    import vtk

    table = slicer.util.getNode("CT lesion table")
    column = vtk.vtkStringArray()
    column.SetName("method")
    for _row in range(2):
        column.InsertNextValue("HiResCAM")
    table.AddColumn(column)
    shown.results.refresh()
    headers = [shown.ui.resultTable.horizontalHeaderItem(at).text() for at in range(shown.ui.resultTable.columnCount)]
    assert "method" not in headers and "volume_ml" in headers
    assert shown.ui.tableCommonLabel.text == "method: HiResCAM"


def test_a_map_without_a_unit_is_in_arbitrary_units(shown):
    choose(shown.ui.mapSelector, "CT contrast")
    assert shown.ui.thresholdSlider.suffix == " a.u."


def test_a_map_on_the_screen_has_a_color_bar_with_its_units(shown):
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(map_node())
    assert legend.GetVisibility()
    assert legend.GetTitleText() == "Attribution\nbits/voxel"
    assert slicer.modules.colors.logic().GetColorLegendDisplayNode(slicer.util.getNode("CT contrast")) is None
    contrast = slicer.util.getNode("CT contrast")
    contrast.SetName("CT " + " ".join(["HiResCAM of log-odds of vessel over its mask"] * 3))
    legend.SetVisibility(False)
    shown.ui.mapSelector.setCurrentNode(contrast)
    title = slicer.modules.colors.logic().GetColorLegendDisplayNode(contrast).GetTitleText()
    assert max(map(len, title.splitlines())) <= 24 and title.startswith("HiResCAM of log-odds of\n")
    choose(shown.ui.mapSelector, "CT attribution")
    assert not legend.GetVisibility(), "what the user hid stays hidden"
