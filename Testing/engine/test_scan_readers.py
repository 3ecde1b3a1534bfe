"""Scans as people have them: pictures of every mode, odd DICOM, NIfTI with two places, against Slicer's readers."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from scipy.spatial.transform import Rotation
from support.dicom_series import write_series, write_xray
from support.scans import GRIDS, thorax
from xaiengine.core.errors import InputError
from xaiengine.io.grid import Grid
from xaiengine.io.volume_files import read_image2d, read_volume

GRAY = (np.arange(48 * 40).reshape(40, 48) % 251).astype(np.uint8)
"""Rows by columns."""


def pictures(folder):
    alpha = np.full_like(GRAY, 255)
    Image.fromarray(GRAY).save(folder / "gray.png")
    Image.fromarray(np.stack([GRAY] * 3, -1)).save(folder / "rgb.png")
    Image.fromarray(np.stack([GRAY] * 3 + [alpha], -1)).save(folder / "rgba.png")
    Image.fromarray(np.stack([GRAY, alpha], -1)).save(folder / "gray_alpha.png")
    Image.fromarray(GRAY).convert("P").save(folder / "palette.png")
    Image.fromarray(GRAY).save(folder / "gray.bmp")
    Image.fromarray(GRAY).save(folder / "gray.tif")
    Image.fromarray(GRAY.astype(np.uint16) * 200).save(folder / "sixteen.png")
    Image.fromarray(GRAY.astype(np.uint16) * 200).save(folder / "sixteen.tiff")
    Image.fromarray(GRAY.astype(np.float32) / 7).save(folder / "floats.tif")
    return {"sixteen.png": 200, "sixteen.tiff": 200, "floats.tif": 1 / 7}


def test_gray_pictures_are_gray_however_they_are_stored(tmp_path):
    factors = pictures(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        for read in (read_volume, read_image2d):
            volume = read(path)
            assert volume.picture and volume.array.shape == (48, 40, 1), path.name
            np.testing.assert_allclose(
                volume.array[..., 0].T, GRAY.astype(float) * factors.get(path.name, 1), rtol=1e-6
            )
    assert read_volume(tmp_path / "sixteen.png").array.max() == 250 * 200


def test_color_is_asked_for_and_transparency_is_said(tmp_path):
    color = np.stack([GRAY, GRAY // 2, 255 - GRAY], -1)
    Image.fromarray(color).save(tmp_path / "color.png")
    with pytest.raises(InputError, match="in color"):
        read_volume(tmp_path / "color.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "color.png", allow_channels=True).array[..., 0].T, color)
    clear = np.zeros_like(GRAY)
    clear[:20] = 255
    Image.fromarray(np.stack([GRAY] * 3 + [clear], -1)).save(tmp_path / "clear.png")
    read = read_volume(tmp_path / "clear.png")
    assert "Transparent" in read.notes[0]
    np.testing.assert_array_equal(read.array[:, :20, 0].T, GRAY[:20])
    assert read.array[:, 20:].max() == 0


def test_a_folder_of_pictures_is_no_scan(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "1.png")
    Image.fromarray(GRAY).save(tmp_path / "2.png")
    with pytest.raises(InputError, match="folder of pictures is not a scan"):
        read_volume(tmp_path)


def test_a_folder_of_one_volume_names_it(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="a.nii.gz"):
        read_volume(tmp_path)


# DICOM


def scan():
    return thorax(GRIDS["axial"])


@pytest.mark.parametrize(
    "empty",
    [
        ("RescaleSlope", "RescaleIntercept"),
        ("SamplesPerPixel",),
        ("NumberOfFrames",),
        ("SliceThickness",),
        ("PhotometricInterpretation",),
        ("SeriesDescription", "Modality"),
        ("InstanceNumber", "FrameOfReferenceUID"),
    ],
)
def test_empty_elements_count_as_absent(empty, tmp_path):
    body = scan()
    write_series(tmp_path, body.array, body.grid, **dict.fromkeys(empty))
    read = read_volume(tmp_path)
    np.testing.assert_array_equal(read.array, body.array)
    np.testing.assert_allclose(read.grid.affine, body.grid.affine, atol=1e-6)


def test_a_ct_without_rescaling_is_not_in_hu(tmp_path):
    body = scan()
    write_series(tmp_path / "none", body.array, body.grid, RescaleSlope=None, RescaleIntercept=None)
    read = read_volume(tmp_path / "none")
    assert read.unit == "" and "not HU" in read.notes[0]
    write_series(tmp_path / "density", body.array, body.grid, RescaleType="MGML")
    read = read_volume(tmp_path / "density")
    assert read.unit == "MGML" and "not in HU" in read.notes[0]
    write_series(tmp_path / "hu", body.array, body.grid)
    read = read_volume(tmp_path / "hu")
    assert read.unit == "HU" and not read.notes


def test_identifiers_stay_and_nested_series_are_chosen(tmp_path):
    body = scan()
    write_series(tmp_path / "a" / "b", body.array, body.grid, SeriesInstanceUID="1.2.5")
    assert read_volume(tmp_path).dicom["SeriesInstanceUID"] == "1.2.5"
    write_series(tmp_path / "c", body.array[..., ::-1] + 1, body.grid, SeriesInstanceUID="1.2.6")
    with pytest.raises(InputError, match="1.2.5.*1.2.6") as caught:
        read_volume(tmp_path)
    assert "--series" in caught.value.remedy
    read = read_volume(tmp_path, series_uid="1.2.6")
    np.testing.assert_array_equal(read.array, body.array[..., ::-1] + 1)
    assert read.dicom == {
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.6",
        "FrameOfReferenceUID": "1.2.3.4",
        "Modality": "CT",
    }


@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_files_without_preamble_are_read(suffix, tmp_path):
    body = scan()
    for number, file in enumerate(write_series(tmp_path / "with", body.array, body.grid)):
        dataset = pydicom.dcmread(file)
        del dataset.file_meta
        dataset.preamble = None
        (tmp_path / "without").mkdir(exist_ok=True)
        pydicom.dcmwrite(
            tmp_path / "without" / f"im{number}{suffix}",
            dataset,
            implicit_vr=True,
            little_endian=True,
            enforce_file_format=False,
        )
    start = next((tmp_path / "without").iterdir()).read_bytes()[:132]
    assert start[128:132] != b"DICM"
    np.testing.assert_array_equal(read_volume(tmp_path / "without").array, body.array)


def xray(folder, name="x.dcm", photometric="MONOCHROME2", **header):
    folder.mkdir(exist_ok=True)
    return write_xray(folder / name, GRAY.astype(np.uint16), photometric, BitsStored=12, HighBit=11, **header)


def test_xrays_are_pictures_by_file_and_by_folder(tmp_path):
    path = xray(tmp_path / "one", ImagerPixelSpacing=["0.2", "0.1"])
    for given in (path, path.parent):
        read = read_volume(given)
        assert read.picture and read.unit == ""
        np.testing.assert_array_equal(read.array[..., 0].T, GRAY)
        assert read.grid.spacing[:2] == pytest.approx((0.1, 0.2))
    low_is_white = read_volume(xray(tmp_path / "two", photometric="MONOCHROME1"))
    np.testing.assert_array_equal(low_is_white.array[..., 0].T, 4095 - GRAY.astype(int))


def table(values, first=0):
    item = Dataset()
    item.LUTDescriptor = [len(values), first, 16]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = [int(value) for value in values]
    item["LUTData"].VR = "US"
    return Sequence([item])


def test_look_up_tables_of_xrays_are_applied(tmp_path):
    squared = np.arange(256) ** 2 // 4
    modality = read_volume(xray(tmp_path / "m", ModalityLUTSequence=table(squared)))
    np.testing.assert_array_equal(modality.array[..., 0].T, squared[GRAY])
    voi = read_volume(xray(tmp_path / "v", VOILUTSequence=table(squared)))
    np.testing.assert_array_equal(voi.array[..., 0].T, squared[GRAY])
    assert "look-up table" in voi.notes[0]
    windowed = read_volume(xray(tmp_path / "w", WindowCenter="100", WindowWidth="20"))
    np.testing.assert_array_equal(windowed.array[..., 0].T, GRAY)


# NIfTI: where Slicer shows it

SFORM = np.eye(4)
SFORM[:3, :3] = Rotation.from_euler("xyz", [12, -20, 35], degrees=True).as_matrix() @ np.diag([0.8, 0.8, 2.5])
SFORM[:3, 3] = [5, 6, -3]
QFORM = np.diag([-0.8, -0.8, 2.5, 1.0])
QFORM[:3, 3] = [50, 60, -30]


def extremes(affine, shape):
    corners = Grid(shape, affine).corners()
    return np.array([corners.min(0), corners.max(0)])


@pytest.mark.parametrize("matrix", ["rotated", "sheared", "scaled"])
def test_nifti_lies_where_slicer_shows_it(matrix, tmp_path):
    slicer_readers = pytest.importorskip("support.slicer_readers", exc_type=ImportError)
    sform = SFORM.copy()
    if matrix == "sheared":
        sform[:3, 1] += 0.3 * sform[:3, 0]
    if matrix == "scaled":
        sform[:3, 0] *= 1.1
    array = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    compared = 0
    for s_code, q_code in itertools.product((0, 1, 2, 3), (0, 1, 2)):
        image = nibabel.Nifti1Image(array, None)
        image.set_sform(sform, code=s_code)
        image.set_qform(QFORM, code=q_code)
        image.header["pixdim"][1:4] = (0.8, 0.8, 2.5)
        path = tmp_path / f"{s_code}{q_code}.nii"
        nibabel.save(image, path)
        read = read_volume(path)
        if matrix == "sheared" and s_code and not q_code:
            assert "does not open" in read.notes[0]  # nor does Slicer
            continue
        shown = slicer_readers.read_with_slicer(path).affine
        np.testing.assert_allclose(extremes(read.grid.affine, array.shape), extremes(shown, array.shape), atol=1e-3)
        assert bool(read.notes) == bool((s_code and q_code) or not (s_code or q_code) or matrix == "scaled" and s_code)
        compared += 1
    assert compared >= 9
