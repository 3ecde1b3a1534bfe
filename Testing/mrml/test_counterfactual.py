"""A counterfactual series as nodes: browsed by prediction, in the place of the scan's slice, on any geometry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk
from host.scan_geometries import IJK_TO_RAS
from SlicerXAILib.Display import showResult
from SlicerXAILib.ResultLoader import loadResult

TESTING = Path(__file__).resolve().parents[1]
FRAMES = 5


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A folder per geometry with a scan and the result of explaining its middle axial slice."""
    folder = tmp_path_factory.mktemp("counterfactuals")
    paths = os.pathsep.join([str(TESTING.parent / "SlicerXAI"), str(TESTING)])
    command = [sys.executable, "-m", "host.counterfactual_result", str(folder)]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(params=sorted(IJK_TO_RAS))
def explained(scene, request, results):
    """A scan node on one of the geometries, and the loaded result of explaining one of its slices."""
    folder = results / request.param
    node = slicer.util.loadVolume(str(folder / "CT.nrrd"), {"name": "CT", "show": False})
    return node, loadResult(folder / "result", node)


def ijkToRas(node) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def changed_slice(node, loaded) -> tuple[int, int]:
    """Index axis across the only slice that changed, and its number, on the nodes (Slicer may turn axes round)."""
    difference = slicer.util.arrayFromVolume(loaded.nodes["counterfactual"]) - slicer.util.arrayFromVolume(node)
    assert np.abs(difference).max() > 1
    touched = [np.unique(places) for places in np.nonzero(difference.T)]
    across = [axis for axis, places in enumerate(touched) if len(places) == 1]
    assert len(across) == 1
    return across[0], int(touched[across[0]][0])


def corners(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """RAS positions of the centers of the corner voxels, sorted."""
    index = np.array(np.meshgrid(*[[0, size - 1] for size in shape], indexing="ij")).reshape(3, -1)
    return np.array(sorted((matrix @ np.vstack([index, np.ones(8)]))[:3].round(3).T.tolist()))


def test_the_result_becomes_nodes_in_the_scans_place(explained):
    node, loaded = explained
    kinds = {role: item.GetClassName() for role, item in loaded.nodes.items()}
    assert kinds["series"] == "vtkMRMLSequenceNode"
    assert kinds["plot"] == "vtkMRMLPlotChartNode" and kinds["verdict"] == "vtkMRMLTextNode"
    assert {"film_strip", "animation"} <= set(loaded.pictures)
    for role in ("difference", "counterfactual"):
        np.testing.assert_allclose(ijkToRas(loaded.nodes[role]), ijkToRas(node), atol=1e-4)
    axis, index = changed_slice(node, loaded)
    count = node.GetImageData().GetDimensions()[axis]
    assert index in (count // 2, count - 1 - count // 2)


def test_each_prediction_is_a_frame_of_the_browser(explained):
    node, loaded = explained
    axis, index = changed_slice(node, loaded)
    matrix, shape = ijkToRas(node), list(node.GetImageData().GetDimensions())
    matrix[:3, 3] += matrix[:3, axis] * index
    shape[axis] = 1
    sequence = loaded.nodes["series"]
    assert sequence.GetNumberOfDataNodes() == FRAMES
    table = loaded.nodes["frames"].GetTable()
    logic = slicer.modules.sequences.logic()
    browser = logic.GetFirstBrowserNodeForSequenceNode(sequence)
    proxy = browser.GetProxyNode(sequence)
    images = []
    for item in range(FRAMES):
        name = sequence.GetNthIndexValue(item)
        prediction = table.GetColumnByName("prediction").GetValue(item)
        assert float(name.split(" ")[0]) == pytest.approx(prediction, rel=0.01, abs=1e-3)
        browser.SetSelectedItemNumber(item)
        logic.UpdateProxyNodesFromSequences(browser)
        images.append(slicer.util.arrayFromVolume(proxy).copy())
        np.testing.assert_allclose(
            corners(ijkToRas(proxy), proxy.GetImageData().GetDimensions()), corners(matrix, shape), atol=2e-3
        )
    assert all(np.abs(one - other).max() > 0.5 for one, other in zip(images, images[1:]))


def test_the_difference_is_shown_signed_over_the_changed_scan(explained):
    node, loaded = explained
    display = loaded.nodes["difference"].GetDisplayNode()
    low, high = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    assert low == pytest.approx(-high) and high > 0
    assert display.GetColorNode().GetName() == "XAI Diverging"
    showResult(loaded, node)
    chart = loaded.nodes["plot"]
    series = chart.GetNthPlotSeriesNode(0)
    assert (series.GetXColumnName(), series.GetYColumnName()) == ("shift (SD)", "prediction")
