"""DICOM series: slices found, chosen, ordered, scaled and placed."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless
from support.dicom_series import write_multiframe, write_series, write_xray
from support.scans import GRIDS, SHEARED, Ball, thorax
from xaiengine.core.errors import InputError
from xaiengine.io.volume_files import read_image2d, read_volume

# Slices are stacked along the cross product of rows and columns, so what is stored is always right-handed.
STORED = {name: grid for name, grid in GRIDS.items() if grid.handedness > 0}


@pytest.fixture(params=STORED, ids=str)
def scan(request):
    return thorax(STORED[request.param], [Ball()])


def test_a_series_is_read_as_it_lies_in_the_patient(scan, tmp_path):
    write_series(tmp_path, scan.array, scan.grid)
    read = read_volume(tmp_path)
    np.testing.assert_array_equal(read.array, scan.array)
    np.testing.assert_allclose(read.grid.affine, scan.grid.affine, atol=1e-6)
    assert (read.array.dtype, read.unit) == (np.int16, "HU")


def test_a_series_is_called_by_its_number_or_folder_and_never_by_free_text(tmp_path):
    scan = thorax(GRIDS["axial"], [Ball()])
    write_series(tmp_path / "numbered", scan.array, scan.grid, SeriesNumber=7, SeriesDescription="Smith, lung cancer")
    write_series(tmp_path / "without", scan.array, scan.grid, SeriesDescription="Smith, lung cancer")
    assert read_volume(tmp_path / "numbered").name == "Series 7"
    assert read_volume(tmp_path / "without").name == "without"


def test_slices_stored_from_the_far_end_are_turned_to_a_right_handed_volume(tmp_path):
    scan = thorax(GRIDS["left_handed"], [Ball()])
    write_series(tmp_path, scan.array, scan.grid)
    read = read_volume(tmp_path)
    assert read.grid.handedness == 1
    np.testing.assert_array_equal(read.array, scan.array[:, :, ::-1])
    np.testing.assert_allclose(read.grid.index_to_ras((3, 4, 0)), scan.grid.index_to_ras((3, 4, 31)), atol=1e-6)


def test_slicer_places_the_series_as_we_do(scan, tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    files = write_series(tmp_path, scan.array, scan.grid)
    read = slicer_readers.read_with_slicer(files[0], series=files)
    ours = read_volume(tmp_path)
    np.testing.assert_array_equal(read.array, ours.array)
    np.testing.assert_allclose(read.affine, ours.grid.affine, atol=1e-6)


def test_one_file_stands_for_its_series(tmp_path):
    one, two = thorax(GRIDS["axial"]), thorax(GRIDS["axial"], [Ball()])
    write_series(tmp_path / "one", one.array, one.grid)
    files = write_series(tmp_path / "two", two.array, two.grid)
    np.testing.assert_array_equal(read_volume(files[3]).array, two.array)


def test_a_tilted_gantry_gives_an_exact_sheared_grid(tmp_path):
    scan = thorax(SHEARED, [Ball()])
    write_series(tmp_path, scan.array, scan.grid)
    read = read_volume(tmp_path)
    np.testing.assert_allclose(read.grid.affine, SHEARED.affine, atol=1e-6)
    np.testing.assert_array_equal(read.array, scan.array)


def test_values_are_rescaled_and_stay_integers_where_they_can(tmp_path):
    grid = GRIDS["axial"]
    stored = np.random.default_rng(0).integers(0, 4000, grid.shape).astype(np.uint16)
    write_series(tmp_path / "ct", stored, grid, RescaleSlope="1", RescaleIntercept="-1024")
    read = read_volume(tmp_path / "ct")
    assert read.array.dtype == np.int16
    np.testing.assert_array_equal(read.array, stored.astype(int) - 1024)
    write_series(tmp_path / "pet", stored, grid, RescaleSlope="0.25", RescaleIntercept="0", Modality="PT")
    read = read_volume(tmp_path / "pet")
    assert (read.array.dtype, read.unit) == (np.float32, "")
    np.testing.assert_allclose(read.array, stored * 0.25)


def test_low_values_for_white_are_inverted(tmp_path):
    grid = GRIDS["axial"]
    stored = np.random.default_rng(0).integers(0, 4096, grid.shape).astype(np.uint16)
    header = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11, "Modality": "MR"}
    write_series(tmp_path, stored, grid, **header)
    np.testing.assert_array_equal(read_volume(tmp_path).array, 4095 - stored.astype(int))


def test_a_volume_in_one_enhanced_file(scan, tmp_path):
    path = write_multiframe(tmp_path / "enhanced.dcm", scan.array, scan.grid, intercept=-7)
    read = read_volume(path)
    np.testing.assert_array_equal(read.array, scan.array - 7)
    np.testing.assert_allclose(read.grid.affine, scan.grid.affine, atol=1e-6)


def test_several_series_are_named_and_can_be_chosen(tmp_path):
    scan, other = thorax(GRIDS["axial"], [Ball()]), thorax(GRIDS["cropped"])
    write_series(tmp_path / "a", scan.array, scan.grid, SeriesInstanceUID="1.2.3.5", SeriesDescription="Lung B60")
    write_series(tmp_path / "b", other.array, other.grid, SeriesInstanceUID="1.2.3.6", SeriesDescription="Scout")
    with pytest.raises(InputError) as caught:
        read_volume(tmp_path)
    for word in ("2 image series", "'Lung B60' (CT, 32 images, UID 1.2.3.5", "'Scout' (CT, 24 images, UID 1.2.3.6"):
        assert word in caught.value.message
    assert "Choose one" in caught.value.remedy
    np.testing.assert_array_equal(read_volume(tmp_path, series_uid="1.2.3.5").array, scan.array)
    with pytest.raises(InputError, match="no series 9.9"):
        read_volume(tmp_path, series_uid="9.9")


def remove_a_slice(files):
    files[10].unlink()


def double_a_slice(files):
    pydicom.dcmread(files[10]).save_as(files[10].with_name("copy.dcm"))


def tilt_a_slice(files):
    change(files[0], ImageOrientationPatient=[0, 1, 0, 0, 0, 1])


def move_a_slice(files):
    position = pydicom.dcmread(files[5]).ImagePositionPatient
    change(files[5], ImagePositionPatient=[position[0] + 3, position[1], position[2]])


def crop_a_slice(files):
    change(files[0], Rows=20, PixelData=pydicom.dcmread(files[0]).PixelData[: 20 * 50 * 2])


def lose_the_place(files):
    for file in files:
        dataset = pydicom.dcmread(file)
        del dataset.ImagePositionPatient
        dataset.save_as(file)


def color_it(files):
    for file in files:
        change(file, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)


def collapse(files):
    for file in files:
        change(file, PixelSpacing=[0, 0])


def pretend_compression(files):
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        dataset.PixelData = pydicom.encaps.encapsulate([b"nothing "])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(file)


def remove_everything(files):
    for file in files:
        file.unlink()


def change(file, **attributes) -> None:
    dataset = pydicom.dcmread(file)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(file)


@pytest.mark.parametrize(
    "damage, says",
    [
        (remove_a_slice, "not evenly spaced.*missing after"),
        (double_a_slice, "same place"),
        (tilt_a_slice, "differ in size, orientation or spacing"),
        (crop_a_slice, "differ in size, orientation or spacing"),
        (move_a_slice, "not evenly spaced"),
        (lose_the_place, "lack ImagePositionPatient"),
        (color_it, "in color"),
        (collapse, "spacing"),
        (pretend_compression, "JPEG-LS.*could not be decoded"),
        (remove_everything, "no DICOM images"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_series_are_refused_with_what_is_wrong_and_what_to_do(damage, says, tmp_path):
    scan = thorax(GRIDS["axial"])
    damage(write_series(tmp_path, scan.array, scan.grid))
    with pytest.raises(InputError, match=says) as caught:
        read_volume(tmp_path)
    assert caught.value.remedy


def test_other_files_beside_the_images_do_no_harm(tmp_path):
    scan = thorax(GRIDS["axial"])
    write_series(tmp_path, scan.array, scan.grid)
    (tmp_path / "DICOMDIR").write_bytes(b"not one")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    np.testing.assert_array_equal(read_volume(tmp_path).array, scan.array)


# Two-dimensional images


def test_an_xray_with_low_values_for_white_is_inverted_and_has_its_spacing(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 1024, (30, 20)).astype(np.uint16)
    header = {"BitsStored": 10, "HighBit": 9, "ImagerPixelSpacing": [0.2, 0.1]}
    path = write_xray(tmp_path / "chest.dcm", pixels, "MONOCHROME1", **header)
    image = read_image2d(path)
    np.testing.assert_array_equal(image.array[:, :, 0], 1023 - pixels.T.astype(int))
    assert image.grid.spacing == pytest.approx((0.1, 0.2, 1.0))


def test_a_device_that_says_no_spacing_gets_one_millimeter(tmp_path):
    path = write_xray(tmp_path / "chest.dcm", np.eye(5, dtype=np.uint16), "MONOCHROME2", PixelSpacing=[0, 0])
    assert read_image2d(path).grid.spacing == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("extension, dtype", [(".png", "uint8"), (".png", "uint16"), (".tif", "uint8")])
def test_pictures_have_i_to_the_right_and_j_down(extension, dtype, tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (30, 20)).astype(dtype)
    image_module.fromarray(pixels).save(tmp_path / f"picture{extension}")
    read = read_image2d(tmp_path / f"picture{extension}")
    assert read.array.dtype == dtype
    np.testing.assert_array_equal(read.array[:, :, 0], pixels.T)
    np.testing.assert_array_equal(read.grid.affine, np.diag([-1, -1, 1, 1]))


def test_color_pictures_have_their_channels_first(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (30, 20, 3)).astype(np.uint8)
    image_module.fromarray(pixels).save(tmp_path / "fundus.png")
    image = read_image2d(tmp_path / "fundus.png", allow_color=True)
    np.testing.assert_array_equal(image.array[..., 0], pixels.transpose(2, 1, 0))
    with pytest.raises(InputError, match="fundus.png: the image is in color"):
        read_image2d(tmp_path / "fundus.png")


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "notes.txt").write_text("hello")
    for name, says in (("absent.png", "does not exist"), ("broken.png", "damaged"), ("notes.txt", "not an image")):
        with pytest.raises(InputError, match=says):
            read_image2d(tmp_path / name)
