"""Volumes that cannot be used: each is refused by name, with what is wrong and what to do."""

from __future__ import annotations

import errno
import os

import nibabel
import numpy as np
import pytest
from support.nrrd_text import write_nrrd_text
from support.scans import GRIDS, Ball, thorax
from xaiengine.core.errors import InputError, XAIError
from xaiengine.io.formats import nrrd_format
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Segmentation
from xaiengine.io.segmentation_files import read_segmentation, write_segmentation
from xaiengine.io.volume import Volume, check_volume
from xaiengine.io.volume_files import read_volume, write_volume

METAIMAGE_HEADER = (
    b"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    b"TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 2.4 2.4 3\nDimSize = 50 40 32\n"
    b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)


def bad_files(folder) -> dict[str, tuple[str, str]]:
    """Write every kind of bad file; name of the file -> (what the error says, what its remedy says)."""
    array = np.arange(24).reshape(2, 3, 4)
    placed = ("space: LPS", "space directions: (1,0,0) (0,1,0) (0,0,1)")
    write_nrrd_text(folder / "good.nrrd", array, *placed)
    good = (folder / "good.nrrd").read_bytes()
    (folder / "empty.nrrd").write_bytes(b"")
    (folder / "short.nrrd").write_bytes(good[:-10])
    (folder / "picture.nrrd").write_bytes(b"\x89PNG\r\n")
    (folder / "header_only.nrrd").write_bytes(good[:60])
    (folder / "short.nii.gz").write_bytes(b"\x1f\x8b\x08\x00 not really")
    (folder / "zeros.nii").write_bytes(bytes(400))
    (folder / "text.mha").write_text("ObjectType = Image\nhello\n")
    (folder / "short.mha").write_text("NDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n")
    (folder / "lost.mhd").write_text("NDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementDataFile = x.raw\n")
    (folder / "flat.mha").write_text("NDims = 2\nDimSize = 4 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n")
    (folder / "lost.nhdr").write_text(
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nencoding: raw\nendian: little\ndata file: lost.raw\n"
    )
    (folder / "notes.docx").write_text("hello")
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n")
    (folder / "lesions.seg.nrrd").write_bytes(good)
    write_nrrd_text(folder / "scanner.nrrd", array, "space: scanner-xyz", placed[1])
    write_nrrd_text(folder / "flat.nrrd", array[0], "space: LPS", "space directions: (1,0,0) (0,1,0)")
    write_nrrd_text(folder / "plane.nrrd", array[0])
    write_nrrd_text(folder / "time.nrrd", np.zeros((2, 3, 4, 5)))
    color = ("space: LPS", "space directions: none (1,0,0) (0,1,0) (0,0,1)", "kinds: RGB-color domain domain domain")
    write_nrrd_text(folder / "color.nrrd", np.zeros((3, 2, 3, 4)), *color)
    write_nrrd_text(folder / "zero.nrrd", array, placed[0], "space directions: (1,0,0) (0,0,0) (0,0,1)")
    write_nrrd_text(folder / "singular.nrrd", array, placed[0], "space directions: (1,0,0) (1,0,0) (0,0,1)")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4, 5), np.int16), np.eye(4)), folder / "time.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 9), np.int16), np.eye(4)), folder / "flat.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.complex64), np.eye(4)), folder / "complex.nii")
    return {
        "absent.nrrd": ("does not exist", "path"),
        "empty.nrrd": ("file is empty", "again"),
        "short.nrrd": ("promises 48 bytes of values; the file can hold 38", "copy it again"),
        "picture.nrrd": ("not an NRRD file", "3D Slicer"),
        "header_only.nrrd": ("damaged, incomplete", "3D Slicer"),
        "short.nii.gz": ("damaged, incomplete", "3D Slicer"),
        "zeros.nii": ("damaged, incomplete", "3D Slicer"),
        "text.mha": ("not a MetaImage", "3D Slicer"),
        "short.mha": ("promises 128 bytes of values; the file can hold 0", "again"),
        "lost.mhd": ("x.raw, is missing", "same folder"),
        "lost.nhdr": ("lost.raw, is missing", "same folder"),
        "flat.mha": ("2 dimensions", "three-dimensional"),
        "notes.docx": ("extension", "save it as .nrrd"),
        "photo.png": ("damaged, incomplete", "copy it again"),
        "lesions.seg.nrrd": ("is a segmentation", "as segmentation"),
        "scanner.nrrd": ("scanner-xyz", "3D Slicer"),
        "flat.nrrd": ("2 spatial dimensions", "three-dimensional"),
        "plane.nrrd": ("2 spatial dimensions", "three-dimensional"),
        "time.nrrd": ("4 dimensions", "three-dimensional"),
        "color.nrrd": ("3 values per voxel", "extract one component"),
        "zero.nrrd": ("spacing of the voxels is 1 x 0 x 1", "Correct the geometry"),
        "singular.nrrd": ("singular", "Correct the geometry"),
        "time.nii.gz": ("5 values per voxel", "time point"),
        "flat.nii.gz": ("2 dimensions", "three-dimensional"),
        "complex.nii": ("complex numbers", "scalar volume"),
    }


