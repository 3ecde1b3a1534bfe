"""CLI modules run by Slicer's own parser and CLI engine: nodes in, nodes and numbers out, progress, cancel."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import slicer
import vtk
from host.scan_geometries import IJK_TO_RAS

PEAK_KJI = (5, 11, 3)
LIMIT = 60.0


def outputs():
    return {
        "output_attribution": slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "map"),
        "output_lesions": slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "mark"),
        "output_table": slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "words"),
    }


@pytest.fixture(scope="module")
def completed(make_mark_module, make_scan, tmp_path_factory):
    """What one run with every kind of option leaves in the scene and on the disk."""
    module, nodes = make_mark_module(), outputs()
    folder = tmp_path_factory.mktemp("kept")
    run = module.create_node(
        volume=make_scan(),
        bits=-1.5,
        twice=True,
        limit=4000,
        behavior="chatter",
        names=["left", "right"],
        output=str(folder),
        **nodes,
    )
    module.run(run)
    matrix = vtk.vtkMatrix4x4()
    nodes["output_attribution"].GetIJKToRASMatrix(matrix)
    table = nodes["output_table"].GetTable()
    return SimpleNamespace(
        status=run.GetStatusString(),
        errorText=run.GetErrorText(),
        outputText=run.GetOutputText(),
        returned={name: run.GetParameterAsString(name) for name in ("peak", "count", "words")},
        bits=slicer.util.arrayFromVolume(nodes["output_attribution"]).copy(),
        ijkToRas=slicer.util.arrayFromVTKMatrix(matrix),
        labels=slicer.util.arrayFromVolume(nodes["output_lesions"]).copy(),
        words=[table.GetValue(row, 0).ToString() for row in range(table.GetNumberOfRows())],
        files={path.name for path in folder.iterdir()},
    )


def test_outputs_are_loaded_into_the_chosen_nodes_in_the_scans_place(completed):
    assert completed.status == "Completed"
    assert completed.bits[PEAK_KJI] != 0 and np.count_nonzero(completed.bits) == 1
    np.testing.assert_allclose(completed.ijkToRas, IJK_TO_RAS["oblique"], atol=1e-4)
    assert completed.labels[PEAK_KJI] == 1 and np.count_nonzero(completed.labels) == 1


def test_a_table_and_a_list_option_come_through(completed):
    assert completed.words == ["left", "right"]


def test_numbers_and_switches_come_through(completed):
    assert completed.bits.min() == 2 * -1.5


def test_single_values_come_back_to_the_parameter_node(completed):
    assert float(completed.returned["peak"]) == 3000.0
    assert completed.returned["count"] == "1"
    assert completed.returned["words"] == "left right"


def test_what_libraries_write_to_stderr_is_no_error(completed):
    assert completed.errorText == ""
    assert "a library warns" in completed.outputText
    assert "and so does its C++ part" in completed.outputText


def test_a_result_folder_keeps_everything(completed):
    assert completed.files == {"result.json", "map.nrrd", "mark.seg.nrrd", "words.csv"}


def test_a_failure_ends_with_errors_and_says_what_to_do(mark_module, a_scan):
    nodes = outputs()
    run = mark_module.create_node(volume=a_scan, limit=100, **nodes)
    mark_module.run(run)
    assert run.GetStatusString() == "Completed with errors"
    assert "The peak 3000 is too bright. Choose a darker volume." in run.GetErrorText()
    assert "Traceback" not in run.GetErrorText()
    assert nodes["output_attribution"].GetImageData() is None


def test_an_option_out_of_range_is_named(mark_module, a_scan):
    run = mark_module.create_node(volume=a_scan, bits=11)
    mark_module.run(run)
    assert run.GetStatusString() == "Completed with errors"
    assert "bits: input should be less than or equal to 10, found '11" in run.GetErrorText()


def test_progress_arrives_and_cancel_ends_the_module_and_loads_nothing(mark_module, a_scan):
    nodes = outputs()
    run = mark_module.create_node(volume=a_scan, behavior="hang", **nodes)
    mark_module.start(run)
    try:
        mark_module.wait(run, until=lambda node: node.GetProgress() > 0, limit=LIMIT)
        assert run.GetProgress() == 25  # Reading, a quarter of the work, is done
        assert run.GetStatusString() == "Running"
    finally:
        run.Cancel()
        mark_module.wait(run, limit=LIMIT)
    assert run.GetStatusString() == "Cancelled"
    assert nodes["output_attribution"].GetImageData() is None
