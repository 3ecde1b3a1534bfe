"""A result comes into the scene a piece at a time, and whatever the user does in between is safe."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk
from host.example_result import write_example_result
from host.scan_geometries import IJK_TO_RAS, SHAPE
from SlicerXAILib import ArtifactNodes, Navigation, NrrdFile
from SlicerXAILib.BackgroundCall import inBackground
from SlicerXAILib.EngineErrors import EngineError, JobCancelled
from SlicerXAILib.NrrdFile import readHeader, readVoxels
from SlicerXAILib.ResultLoader import ResultLoading, loadResult
from SlicerXAILib.SubjectHierarchy import childNames
from vtk.util.numpy_support import vtk_to_numpy
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume


def nodes():
    scene = slicer.mrmlScene
    found = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    return [node.GetName() for node in found if not node.GetSingletonTag()]


def finish(loading):
    while loading.result is None:
        loading.advance()
    return loading.result


def advanceTo(loading, name):
    """Go on until a node is there; returns it."""
    while slicer.mrmlScene.GetFirstNodeByName(name) is None:
        loading.advance()
    assert loading.result is None
    return slicer.mrmlScene.GetFirstNodeByName(name)


def test_no_turn_makes_nodes_of_two_artifacts(a_scan, result_folder):
    loading = ResultLoading(result_folder, a_scan)
    names = ("attribution", "contrast", "lesions", "lesion table", "volumes", "series", "report")
    artifacts = {f"CT {name}" for name in names}
    seen, most = set(nodes()), 0
    while loading.result is None:
        loading.advance()
        now = set(nodes())
        most = max(most, len((now - seen) & artifacts))
        seen = now
    assert artifacts <= seen
    assert most == 1


@pytest.mark.parametrize("file", ["attribution.nrrd", "lesions.seg.nrrd"])
def test_voxels_are_read_while_the_event_loop_turns(a_scan, result_folder, monkeypatch, file):
    """The reading is held up until many turns have passed, which would never be if a turn waited for it."""
    mayRead, readers = threading.Event(), set()

    def slowly(header, values, isStopped):
        if header.path.name == file:
            readers.add(threading.current_thread())
            assert mayRead.wait(60)
        readVoxels(header, values, isStopped)

    for module in ("ArtifactNodes", "VoxelNodes"):
        monkeypatch.setattr(f"SlicerXAILib.{module}.readVoxels", slowly)
    loading = ResultLoading(result_folder, a_scan)
    while not readers:
        loading.advance()
    for _turn in range(20):
        assert loading.advance() is None
    mayRead.set()
    finish(loading)
    assert threading.main_thread() not in readers


@pytest.mark.parametrize("geometry", sorted(IJK_TO_RAS))
def test_a_map_is_the_same_as_by_slicers_own_reader(scan_on, tmp_path, geometry):
    scan, folder = scan_on(geometry), write_example_result(tmp_path / "result", SHAPE, IJK_TO_RAS[geometry])
    quick = loadResult(folder, scan).nodes
    own = loadResult(folder, scan, keepFiles=True).nodes
    for role in ("attribution", "contrast"):
        one, other = quick[role], own[role]
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(one), slicer.util.arrayFromVolume(other))
        assert slicer.util.arrayFromVolume(one).dtype == slicer.util.arrayFromVolume(other).dtype
        matrices = []
        for node in (one, other):
            matrix = vtk.vtkMatrix4x4()
            node.GetIJKToRASMatrix(matrix)
            matrices.append(slicer.util.arrayFromVTKMatrix(matrix))
        np.testing.assert_allclose(*matrices, atol=1e-5)
        displays = [node.GetDisplayNode() for node in (one, other)]
        for get in (
            "GetWindow",
            "GetLevel",
            "GetApplyThreshold",
            "GetLowerThreshold",
            "GetUpperThreshold",
            "GetAutoWindowLevel",
            "GetInterpolate",
            "GetVisibility",
        ):
            assert len({getattr(display, get)() for display in displays}) == 1, get
        names = [display.GetColorNode().GetName().removesuffix(" clipped") for display in displays]
        assert len({name.rstrip("_0123456789") for name in names}) == 1
        attributes = [sorted(node.GetAttributeNames()) for node in (one, other)]
        assert attributes[0] == attributes[1]
        np.testing.assert_allclose(Navigation.strongestPoint(one), Navigation.strongestPoint(other), atol=1e-4)
        assert one.GetStorageNode() is None and other.GetStorageNode() is not None


@pytest.mark.parametrize("geometry", sorted(IJK_TO_RAS))
def test_segments_are_the_same_as_by_slicers_own_reader(scan_on, tmp_path, geometry):
    """Segments of one layer and of several, one that holds nothing, with tags and a name that NRRD must escape."""
    a_scan, rng = scan_on(geometry), np.random.default_rng(2)
    low, high = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    low[2:6, 3:7, 1:5] = rng.random((4, 4, 4)) > 0.3
    high[5:9, 6:12, 4:9] = rng.random((4, 6, 5)) > 0.3
    masks = [
        Mask("Low", low, (0.2, 0.4, 0.6)),
        Mask("High \\ light", high),
        Mask("Both", low | high),
        Mask("Nothing", np.zeros(SHAPE, bool)),
    ]
    written = Segmentation.from_masks(masks, Grid(SHAPE, IJK_TO_RAS[geometry]))
    path = write_segmentation(tmp_path / "s.seg.nrrd", written)
    own = slicer.util.loadSegmentation(str(path))
    maker = ArtifactNodes.ArtifactNodes(lambda: a_scan, lambda role: None, lambda node, artifact: None, False)
    steps = maker.loader("segmentation")(path, "quick", {})
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            quick = ended.value
            break
    one, other = quick.GetSegmentation(), own.GetSegmentation()
    assert one.GetSegmentIDs() == other.GetSegmentIDs() and one.GetNumberOfSegments() == 4
    assert one.GetSourceRepresentationName() == other.GetSourceRepresentationName()
    assert one.GetNumberOfLayers() == other.GetNumberOfLayers() > 1
    for identity in one.GetSegmentIDs():
        first, second = one.GetSegment(identity), other.GetSegment(identity)
        for get in ("GetName", "GetColor", "GetLabelValue", "GetNameAutoGenerated", "GetColorAutoGenerated"):
            assert getattr(first, get)() == getattr(second, get)(), get
        for tag in ("TerminologyEntry", "Segmentation.Status"):
            values = [vtk.reference(""), vtk.reference("")]
            assert first.GetTag(tag, values[0]) == second.GetTag(tag, values[1])
            assert str(values[0]) == str(values[1])
        arrays = [slicer.util.arrayFromSegmentBinaryLabelmap(node, identity, a_scan) for node in (quick, own)]
        np.testing.assert_array_equal(*arrays)
    assert slicer.util.arrayFromSegmentBinaryLabelmap(quick, "Segment_3", a_scan).sum() == (low | high).sum()


def test_a_file_that_is_cut_off_is_an_error(a_scan, result_folder):
    path = result_folder / "attribution.nrrd"
    path.write_bytes(path.read_bytes()[:-40])
    before = nodes()
    with pytest.raises(EngineError, match="attribution.nrrd is damaged.*Run the job again"):
        loadResult(result_folder, a_scan)
    assert nodes() == before


@pytest.mark.parametrize("change", [(b"sizes: ", b"sizes: 1"), (b"encoding: gzip", b"encoding: raw")])
def test_a_file_with_another_number_of_values_than_it_says_is_an_error(result_folder, change):
    path = result_folder / "attribution.nrrd"
    path.write_bytes(path.read_bytes().replace(*change, 1))
    header = readHeader(path)
    with pytest.raises(EngineError, match="damaged"):
        readVoxels(header, np.empty(header.shape, header.voxelType), lambda: False)


@pytest.mark.parametrize("encoding", ["gzip", "raw"])
@pytest.mark.parametrize("kind", ["int16", "uint8", "float32", "float64"])
def test_values_of_every_type_are_read(tmp_path, encoding, kind, monkeypatch):
    monkeypatch.setattr(NrrdFile, "_BLOCK_BYTES", 100)
    values = np.random.default_rng(1).integers(0, 200, SHAPE).astype(kind)
    path = write_volume(tmp_path / "v.nrrd", Volume(values, Grid(SHAPE, np.eye(4))))
    if encoding == "raw":
        head, _, _ = path.read_bytes().partition(b"\n\n")
        raw = head.replace(b"encoding: gzip", b"encoding: raw") + b"\n\n" + values.tobytes(order="F")
        path.write_bytes(raw)
    header = readHeader(path)
    found = np.empty(header.shape, header.voxelType)
    readVoxels(header, found, lambda: False)
    np.testing.assert_array_equal(found, values.transpose())


def test_what_is_written_in_another_way_is_left_to_slicers_reader(a_scan, tmp_path):
    path = tmp_path / "own.nrrd"
    path.write_bytes(b"NRRD0004\ntype: short\ndimension: 2\nsizes: 2 2\nencoding: ascii\n\n1 2 3 4\n")
    assert readHeader(path) is None
    assert readHeader(tmp_path / "missing.nrrd") is None


def test_discarded_in_the_middle_it_leaves_nothing_and_stops_reading(a_scan, result_folder, monkeypatch):
    before, folders = nodes(), childNames(slicer.mrmlScene.GetSubjectHierarchyNode().GetSceneItemID())
    reading, stopped = threading.Event(), []

    def untilStopped(header, values, isStopped):
        reading.set()
        while not isStopped():
            pass
        stopped.append(header.path.name)

    loading = ResultLoading(result_folder, a_scan)
    advanceTo(loading, "CT contrast")
    monkeypatch.setattr("SlicerXAILib.VoxelNodes.readVoxels", untilStopped)
    while not reading.is_set():
        loading.advance()
    loading.discard()
    assert stopped == ["lesions.seg.nrrd"]
    assert nodes() == before
    assert childNames(slicer.mrmlScene.GetSubjectHierarchyNode().GetSceneItemID()) == folders
    assert loading.advance() is None


def test_the_scan_is_deleted_in_the_middle(a_scan, result_folder):
    loading = ResultLoading(result_folder, a_scan)
    advanceTo(loading, "CT contrast")
    slicer.mrmlScene.RemoveNode(a_scan)
    loaded = finish(loading)
    assert set(loaded.nodes) == {"attribution", "contrast", "lesions", "table", "plot", "series", "report"}
    assert loaded.nodes["lesions"].GetNodeReference("XAI.Input") is None


def test_a_node_of_the_result_is_deleted_in_the_middle(a_scan, result_folder):
    loading = ResultLoading(result_folder, a_scan)
    slicer.mrmlScene.RemoveNode(advanceTo(loading, "CT attribution"))
    slicer.mrmlScene.RemoveNode(advanceTo(loading, "CT lesion table"))
    loaded = finish(loading)
    assert "attribution" not in loaded.nodes and "attribution" not in loaded.hints
    assert loaded.nodes["plot"].GetNthPlotSeriesNode(0).GetTableNode().GetName() == "CT volumes table"


def test_the_folder_of_the_result_is_deleted_in_the_middle(a_scan, result_folder):
    loading = ResultLoading(result_folder, a_scan)
    advanceTo(loading, "CT contrast")
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.RemoveItem(hierarchy.GetItemByName("CT Quantify lesions"))
    loaded = finish(loading)
    assert "lesions" in loaded.nodes and "attribution" not in loaded.nodes
    assert hierarchy.GetItemName(loaded.folderItem) == "CT Quantify lesions"
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(loaded.lesions)) == loaded.folderItem


def test_what_the_user_adds_meanwhile_is_no_part_of_the_result(a_scan, result_folder):
    loading = ResultLoading(result_folder, a_scan)
    advanceTo(loading, "CT contrast")
    mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "Mine")
    loading.discard()
    assert slicer.mrmlScene.IsNodePresent(mine)
    assert slicer.mrmlScene.GetFirstNodeByName("CT contrast") is None


def test_two_results_are_loaded_side_by_side(a_scan, result_folder):
    first, second = ResultLoading(result_folder, a_scan), ResultLoading(result_folder, a_scan)
    while first.result is None or second.result is None:
        first.advance()
        second.advance()
    one, other = first.result.nodes, second.result.nodes
    assert not {node.GetID() for node in one.values()} & {node.GetID() for node in other.values()}
    for loaded in (first.result, second.result):
        for node in loaded.nodes.values():
            assert node.GetNodeReference("XAI.Record") is loaded.record


def test_the_strongest_place_is_known_without_looking_at_every_voxel(a_scan, result_folder, monkeypatch):
    node = loadResult(result_folder, a_scan).nodes["attribution"]
    expected = (IJK_TO_RAS["oblique"] @ [5.0, 7.0, 8.0, 1.0])[:3]
    monkeypatch.setattr(Navigation, "strongestVoxel", lambda _values: pytest.fail("looked"))
    np.testing.assert_allclose(Navigation.strongestPoint(node), expected, atol=1e-4)


def test_an_image_holds_its_voxels_after_the_array_is_gone(a_scan, result_folder):
    import gc

    node = loadResult(result_folder, a_scan).nodes["attribution"]
    gc.collect()
    scalars = vtk_to_numpy(node.GetImageData().GetPointData().GetScalars())
    assert scalars.max() == 2.5 and np.count_nonzero(scalars) == 60


def test_what_a_thread_raises_is_raised_here():
    def fail(_isStopped):
        raise EngineError("No.")

    with pytest.raises(EngineError, match="No."):
        for _turn in inBackground(fail):
            pass


def test_a_task_has_ended_once_its_result_is_loaded(logic, a_scan, monkeypatch):
    monkeypatch.setitem(sys.modules, "qt", None)
    ended = []
    run = logic.quantifyLesions(a_scan, finished=ended.append)
    while not run.isMoving:
        logic.processEvents()
    assert ended == [] and logic.isBusy and not logic.engine.isBusy
    while not ended:
        logic.processEvents()
    assert not logic.isBusy and run.result.report is slicer.mrmlScene.GetFirstNodeByName("CT report")


@pytest.mark.parametrize("way", ["cancel", "close"])
def test_cancelled_while_its_result_is_loaded_a_task_leaves_nothing(logic, a_scan, monkeypatch, way):
    monkeypatch.setitem(sys.modules, "qt", None)
    before, failed = nodes(), []
    run = logic.quantifyLesions(a_scan, failed=failed.append)
    while slicer.mrmlScene.GetFirstNodeByName("CT contrast") is None:
        logic.processEvents()
    if way == "cancel":
        run.cancel()
        assert nodes() == before
    else:
        slicer.mrmlScene.Clear(False)
    assert [type(error) for error in failed] == [JobCancelled]
    assert slicer.mrmlScene.GetFirstNodeByName("CT attribution") is None
    assert list(Path(slicer.app.temporaryPath).glob("xai-job-*")) == []