def test_bad_files_are_refused_by_name_with_what_is_wrong_and_what_to_do(tmp_path):
    for name, (says, remedy) in bad_files(tmp_path).items():
        with pytest.raises(InputError) as caught:
            read_volume(tmp_path / name)
        assert name.split(".")[0] in caught.value.message, name
        assert says in caught.value.message, (name, caught.value.message)
        assert remedy in caught.value.remedy, (name, caught.value.remedy)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    write_nrrd_text(tmp_path / "scan.nrrd", np.zeros((2, 3, 4)))

    def forbidden(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(nrrd_format, "read_nrrd", forbidden)
    with pytest.raises(InputError, match="scan.nrrd may not be read"):
        read_volume(tmp_path / "scan.nrrd")


@pytest.mark.parametrize(
    "shape, fill, says",
    [
        ((20, 20, 20), lambda array: array.fill(5), "every voxel has the value 5"),
        ((20, 20, 20), lambda array: array.fill(np.nan), "8000 values that are not numbers"),
        ((20, 20, 20), lambda array: np.put(array, [3, 4], [np.nan, np.inf]), "2 values that are not numbers"),
        ((200, 200, 1), lambda array: None, "two-dimensional"),
        ((10, 1, 200), lambda array: None, "two-dimensional"),
        ((10, 10, 10), lambda array: None, "too small: 10 x 10 x 10"),
        ((5, 2, 2), lambda array: None, "too small"),
    ],
)
def test_volumes_that_say_nothing_are_refused(shape, fill, says):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    fill(array)
    with pytest.raises(InputError, match=says) as caught:
        check_volume(Volume(array, Grid(shape, np.eye(4)), "scan"))
    assert "scan" in caught.value.message
    assert caught.value.remedy


def test_good_volumes_pass():
    for grid in GRIDS.values():
        check_volume(thorax(grid))
    check_volume(Volume(np.arange(100.0).reshape(10, 10, 1), Grid((10, 10, 1), np.eye(4))), allow_2d=True)


def test_an_array_that_does_not_fit_its_grid_is_refused():
    with pytest.raises(InputError, match=r"\(2, 2, 2\)"):
        Volume(np.zeros((2, 2, 2)), Grid((2, 2, 3), np.eye(4)))


@pytest.mark.parametrize("extension", [".nrrd", ".nii", ".nii.gz", ".mha", ".seg.nrrd"])
def test_damaged_bytes_never_cause_anything_but_our_own_errors(extension, tmp_path):
    """A few hundred files with bytes of their headers changed at random: each is read, or refused in words."""
    axial_scan = thorax(GRIDS["axial"], [Ball()])
    write = {
        ".nrrd": lambda path: write_volume(path, axial_scan),
        ".seg.nrrd": lambda path: write_segmentation(
            path, Segmentation.from_labels(axial_scan.array, axial_scan.grid)
        ),
        ".mha": lambda path: path.write_bytes(METAIMAGE_HEADER + axial_scan.array.tobytes(order="F")),
    }
    path = tmp_path / f"scan{extension}"
    write.get(extension, lambda path: nibabel.save(nibabel.Nifti1Image(axial_scan.array, np.eye(4)), path))(path)
    good = path.read_bytes()
    read = read_segmentation if extension == ".seg.nrrd" else read_volume
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(good)
        for position in random.integers(0, min(len(good), 400), random.integers(1, 6)):
            damaged[position] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read(path)
            outcomes.add("read")
        except XAIError as error:
            assert path.name in error.message
            assert error.remedy
            outcomes.add("refused")
    assert "refused" in outcomes
