"""Files whose headers promise, hide or invent: each is read rightly or refused in words, in bounded memory."""

from __future__ import annotations

import gzip
import zlib

import nibabel
import numpy as np
import pytest
from support.nrrd_text import write_nrrd_text
from xaiengine.core.errors import InputError, XAIError
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume, check_volume
from xaiengine.io.volume_files import read_volume

PLACED = ("space: LPS", "space directions: (1,0,0) (0,1,0) (0,0,1)")
VALUES = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def nrrd_file(path, body: bytes, *fields: str, sizes: str = "2 3 4", encoding: str = "raw"):
    header = ["NRRD0005", "type: int16", "dimension: 3", f"sizes: {sizes}", f"encoding: {encoding}", "endian: little"]
    path.write_bytes("\n".join([*header, *PLACED, *fields, "", ""]).encode() + body)
    return path


def metaimage(path, body: bytes, *fields: str, size: str = "2 3 4"):
    header = ["ObjectType = Image", "NDims = 3", *fields, f"DimSize = {size}", "ElementType = MET_SHORT"]
    path.write_bytes("\n".join([*header, "ElementDataFile = LOCAL", ""]).encode() + body)
    return path


BODY = VALUES.tobytes(order="F")


def test_nrrd_skips_lines_and_bytes_as_its_header_says(tmp_path):
    for fields, body in (
        (("line skip: 2",), b"a title\nanother\n" + BODY),
        (("byte skip: 5",), b"12345" + BODY),
        (("byte skip: -1",), b"any length" + BODY),
        (("line skip: 1", "byte skip: 3"), b"a title\nxyz" + BODY),
    ):
        read = read_volume(nrrd_file(tmp_path / "scan.nrrd", body, *fields))
        np.testing.assert_array_equal(read.array, VALUES)


@pytest.mark.parametrize("kind", ["gzip", "bzip2"])
def test_nrrd_encodings(kind, tmp_path):
    import bz2

    packed = gzip.compress(BODY[:20]) + gzip.compress(BODY[20:]) if kind == "gzip" else bz2.compress(BODY)
    read = read_volume(nrrd_file(tmp_path / "scan.nrrd", packed, encoding=kind))
    np.testing.assert_array_equal(read.array, VALUES)


def test_values_written_as_text_are_read_as_numbers(tmp_path):
    text = " ".join(map(str, VALUES.ravel(order="F"))).encode()
    np.testing.assert_array_equal(read_volume(nrrd_file(tmp_path / "scan.nrrd", text, encoding="ascii")).array, VALUES)
    np.testing.assert_array_equal(
        read_volume(metaimage(tmp_path / "scan.mha", text, "BinaryData = False")).array, VALUES
    )
    with pytest.raises(InputError, match="holds 23 of 24"):
        short = b" ".join([*text.split()[:23], b"          "])
        read_volume(metaimage(tmp_path / "short.mha", short, "BinaryData = False"))


def lying_files(folder):
    bomb = zlib.compress(bytes(1 << 26), 9)
    yield nrrd_file(folder / "lines.nrrd", BODY, "line skip: 1000000000000"), "skips"
    yield nrrd_file(folder / "fewer.nrrd", BODY, "line skip: 900"), "has fewer"
    yield nrrd_file(folder / "back.nrrd", BODY, "byte skip: -7"), "skips"
    yield nrrd_file(folder / "huge.nrrd", BODY, sizes="90000 90000 90000"), "promises"
    yield nrrd_file(folder / "huge_gz.nrrd", gzip.compress(BODY), sizes="9000 9000 900", encoding="gzip"), "promises"
    yield nrrd_file(folder / "short_gz.nrrd", gzip.compress(BODY), sizes="4 5 6", encoding="gzip"), "ends early"
    yield nrrd_file(folder / "bomb.nrrd", gzip.compress(bytes(1 << 28)), encoding="gzip"), "more values"
    yield nrrd_file(folder / "cut.nrrd", gzip.compress(BODY)[:-20], encoding="gzip"), "ends early"
    yield nrrd_file(folder / "none.nrrd", BODY, sizes="0 3 4"), "empty"
    yield nrrd_file(folder / "nan.nrrd", BODY, "space origin: (nan,0,0)"), "origin"
    yield nrrd_file(folder / "inf.nrrd", BODY, "space origin: (0,inf,0)"), "origin"
    yield nrrd_file(folder / "far.nrrd", BODY, "space origin: (0,1e12,0)"), "outside any patient"
    yield nrrd_file(folder / "hex.nrrd", BODY, encoding="hex"), "encoding"
    yield metaimage(folder / "bomb.mha", bomb, "CompressedData = True"), "more values"
    yield metaimage(folder / "huge.mha", bomb, "CompressedData = True", size="99999 99999 99999"), "promises"
    yield metaimage(folder / "channels.mha", BODY, "ElementNumberOfChannels = 0"), "empty"
    yield metaimage(folder / "negative.mha", BODY, size="-2 3 4"), "empty"
    yield metaimage(folder / "both.mha", BODY, "BinaryData = False", "CompressedData = True"), "text and compressed"
    yield metaimage(folder / "spacing.mha", BODY, "ElementSpacing = 1e9 1 1"), "outside any patient"
    yield metaimage(folder / "origin.mha", BODY, "Offset = nan 0 0"), "finite"
    image = nibabel.Nifti1Image(VALUES, np.eye(4))
    nibabel.save(image, folder / "dims.nii")
    content = bytearray((folder / "dims.nii").read_bytes())
    content[42:48] = np.array([30000] * 3, "<i2").tobytes()
    (folder / "dims.nii").write_bytes(content)
    yield folder / "dims.nii", "promises"
    (folder / "dims.nii.gz").write_bytes(gzip.compress(bytes(content)))
    yield folder / "dims.nii.gz", "promises"


def test_lying_files_are_refused_by_name_without_taking_what_they_ask_for(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path, says in lying_files(tmp_path):
        with pytest.raises(XAIError) as caught:
            read_volume(path)
        assert says in caught.value.message and path.name in caught.value.message, caught.value.message
        assert caught.value.remedy
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700_000


def test_values_that_no_scanner_measures_are_refused():
    array = np.full((20, 20, 20), 5.0, np.float32)
    array[3, 3, 3] = 3e38
    with pytest.raises(InputError, match="no scanner"):
        check_volume(Volume(array, Grid((20, 20, 20), np.eye(4)), "scan"))


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.seg.nrrd", "scan.nii.gz", "scan.mha", "scan.png", "scan.dcm"])
def test_git_lfs_pointers_are_named(name, tmp_path):
    from xaiengine.io.segmentation_files import read_segmentation

    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 9\n")
    read = read_segmentation if ".seg." in name else read_volume
    with pytest.raises(InputError, match="Git LFS pointer.*git lfs pull"):
        read(tmp_path / name)


def test_good_files_still_come_back(tmp_path):
    write_nrrd_text(tmp_path / "scan.nrrd", VALUES, *PLACED)
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nrrd").array, VALUES)
