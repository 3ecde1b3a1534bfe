"""Segmentations: in layers, in files, and in 3D Slicer's segmentation node."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest
from slicerio import segmentation as slicerio_segmentation
from support.scans import GRIDS, Ball, lung_mask, thorax
from xaiengine.core.errors import InputError
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segment, Segmentation
from xaiengine.io.segmentation_files import read_segmentation, write_segmentation
from xaiengine.io.terminology import LEFT_LUNG, RIGHT_LUNG, Code, lung_lesion
from xaiengine.io.volume_files import write_volume

SAMPLES = Path(find_spec("slicerio").origin).parent / "data"


def lungs_and_lesion(grid: Grid) -> Segmentation:
    """Two lungs and a lesion that lies in the left one, and so needs a second layer."""
    masks = [
        Mask("left lung", lung_mask(grid, "left"), (0.1, 0.2, 0.3), LEFT_LUNG),
        Mask("right lung", lung_mask(grid, "right"), (0.4, 0.5, 0.6), RIGHT_LUNG),
        Mask("Läsion 1", Ball().mask(grid), (1.0, 0.0, 0.5), lung_lesion("left"), "lesion_1"),
    ]
    return Segmentation.from_masks(masks, grid, "thorax")


@pytest.fixture(params=GRIDS, ids=str)
def segmentation(request) -> Segmentation:
    return lungs_and_lesion(GRIDS[request.param])


@pytest.fixture
def axial() -> Segmentation:
    return lungs_and_lesion(GRIDS["axial"])


def expected_masks(grid: Grid) -> dict[str, np.ndarray]:
    return {
        "left lung": lung_mask(grid, "left"),
        "right lung": lung_mask(grid, "right"),
        "Läsion 1": Ball().mask(grid),
    }


def test_masks_share_layers_where_they_do_not_overlap(segmentation):
    assert len(segmentation.layers) == 2
    assert [segment.layer for segment in segmentation.segments] == [0, 0, 1]
    for name, mask in expected_masks(segmentation.grid).items():
        np.testing.assert_array_equal(segmentation.mask(name), mask)


def test_the_union_is_that_of_the_masks(axial):
    masks = expected_masks(axial.grid)
    np.testing.assert_array_equal(axial.union(), masks["left lung"] | masks["right lung"])
    np.testing.assert_array_equal(axial.union(["Läsion 1"]), masks["Läsion 1"])


def test_the_volume_of_a_ball():
    fine = Grid.from_directions((60, 60, 60), (0.5, 0.5, 0.5), origin=np.array(Ball().center) - 14.75)
    segmentation = Segmentation.from_masks([Mask("ball", Ball().mask(fine))], fine)
    assert segmentation.volume_ml("ball") == pytest.approx(Ball().volume_ml, rel=0.01)


def test_more_than_255_segments_fit():
    grid = Grid.from_directions((300, 2, 1))
    masks = [Mask(f"column {i}", np.arange(300)[:, None, None] * np.ones((1, 2, 1)) == i) for i in range(300)]
    segmentation = Segmentation.from_masks(masks, grid)
    assert len(segmentation.layers) == 1
    np.testing.assert_array_equal(segmentation.mask("column 299"), masks[299].voxels)


def test_segments_are_found_by_name_and_id_in_upper_and_lower_case(axial):
    assert axial.find("lesion_1").name == "Läsion 1"
    assert axial.find("LEFT LUNG").name == "left lung"


def test_near_names_are_offered(axial):
    with pytest.raises(InputError, match="no segment 'left lnug'") as caught:
        axial.find("left lnug")
    assert "left lung" in caught.value.remedy


def test_ids_are_unique(axial):
    masks = [Mask("one", axial.mask("left lung"), id="Segment_2"), Mask("two", axial.mask("right lung"))]
    segmentation = Segmentation.from_masks([*masks, Mask("three", axial.mask("lesion_1"))], axial.grid)
    assert len({segment.id for segment in segmentation.segments}) == 3
    with pytest.raises(ValueError, match="unique"):
        Segmentation((segmentation.segments[0],) * 2, segmentation.layers, axial.grid)


# Files


def test_a_segmentation_comes_back_as_it_was(segmentation, tmp_path):
    again = read_segmentation(write_segmentation(tmp_path / "thorax.seg.nrrd", segmentation))
    assert again.segments == segmentation.segments
    np.testing.assert_array_equal(again.grid.affine, segmentation.grid.affine)
    for name, mask in expected_masks(segmentation.grid).items():
        np.testing.assert_array_equal(again.mask(name), mask)


def test_slicer_shows_names_colors_terminology_and_place(segmentation, tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    path = write_segmentation(tmp_path / "thorax.seg.nrrd", segmentation)
    scene, node = slicer_readers.read_segmentation_with_slicer(path)
    shown = node.GetSegmentation()
    assert shown.GetNumberOfSegments() == 3
    for index, segment in enumerate(segmentation.segments):
        assert shown.GetNthSegmentID(index) == segment.id
        other = shown.GetNthSegment(index)
        assert other.GetName() == segment.name
        assert other.GetColor() == pytest.approx(segment.color)
        assert other.GetTerminology() == segment.terminology.to_slicer()
        mask, affine = slicer_readers.segment_mask(node, segment.id)
        found = Grid(mask.shape, affine).index_to_ras(np.argwhere(mask))
        expected = segmentation.grid.index_to_ras(np.argwhere(segmentation.mask(segment)))
        np.testing.assert_allclose(sorted_points(found), sorted_points(expected), atol=1e-6)
    assert scene is not None


def sorted_points(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(np.round(points, 3).T)]


def test_we_read_what_slicer_saved_again(axial, tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    path = write_segmentation(tmp_path / "thorax.seg.nrrd", axial)
    scene, node = slicer_readers.read_segmentation_with_slicer(path)
    storage = slicer_readers.slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / "saved.seg.nrrd"))
    assert storage.WriteData(node)
    saved = read_segmentation(tmp_path / "saved.seg.nrrd")
    assert [(s.name, s.id, s.terminology) for s in saved.segments] == [
        (s.name, s.id, s.terminology) for s in axial.segments
    ]
    on_scan = saved.on_grid(axial.grid)
    for name, mask in expected_masks(axial.grid).items():
        np.testing.assert_array_equal(on_scan.mask(name), mask)


def test_slicerio_reads_the_same(axial, tmp_path):
    path = write_segmentation(tmp_path / "thorax.seg.nrrd", axial)
    read = slicerio_segmentation.read_segmentation(str(path))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ axial.grid.affine
    np.testing.assert_allclose(read["ijkToLPS"], lps)
    for ours, theirs in zip(axial.segments, read["segments"]):
        assert theirs["id"] == ours.id
        assert theirs["color"] == pytest.approx(ours.color)
        assert (theirs["labelValue"], theirs["layer"]) == (ours.label, ours.layer)
        assert theirs["terminology"]["type"] == ours.terminology.type.as_list()
        mask = read["voxels"][theirs["layer"]] == theirs["labelValue"]
        np.testing.assert_array_equal(mask, axial.mask(ours))


@pytest.mark.parametrize("name, layers", [("Segmentation", 1), ("SegmentationOverlapping", 2)])
def test_slicers_own_samples(name, layers):
    path = SAMPLES / f"{name}.seg.nrrd"
    ours, theirs = read_segmentation(path), slicerio_segmentation.read_segmentation(str(path))
    assert len(ours.layers) == layers
    assert list(ours.names) == [segment["name"] for segment in theirs["segments"]]
    np.testing.assert_allclose(np.diag([-1.0, -1.0, 1.0, 1.0]) @ ours.grid.affine, theirs["ijkToLPS"])
    for segment in theirs["segments"]:
        layer = theirs["voxels"] if layers == 1 else theirs["voxels"][segment["layer"]]
        np.testing.assert_array_equal(ours.mask(segment["name"]), layer == segment["labelValue"])
        assert ours.find(segment["name"]).terminology.type.as_list() == segment["terminology"]["type"]


def test_equal_segmentations_give_equal_bytes(axial, tmp_path):
    one = write_segmentation(tmp_path / "one.seg.nrrd", axial).read_bytes()
    assert write_segmentation(tmp_path / "two.seg.nrrd", lungs_and_lesion(axial.grid)).read_bytes() == one


def test_a_segmentation_without_segments_can_be_written(tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    empty = Segmentation.from_masks([], GRIDS["axial"])
    path = write_segmentation(tmp_path / "none.seg.nrrd", empty)
    assert read_segmentation(path).segments == ()
    scene, node = slicer_readers.read_segmentation_with_slicer(path)
    assert node.GetSegmentation().GetNumberOfSegments() == 0


def test_an_empty_segment_beside_a_full_one_stays(axial, tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    nothing = Mask("nothing", np.zeros(axial.grid.shape, bool))
    both = Segmentation.from_masks([nothing, Mask("lung", axial.mask("left lung"))], axial.grid)
    path = write_segmentation(tmp_path / "both.seg.nrrd", both)
    assert not read_segmentation(path).mask("nothing").any()
    scene, node = slicer_readers.read_segmentation_with_slicer(path)
    shown = node.GetSegmentation()
    assert [shown.GetNthSegment(index).GetName() for index in range(2)] == ["nothing", "lung"]


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz"])
def test_label_maps_become_segments(extension, tmp_path):
    grid = GRIDS["axial"]
    labels = (lung_mask(grid, "left") * 3 + lung_mask(grid, "right") * 7).astype(np.int16)
    path = tmp_path / f"labels{extension}"
    if extension == ".nrrd":
        write_volume(path, thorax(grid).with_array(labels))
    else:
        nibabel.save(nibabel.Nifti1Image(labels.astype(np.float32), grid.affine), path)
    segmentation = read_segmentation(path, {3: "left lung"})
    assert segmentation.names == ("left lung", "Segment_7")
    np.testing.assert_array_equal(segmentation.mask("left lung"), lung_mask(grid, "left"))
    np.testing.assert_array_equal(segmentation.mask("Segment_7"), lung_mask(grid, "right"))


def test_files_of_slicer_4_have_a_layer_for_each_segment(axial, tmp_path):
    path = write_segmentation(tmp_path / "new.seg.nrrd", axial)
    header, _, data = path.read_bytes().partition(b"\n\n")
    kept = [line for line in header.split(b"\n") if b"_Layer" not in line and b"_LabelValue" not in line]
    (tmp_path / "old.seg.nrrd").write_bytes(b"\n".join(kept) + b"\n\n" + data)
    old = read_segmentation(tmp_path / "old.seg.nrrd")
    assert [(segment.layer, segment.label) for segment in old.segments] == [(0, 1), (1, 1), (1, 1)]


@pytest.mark.parametrize("name", ["two\nlines", "back\\slash", "back\\nslash", "a := b | c", "肺", ""])
def test_any_name_comes_back_as_it_was(name, tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    grid = GRIDS["axial"]
    path = write_segmentation(tmp_path / "a.seg.nrrd", Segmentation.from_masks([Mask(name, lung_mask(grid))], grid))
    assert read_segmentation(path).names == (name,)
    scene, node = slicer_readers.read_segmentation_with_slicer(path)
    assert node.GetSegmentation().GetNthSegment(0).GetName() == name


# Other geometry


@pytest.mark.parametrize("name", GRIDS)
def test_a_segmentation_comes_to_the_grid_of_the_scan(axial, name):
    moved = axial.on_grid(GRIDS[name])
    assert moved.grid is GRIDS[name]
    expected = lung_mask(GRIDS[name]) & GRIDS["axial"].contains(
        np.moveaxis(np.stack(np.meshgrid(*map(np.arange, GRIDS[name].shape), indexing="ij")), 0, -1)
        @ GRIDS[name].affine[:3, :3].T
        + GRIDS[name].origin
    )
    found = moved.union(["left lung", "right lung"])
    dice = 2 * (found & expected).sum() / (found.sum() + expected.sum())
    assert dice > 0.93


def test_the_same_grid_needs_no_resampling(axial):
    assert axial.on_grid(Grid(axial.grid.shape, axial.grid.affine.copy())) is axial


def test_a_segmentation_of_another_place_is_refused(axial):
    elsewhere = axial.grid.cropped((500, 0, 0), axial.grid.shape)
    with pytest.raises(InputError, match="does not overlap the scan") as caught:
        axial.on_grid(elsewhere)
    assert "segmentation of this scan" in caught.value.remedy


# What cannot be used


def test_bad_segmentations_are_refused(axial, tmp_path):
    scan = thorax(GRIDS["axial"], noise=300)
    write_volume(tmp_path / "scan.nrrd", scan)
    write_volume(tmp_path / "floats.nrrd", scan.with_array(scan.array + np.float32(0.5)))
    write_volume(tmp_path / "zeros.nrrd", scan.with_array(scan.array * 0))
    write_volume(tmp_path / "vectors.nrrd", scan.with_array(np.stack([scan.array] * 3)))
    good = write_segmentation(tmp_path / "good.seg.nrrd", axial).read_bytes()
    (tmp_path / "fractional.seg.nrrd").write_bytes(good.replace(b":=Binary labelmap\n", b":=Fractional labelmap\n"))
    (tmp_path / "layers.seg.nrrd").write_bytes(good.replace(b"Segment2_Layer:=1", b"Segment2_Layer:=8"))
    (tmp_path / "short.seg.nrrd").write_bytes(good[:-50])
    (tmp_path / "text.seg.nrrd").write_text("hello")
    expected = {
        "absent.seg.nrrd": "does not exist",
        "absent.nrrd": "does not exist",
        "scan.nrrd": "different labels",
        "floats.nrrd": "not whole numbers",
        "zeros.nrrd": "0 different labels",
        "vectors.nrrd": "3 values per voxel",
        "fractional.seg.nrrd": "fractional",
        "layers.seg.nrrd": "lies in layer 8",
        "short.seg.nrrd": "ends early",
        "text.seg.nrrd": "not an NRRD file",
    }
    for name, says in expected.items():
        with pytest.raises(InputError, match=says) as caught:
            read_segmentation(tmp_path / name)
        assert name in caught.value.message
        assert caught.value.remedy


def test_other_extensions_are_refused(axial, tmp_path):
    with pytest.raises(InputError, match="seg.nrrd"):
        write_segmentation(tmp_path / "thorax.nrrd", axial)


def test_a_segment_without_terminology_is_tissue_as_in_slicer(tmp_path):
    grid = GRIDS["axial"]
    segmentation = Segmentation((Segment("a", "a", (1, 0, 0)),), (lung_mask(grid).astype(np.uint8),), grid)
    again = read_segmentation(write_segmentation(tmp_path / "a.seg.nrrd", segmentation))
    assert again.segments[0].terminology.type == Code("SCT", "85756007", "Tissue")
