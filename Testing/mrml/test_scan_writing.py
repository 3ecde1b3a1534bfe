"""A large scan goes to the engine a part at a time, and arrives as it was."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import slicer
from host.scan_geometries import IJK_TO_RAS
from SlicerXAILib import JobWriter, ScanWriting
from SlicerXAILib.EngineErrors import EngineError, JobCancelled, NodeError
from SlicerXAILib.JobWriter import JobFolder
from xaiengine.io.volume_files import read_volume


@pytest.fixture(autouse=True)
def in_small_parts(monkeypatch):
    """Every scan counts as large, and is written in many parts."""
    monkeypatch.setattr(JobWriter, "_SMALL_VOXELS", 0)
    monkeypatch.setattr(ScanWriting, "_BLOCK_BYTES", 700)


def write(folder: JobFolder, node) -> tuple[str, int]:
    """The file of a scan, and in how many turns it was written."""
    path = folder.writeInput("volume", node)
    assert not folder.isComplete
    turns = sum(1 for _turn in folder.writeScans())
    assert folder.isComplete
    return path, turns


@pytest.mark.parametrize("geometry", sorted(IJK_TO_RAS))
@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32])
def test_it_arrives_as_slicers_own_writer_would_bring_it(scan_on, tmp_path, geometry, kind):
    node = scan_on(geometry)
    slicer.util.updateVolumeFromArray(node, (slicer.util.arrayFromVolume(node) / 8).astype(kind))
    (tmp_path / "own").mkdir()
    path, turns = write(JobFolder(tmp_path, inTurns=True), node)
    quick, own = read_volume(path), read_volume(JobFolder(tmp_path / "own").writeInput("volume", node))
    assert turns > 3
    assert quick.array.dtype == own.array.dtype == kind
    np.testing.assert_array_equal(quick.array, own.array)
    np.testing.assert_allclose(quick.grid.affine, own.grid.affine, atol=1e-9)


def test_a_scan_under_a_transform_arrives_where_it_is_shown(a_scan, tmp_path):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    matrix = np.eye(4)
    matrix[:3, 3] = 10.0, -20.0, 30.0
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    a_scan.SetAndObserveTransformNodeID(transform.GetID())
    path, _turns = write(JobFolder(tmp_path, inTurns=True), a_scan)
    np.testing.assert_allclose(read_volume(path).grid.affine, matrix @ IJK_TO_RAS["oblique"], atol=1e-6)


@pytest.mark.parametrize("times", [1, 100])
def test_voxels_that_change_meanwhile_are_never_mixed(a_scan, tmp_path, times):
    folder = JobFolder(tmp_path, inTurns=True)
    path = folder.writeInput("volume", a_scan)
    for turn, _step in enumerate(folder.writeScans()):
        if turn < times:
            slicer.util.arrayFromVolume(a_scan)[:] = turn
            slicer.util.arrayFromVolumeModified(a_scan)
    assert np.unique(read_volume(path).array).size == 1


def test_a_scan_whose_voxels_are_replaced_by_others_meanwhile_is_written_again(a_scan, tmp_path):
    folder = JobFolder(tmp_path, inTurns=True)
    path = folder.writeInput("volume", a_scan)
    steps = folder.writeScans()
    next(steps)
    voxels = np.full(slicer.util.arrayFromVolume(a_scan).shape, 7, np.float32)
    slicer.util.updateVolumeFromArray(a_scan, voxels)
    for _turn in steps:
        pass
    assert (read_volume(path).array == 7).all()


def test_a_full_disk_is_told(a_scan, tmp_path, monkeypatch):
    def full(_isStopped, _stream, _block):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ScanWriting, "_writeBlock", full)
    folder = JobFolder(tmp_path, inTurns=True)
    folder.writeInput("volume", a_scan)
    with pytest.raises(NodeError, match="No space left on device.*Check that the disk"):
        for _turn in folder.writeScans():
            pass


def test_a_task_starts_when_its_scan_is_written(logic, a_scan, monkeypatch):
    mayWrite = threading.Event()

    def slowly(_isStopped, stream, block):
        assert mayWrite.wait(60)
        stream.write(block)

    monkeypatch.setattr(ScanWriting, "_writeBlock", slowly)
    monkeypatch.setitem(sys.modules, "qt", None)
    ended = []
    run = logic.quantifyLesions(a_scan, finished=ended.append)
    for _turn in range(20):
        logic.processEvents()
    assert run.isMoving and logic.isBusy and logic.engine.currentJob is None
    mayWrite.set()
    while not ended:
        logic.processEvents()
    assert ended[0].attribution.GetName() == "CT attribution"


def test_a_waiting_call_returns_the_whole_result(logic, a_scan):
    found = logic.quantifyLesions(a_scan)
    assert found.report is slicer.mrmlScene.GetFirstNodeByName("CT report")


@pytest.mark.parametrize("way", ["cancel", "close", "delete"])
def test_stopped_while_its_scan_is_written_a_task_leaves_nothing(logic, a_scan, monkeypatch, way):
    monkeypatch.setitem(sys.modules, "qt", None)
    ended, failed = [], []
    run = logic.quantifyLesions(a_scan, finished=ended.append, failed=failed.append)
    logic.processEvents()
    assert run.isMoving and logic.engine.currentJob is None
    if way == "delete":  # what was asked for is done
        slicer.mrmlScene.RemoveNode(a_scan)
        while not ended:
            logic.processEvents()
    elif way == "cancel":
        run.cancel()
    else:
        slicer.mrmlScene.Clear(False)
    assert [type(error) for error in failed] == ([] if way == "delete" else [JobCancelled])
    assert not logic.isBusy
    assert list(Path(slicer.app.temporaryPath).glob("xai-job-*")) == []


def test_a_busy_engine_is_told_before_anything_is_written(logic, a_scan, monkeypatch):
    monkeypatch.setitem(sys.modules, "qt", None)
    failed = []
    logic.quantifyLesions(a_scan, model="hang", failed=failed.append)
    while logic.engine.currentJob is None:
        logic.processEvents()
    with pytest.raises(EngineError, match="busy"):
        logic.quantifyLesions(a_scan)
    logic.cancel()
    while not failed:
        logic.processEvents()
    assert list(Path(slicer.app.temporaryPath).glob("xai-job-*")) == []


@pytest.mark.parametrize("way", ["answer", "close", "busy"])
def test_an_estimate_waits_for_its_scan_too(logic, a_scan, way):
    run, told = logic.startEstimate("quantify-lesions", {"volume": a_scan}, {}), []
    run.finished.connect(told.append)
    run.failed.connect(lambda error: told.append(error.message))
    logic.processEvents()
    assert run.isMoving and logic.engine.currentJob is None and told == []
    if way == "close":
        slicer.mrmlScene.Clear(False)
    elif way == "busy":
        job = logic.engine.submit({"task": "hang"})
    while not told:
        logic.processEvents()
    if way == "busy":
        assert "busy" in told[0] and logic.engine.currentJob == job
        logic.engine.shutdown()
    assert ("cancelled" in told[0]) == (way == "close") and not logic.isBusy
    assert list(Path(slicer.app.temporaryPath).glob("xai-job-*")) == []
