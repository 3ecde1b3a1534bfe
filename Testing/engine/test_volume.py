"""Reading and writing volumes: against nibabel, pynrrd, pydicom and 3D Slicer's own readers and writers."""

from __future__ import annotations

import errno
import os

import nibabel
import nrrd
import numpy as np
import pytest
from support.nrrd_text import write_nrrd_text
from support.scans import GRIDS, SHEARED, Ball, thorax
from xaiengine.core import atomic
from xaiengine.core.errors import InputError, ResourceError
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume, write_volume

ALL_GRIDS = {**GRIDS, "sheared": SHEARED}
TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")


@pytest.fixture(params=ALL_GRIDS, ids=str)
def scan(request) -> Volume:
    return thorax(ALL_GRIDS[request.param], [Ball()])


@pytest.fixture
def axial_scan() -> Volume:
    return thorax(GRIDS["axial"], [Ball()])


def assert_same_patient(array: np.ndarray, affine: np.ndarray, volume: Volume, tolerance: float = 1e-4) -> None:
    """Both show the same value at every point, also where the axes are flipped against each other."""
    other = Grid(array.shape, affine)
    indices = np.stack(np.meshgrid(*[np.arange(size) for size in array.shape], indexing="ij"), axis=-1)
    position = volume.grid.ras_to_index(other.index_to_ras(indices))
    nearest = np.rint(position).astype(int)
    assert np.abs(position - nearest).max() < tolerance
    np.testing.assert_array_equal(volume.array[tuple(np.moveaxis(nearest, -1, 0))], array)


# What we write


