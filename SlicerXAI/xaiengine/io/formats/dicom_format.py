"""DICOM image series, read with pydicom."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from ...core.errors import InputError
from ..grid import Grid
from ..volume import Volume
from .dicom_slices import slice_affine, slice_values
from .file_names import volume_name

_HEADER_ONLY = {"stop_before_pixels": True, "force": False}


def is_dicom(path: Path) -> bool:
    """Whether a file carries DICOM's signature."""
    with path.open("rb") as stream:
        stream.seek(128)
        return stream.read(4) == b"DICM"


def read_series(path: Path, series_uid: str = "") -> Volume:
    """Read the image series of a folder, or the one that a file belongs to, as a volume in RAS.

    Slices are ordered by their position along the normal of the slices. Values are rescaled by slope and
    intercept. A tilted gantry gives a sheared grid, which is exact.

    Raises:
        InputError: no images, several series, unequal slices, missing or doubled slices, unknown compression.
    """
    with warnings.catch_warnings():
        # pydicom warns of every small breach of the standard, of which clinical files are full.
        warnings.simplefilter("ignore")
        files = _files(path, series_uid)
        headers = [pydicom.dcmread(file, **_HEADER_ONLY) for file in files]
        if len(files) == 1 and _frames(headers[0]) > 1:
            from .dicom_multiframe import read_multiframe

            array, grid = read_multiframe(files[0])
        else:
            _check_alike(headers)
            order, grid = _sorted_grid(headers)
            array = _stacked([files[index] for index in order], grid.shape)
    name = str(headers[0].get("SeriesDescription", "")).strip() or volume_name(path)
    unit = "HU" if str(headers[0].get("Modality", "")) == "CT" else ""
    return Volume(array, grid, name, unit, path)


def _files(path: Path, series_uid: str) -> list[Path]:
    if path.is_dir():
        return _chosen(_series_in(path.rglob("*")), series_uid, path)
    header = pydicom.dcmread(path, **_HEADER_ONLY)
    if _frames(header) > 1:
        return [path]
    return _chosen(_series_in(path.parent.glob("*")), series_uid or str(header.get("SeriesInstanceUID", "")), path)


def _frames(header: Dataset) -> int:
    return int(header.get("NumberOfFrames") or 1)


def _series_in(entries: Iterable[Path]) -> dict[str, list[Path]]:
    """The files with images, by series."""
    series: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(entry for entry in entries if entry.is_file()):
        try:
            header = pydicom.dcmread(file, **_HEADER_ONLY)
        except (InvalidDicomError, OSError, EOFError):
            continue
        if "Rows" in header and "SeriesInstanceUID" in header:
            series[str(header.SeriesInstanceUID)].append(file)
    return dict(series)


def _chosen(series: dict[str, list[Path]], series_uid: str, folder: Path) -> list[Path]:
    if not series:
        raise InputError(
            f"{folder} holds no DICOM images.",
            "Choose the folder with the images of one series, or a volume file.",
        )
    listing = "; ".join(_in_words(uid, files) for uid, files in series.items())
    if series_uid and series_uid not in series:
        raise InputError(f"{folder} holds no series {series_uid}; it holds {listing}.", "Choose one of these series.")
    if not series_uid and len(series) > 1:
        raise InputError(
            f"{folder} holds {len(series)} image series: {listing}.",
            "Choose one by its series instance UID, or by one of its files, or copy its files into a folder of "
            "their own.",
        )
    return series[series_uid or next(iter(series))]


def _in_words(uid: str, files: list[Path]) -> str:
    header = pydicom.dcmread(files[0], **_HEADER_ONLY)
    description = str(header.get("SeriesDescription", "")).strip() or "no description"
    return f"'{description}' ({header.get('Modality', '?')}, {len(files)} images, UID {uid}, e.g. {files[0].name})"


def _check_alike(headers: list[Dataset]) -> None:
    first = headers[0]
    required = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
    for header in headers:
        missing = [name for name in required if name not in header or header.get(name) is None]
        if missing:
            raise InputError(
                f"the images lack {', '.join(missing)}, so their place in the patient is not known.",
                "Choose a series of CT or MR slices; single X-rays are read as two-dimensional images.",
            )
        if int(header.get("SamplesPerPixel", 1)) != 1:
            raise InputError("the images are in color; gray values were expected.", "Choose a scalar series.")
        same_size = (header.Rows, header.Columns) == (first.Rows, first.Columns)
        same_place = np.allclose(header.ImageOrientationPatient, first.ImageOrientationPatient, atol=1e-3)
        if not same_size or not same_place or not np.allclose(header.PixelSpacing, first.PixelSpacing, rtol=1e-3):
            raise InputError(
                "the images of the series differ in size, orientation or spacing (perhaps a localizer is among them).",
                "Load the series in 3D Slicer's DICOM module, which splits it, and save the volume as .nrrd.",
            )


def _sorted_grid(headers: list[Dataset]) -> tuple[list[int], Grid]:
    """The order of the slices along their normal, and the grid: i along the rows, j down the columns."""
    first = headers[0]
    row, column = np.array(first.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    positions = np.array([header.ImagePositionPatient for header in headers], dtype=np.float64)
    order, affine = slice_affine(row, column, np.array(first.PixelSpacing, float), positions, _thickness(first))
    return order, Grid((int(first.Columns), int(first.Rows), len(headers)), affine)


def _thickness(header: Dataset) -> float:
    return float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0)


def _stacked(files: list[Path], shape: tuple[int, int, int]) -> np.ndarray:
    """The rescaled values of the slices, (I, J, K); integers where all slices have integers, else 32-bit floats."""
    slices = [slice_values(pydicom.dcmread(file)) for file in files]
    array = np.empty(shape, dtype=np.result_type(*{values.dtype for values in slices}), order="F")
    for index, values in enumerate(slices):
        array[:, :, index] = values
    return array
