"""Finds DICOM images: in folders and their subfolders, with or without preamble, by series."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ...core.errors import InputError
from .file_names import PICTURES, format_suffix

_FIRST_GROUPS = (0x0002, 0x0008)
SERIES_REMEDY = "Choose one by its series instance UID: --series UID (the option series), or give one of its files."


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its signature, or by elements of group 2 or 8 at its beginning."""
    with path.open("rb") as stream:
        start = stream.read(132)
    if start[128:132] == b"DICM":
        return True
    return len(start) >= 8 and _element_follows(start)


def _element_follows(start: bytes) -> bool:
    group, element = struct.unpack("<HH", start[:4])
    if group not in _FIRST_GROUPS or element > 0x0100:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or struct.unpack("<I", start[4:8])[0] <= 256


def read_dicom(path: Path, pixels: bool = True) -> Dataset:
    """One file; without preamble or file meta information too, whose transfer syntax is then found by reading.

    Raises:
        InvalidDicomError: it is none.
    """
    forced = False
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels)
    except InvalidDicomError:
        if not is_dicom(path):
            raise
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
        forced = True
    meta = getattr(dataset, "file_meta", None)
    if forced or meta is None or "TransferSyntaxUID" not in meta:
        implicit, little = dataset.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        if meta is None:
            dataset.file_meta = meta = pydicom.dataset.FileMetaDataset()
        if "TransferSyntaxUID" not in meta:
            meta.TransferSyntaxUID = plain
    return dataset


def number(dataset: Dataset, name: str, default: float) -> float:
    """A numeric element; the default where it is absent or, as anonymizers leave it, empty."""
    value = dataset.get(name)
    if value is None or value == "":
        return default
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"its element {name} is {value!r}; a number was expected.", "Correct the header.") from error


def text(dataset: Dataset, name: str) -> str:
    """An element as text, "" where it is absent or empty."""
    value = dataset.get(name)
    return "" if value is None else str(value).strip()


def identifiers(header: Dataset) -> dict[str, str]:
    """The identifiers that stay with a volume."""
    names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality")
    return {name: found for name in names if (found := text(header, name))}


def series_in(entries: Iterable[Path]) -> dict[str, list[Path]]:
    """The files with images, by series; images without a series UID count as one series by their folder."""
    series: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(entry for entry in entries if entry.is_file() and entry.name != "DICOMDIR"):
        try:
            header = read_dicom(file, pixels=False)
        except (InvalidDicomError, OSError, EOFError, ValueError, struct.error):
            continue
        if header.get("Rows") and header.get("Columns"):
            series[text(header, "SeriesInstanceUID") or f"without UID in {file.parent.name}"].append(file)
    return dict(series)


def files_of(path: Path, series_uid: str) -> list[Path]:
    """The files of the series of a folder (its subfolders included), or of the one that a file belongs to.

    Raises:
        InputError: no images, several series of which none was chosen, or no such series.
    """
    if path.is_file() and path.name.upper() == "DICOMDIR":
        path = path.parent
    if path.is_dir():
        return _chosen(series_in(path.rglob("*")), series_uid, path)
    header = read_dicom(path, pixels=False)
    if number(header, "NumberOfFrames", 1) > 1 or not text(header, "SeriesInstanceUID"):
        return [path]
    return _chosen(series_in(path.parent.glob("*")), series_uid or text(header, "SeriesInstanceUID"), path)


def _chosen(series: dict[str, list[Path]], series_uid: str, folder: Path) -> list[Path]:
    if not series:
        raise _no_images(folder)
    listing = "; ".join(_in_words(uid, files) for uid, files in series.items())
    if series_uid and series_uid not in series:
        raise InputError(f"{folder} holds no series {series_uid}; it holds {listing}.", "Choose one of these series.")
    if not series_uid and len(series) > 1:
        raise InputError(f"{folder} holds {len(series)} image series: {listing}.", SERIES_REMEDY)
    return series[series_uid or next(iter(series))]


def _no_images(folder: Path) -> InputError:
    files = [item for item in folder.rglob("*") if item.is_file()] if folder.is_dir() else []
    pictures = [item for item in files if item.suffix.lower() in PICTURES]
    volumes = [item for item in files if format_suffix(item) in (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")]
    if pictures:
        return InputError(
            f"{folder} holds {len(pictures)} pictures (such as {pictures[0].name}) and no DICOM images. A folder of "
            "pictures is not a scan: they do not say how far apart they lie.",
            "Load them in 3D Slicer as a stack (Add Data), set the spacing and save the volume as .nrrd; or give one "
            "picture.",
        )
    if volumes:
        return InputError(
            f"{folder} holds no DICOM images, but the volume {volumes[0].name}.", "Give that file itself."
        )
    return InputError(
        f"{folder} holds no DICOM images.", "Choose the folder with the images of one series, or a volume file."
    )


def _in_words(uid: str, files: list[Path]) -> str:
    header = read_dicom(files[0], pixels=False)
    described = text(header, "SeriesDescription") or "no description"
    return f"'{described}' ({text(header, 'Modality') or '?'}, {len(files)} images, UID {uid}, e.g. {files[0].name})"