@pytest.mark.parametrize("reader", ["archetype", "nrrd"])
def test_slicer_reads_what_we_wrote(scan, reader, tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    write_volume(tmp_path / "scan.nrrd", scan)
    read = slicer_readers.read_with_slicer(tmp_path / "scan.nrrd", reader)
    assert read.array.dtype == scan.array.dtype
    assert_same_patient(read.array, read.affine, scan)
    if scan.grid.handedness > 0 or reader == "nrrd":
        np.testing.assert_array_equal(read.array, scan.array)
        np.testing.assert_allclose(read.affine, scan.grid.affine, atol=1e-9)


@pytest.mark.parametrize("dtype", TYPES)
def test_slicer_reads_every_scalar_type_that_we_write(axial_scan, dtype, tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    values = np.random.default_rng(0).integers(0, 100, axial_scan.grid.shape).astype(dtype)
    write_volume(tmp_path / "scan.nrrd", axial_scan.with_array(values))
    read = slicer_readers.read_with_slicer(tmp_path / "scan.nrrd")
    assert read.array.dtype == values.dtype
    np.testing.assert_array_equal(read.array, values)


def test_the_header_is_in_slicers_convention(axial_scan, tmp_path):
    _, header = nrrd.read(str(write_volume(tmp_path / "scan.nrrd", axial_scan)))
    assert header["space"] == "left-posterior-superior"
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ axial_scan.grid.affine
    np.testing.assert_array_equal(header["space directions"], lps[:3, :3].T)
    np.testing.assert_array_equal(header["space origin"], lps[:3, 3])
    assert header["kinds"] == ["domain"] * 3
    assert header["encoding"] == "gzip"


def test_a_volume_comes_back_as_it_was(scan, tmp_path):
    write_volume(tmp_path / "scan.nrrd", scan)
    again = read_volume(tmp_path / "scan.nrrd")
    assert again.array.dtype == scan.array.dtype
    np.testing.assert_array_equal(again.array, scan.array)
    np.testing.assert_array_equal(again.grid.affine, scan.grid.affine)
    assert (again.name, again.unit) == ("scan", "HU")


def test_channels_come_back_as_they_were(axial_scan, tmp_path):
    channels = np.stack([axial_scan.array, axial_scan.array * 2, -axial_scan.array])
    write_volume(tmp_path / "scan.nrrd", axial_scan.with_array(channels))
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nrrd", allow_channels=True).array, channels)


def test_booleans_and_half_floats_are_written_in_types_that_nrrd_has(axial_scan, tmp_path):
    write_volume(tmp_path / "mask.nrrd", axial_scan.with_array(axial_scan.array > 0))
    assert read_volume(tmp_path / "mask.nrrd").array.dtype == np.uint8
    write_volume(tmp_path / "half.nrrd", axial_scan.with_array(axial_scan.array.astype(np.float16)))
    assert read_volume(tmp_path / "half.nrrd").array.dtype == np.float32


def test_equal_volumes_give_equal_bytes(axial_scan, tmp_path):
    one = write_volume(tmp_path / "one.nrrd", axial_scan).read_bytes()
    other_order = axial_scan.with_array(np.asfortranarray(axial_scan.array))
    assert write_volume(tmp_path / "two.nrrd", other_order).read_bytes() == one


def test_complex_values_and_other_extensions_are_refused(axial_scan, tmp_path):
    with pytest.raises(InputError, match="complex"):
        write_volume(tmp_path / "scan.nrrd", axial_scan.with_array(axial_scan.array.astype(complex)))
    with pytest.raises(InputError, match="scan.nii"):
        write_volume(tmp_path / "scan.nii", axial_scan)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_nothing_else(axial_scan, tmp_path, monkeypatch):
    path = tmp_path / "scan.nrrd"
    path.write_bytes(b"the old file")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(ResourceError, match="disk is full") as caught:
        write_volume(path, axial_scan)
    assert "Free some space" in caught.value.remedy
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.nrrd"]
    assert path.read_bytes() == b"the old file"


def test_an_error_on_the_way_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic.written_whole(tmp_path / "result.csv") as temporary:
        temporary.write_text("half a ta")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(axial_scan, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="could not be written"):
        write_volume(tmp_path / "file" / "scan.nrrd", axial_scan)


# What others wrote


@pytest.mark.parametrize("extension", [".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd"])
def test_we_read_what_slicer_wrote(scan, extension, tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    if scan.grid.is_sheared and extension.startswith(".nii"):
        pytest.skip("Slicer straightens sheared axes when it writes NIfTI")
    path = tmp_path / f"scan{extension}"
    slicer_readers.write_with_slicer(path, scan.array, scan.grid.affine)
    read = read_volume(path)
    assert read.array.dtype == scan.array.dtype
    assert read.name == "scan"
    assert_same_patient(read.array, read.grid.affine, scan)


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".mha"])
@pytest.mark.parametrize("dtype", [dtype for dtype in TYPES if dtype != "int8"])  # which Slicer does not write
def test_we_keep_the_scalar_type_that_slicer_wrote(dtype, extension, tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    values = np.random.default_rng(0).integers(0, 100, (5, 6, 7)).astype(dtype)
    slicer_readers.write_with_slicer(tmp_path / f"scan{extension}", values, np.diag([-1, -1, 1.0, 1]))
    read = read_volume(tmp_path / f"scan{extension}")
    assert read.array.dtype == values.dtype
    np.testing.assert_array_equal(read.array, values)


@pytest.mark.parametrize("code", ["sform", "qform"])
def test_nifti_affines(scan, code, tmp_path):
    image = nibabel.Nifti1Image(scan.array, None)
    if code == "qform":
        if scan.grid.is_sheared:
            pytest.skip("a qform cannot shear")
        image.set_sform(None, 0)
        image.set_qform(scan.grid.affine, 1)
    else:
        image.set_sform(scan.grid.affine, 1)
        image.header.set_zooms(scan.grid.spacing)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    read = read_volume(tmp_path / "scan.nii.gz")
    np.testing.assert_allclose(read.grid.affine, scan.grid.affine, atol=1e-4)
    np.testing.assert_array_equal(read.array, scan.array)


@pytest.mark.parametrize(
    "slope, intercept, dtype", [(1, 0, "int16"), (1, -1024, "int16"), (2, 0.5, "float32"), (0.01, 0, "float32")]
)
def test_nifti_slope_and_intercept(slope, intercept, dtype, tmp_path):
    stored = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    path = tmp_path / "scan.nii"
    nibabel.save(image, path)
    header = bytearray(path.read_bytes())
    header[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(header)
    read = read_volume(path)
    assert read.array.dtype == dtype
    np.testing.assert_allclose(read.array, stored * slope + intercept, rtol=1e-6)


@pytest.mark.parametrize("unit, factor", [("meter", 1000), ("micron", 0.001), ("mm", 1)])
def test_nifti_lengths_become_mm(unit, factor, tmp_path):
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([2.0, 3, 4, 1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "scan.nii")
    assert read_volume(tmp_path / "scan.nii").grid.spacing == pytest.approx((2 * factor, 3 * factor, 4 * factor))


@pytest.mark.parametrize(
    "space, signs",
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("LAS", (-1, 1, 1)),
    ],
)
def test_nrrd_spaces(space, signs, tmp_path):
    array = np.arange(24).reshape(2, 3, 4)
    fields = (f"space: {space}", "space directions: (2,0,0) (0,3,0.5) (0,0,4)", "space origin: (5,6,7)")
    write_nrrd_text(tmp_path / "scan.nrrd", array, *fields)
    read = read_volume(tmp_path / "scan.nrrd")
    flip = np.diag([*signs, 1.0])
    expected = flip @ np.array([[2, 0, 0, 5], [0, 3, 0, 6], [0, 0.5, 4, 7], [0, 0, 0, 1]])
    np.testing.assert_array_equal(read.grid.affine, expected)
    np.testing.assert_array_equal(read.array, array)


@pytest.mark.parametrize("fields", [(), ("spacings: 2 3 4",), ("kinds: domain domain domain", "spacings: 2 3 4")])
def test_nrrd_without_directions_lies_as_slicer_lays_it(fields, tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    write_nrrd_text(tmp_path / "scan.nrrd", np.arange(24).reshape(2, 3, 4), *fields)
    expected = slicer_readers.read_with_slicer(tmp_path / "scan.nrrd").affine
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nrrd").grid.affine, expected)


@pytest.mark.parametrize("axis", [0, 3])
def test_nrrd_channels_come_first_wherever_they_are_stored(axis, tmp_path):
    channels = np.arange(48).reshape(2, 2, 3, 4)
    directions = ["(1,0,0)", "(0,1,0)", "(0,0,1)"]
    directions.insert(axis, "none")
    kinds = ["domain"] * 3
    kinds.insert(axis, "vector")
    fields = ("space: LPS", "space directions: " + " ".join(directions), "kinds: " + " ".join(kinds))
    write_nrrd_text(tmp_path / "scan.nrrd", np.moveaxis(channels, 0, axis), *fields)
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nrrd", allow_channels=True).array, channels)


def test_nrrd_with_one_channel_is_a_scalar_volume(tmp_path):
    fields = ("space: LPS", "space directions: none (1,0,0) (0,1,0) (0,0,1)", "kinds: list domain domain domain")
    write_nrrd_text(tmp_path / "scan.nrrd", np.arange(24).reshape(1, 2, 3, 4), *fields)
    assert read_volume(tmp_path / "scan.nrrd").array.shape == (2, 3, 4)


def test_metaimage_channels_and_big_endian(tmp_path):
    channels = np.arange(72).reshape(3, 2, 3, 4)
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = True\nDimSize = 2 3 4\n"
        "ElementNumberOfChannels = 3\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    (tmp_path / "scan.mha").write_bytes(header.encode() + channels.astype(">i2").tobytes(order="F"))
    read = read_volume(tmp_path / "scan.mha", allow_channels=True)
    np.testing.assert_array_equal(read.array, channels)
    with pytest.raises(InputError, match="3 values per voxel"):
        read_volume(tmp_path / "scan.mha")


def test_arrays_may_be_big_endian_in_every_format(tmp_path):
    array = np.arange(120, dtype=">i2").reshape(4, 5, 6)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), nibabel.Nifti1Header(endianness=">")), tmp_path / "scan.nii")
    nrrd.write(str(tmp_path / "scan.nrrd"), array)
    for name in ("scan.nii", "scan.nrrd"):
        read = read_volume(tmp_path / name)
        assert read.array.dtype.isnative
        np.testing.assert_array_equal(read.array, array)


def test_nifti_with_trailing_axes_of_one_is_a_scalar_volume(tmp_path):
    array = np.arange(120, dtype=np.int16).reshape(4, 5, 6, 1, 1)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "scan.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii").array, array[..., 0, 0])


def test_nifti_colors_and_time_points_are_channels(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
    colors = np.ascontiguousarray(values).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.save(nibabel.Nifti1Image(colors, np.eye(4)), tmp_path / "color.nii")
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "time.nii")
    for name in ("color.nii", "time.nii"):
        read = read_volume(tmp_path / name, allow_channels=True)
        np.testing.assert_array_equal(read.array, np.moveaxis(values, -1, 0))
