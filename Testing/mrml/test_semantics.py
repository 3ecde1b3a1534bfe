"""What a network has learned, as nodes: tables, charts, and a map for each finding in the scan's place."""

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
from SlicerXAILib.ResultLoader import loadResult

TESTING = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A scan, and the results of both tasks; made in a process of their own, because they need torch."""
    folder = tmp_path_factory.mktemp("semantics")
    paths = os.pathsep.join([str(TESTING.parent / "SlicerXAI"), str(TESTING)])
    command = [sys.executable, "-m", "host.semantics_result", str(folder)]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr
    return folder


def columnOf(tableNode, name: str) -> list[str]:
    table = tableNode.GetTable()
    column = table.GetColumnByName(name)
    return [column.GetVariantValue(row).ToString() for row in range(table.GetNumberOfRows())]


def test_a_dissection_gives_tables_of_concepts_and_units_and_a_chart(scene, results):
    loaded = loadResult(results / "dissect", keepFiles=True)
    assert columnOf(loaded.nodes["concepts"], "concept") == ["nodule", "cavity", "unlabeled"]
    assert columnOf(loaded.nodes["units"], "concept")[:3] == ["nodule", "cavity", ""]
    assert len(columnOf(loaded.nodes["images"], "image")) == 6
    chart = loaded.nodes["concepts-chart"]
    assert chart.GetClassName() == "vtkMRMLPlotChartNode" and chart.GetNumberOfPlotSeriesNodes() == 1
    series = chart.GetNthPlotSeriesNode(0)
    assert series.GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeBar
    assert series.GetTableNode() is loaded.nodes["concepts"] and series.GetYColumnName() == "units"
    assert loaded.files["sheet"].name == "sheet.png" and loaded.files["dissection"].suffix == ".safetensors"


def test_an_explanation_gives_bars_a_sentence_and_maps_in_the_scans_place(scene, results):
    scan = slicer.util.loadVolume(str(results / "CT.nrrd"), {"name": "CT", "show": False})
    loaded = loadResult(results / "explain", scan)
    assert columnOf(loaded.nodes["findings"], "finding")[-1] == "unlabeled"
    bars = loaded.nodes["findings-chart"].GetNthPlotSeriesNode(0)
    assert bars.GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeBar
    assert loaded.nodes["sentence"].GetText().startswith("Findings that spoke for finding: nodule")
    maps = {role: node for role, node in loaded.nodes.items() if node.IsA("vtkMRMLScalarVolumeNode")}
    assert len(maps) == 2
    for node in maps.values():
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        assert slicer.util.arrayFromVTKMatrix(matrix) == pytest.approx(IJK_TO_RAS["oblique"], abs=1e-4)
        assert node.GetImageData().GetDimensions() == scan.GetImageData().GetDimensions()
        assert node.GetAttribute("XAI.Units") == "logits per voxel"
        assert np.abs(slicer.util.arrayFromVolume(node)).max() > 0
