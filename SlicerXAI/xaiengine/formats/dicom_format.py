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

from ..errors import InputError
from ..grid import Grid
from ..volume import Volume
from . import volume_name
from .nifti_format import rescaled

SPACING_TOLERANCE = 0.01
"""Greatest deviation of a slice from its place, as a share of the slice distance."""

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


def slice_affine(
    row: np.ndarray, column: np.ndarray, pixel_spacing: np.ndarray, positions: np.ndarray, thickness: float
) -> tuple[list[int], np.ndarray]:
    """Order slices along their normal and find the matrix from (column, row, slice) indices to RAS mm.

    ``row`` and ``column`` are the unit directions along a row and down a column (LPS), ``pixel_spacing`` is
    (between rows, between columns), ``positions`` (n, 3) are the first pixels' positions (LPS); ``thickness`` is
    the slice distance in mm where there is only one slice. See DICOM PS3.3 C.7.6.2.1.1.

    Raises:
        InputError: slices are missing, doubled, or not in a line.
    """
    normal = np.cross(row, column)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    step = normal * thickness if len(positions) == 1 else (positions[-1] - positions[0]) / (len(positions) - 1)
    if len(positions) > 1:
        _check_even(positions, normal, step)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([row * pixel_spacing[1], column * pixel_spacing[0], step])
    affine[:3, 3] = positions[0]
    return [int(index) for index in order], np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _check_even(positions: np.ndarray, normal: np.ndarray, step: np.ndarray) -> None:
    distances = np.diff(positions @ normal)
    usual = float(np.median(distances))
    if distances.min() < 0.01 * max(usual, 1e-3):
        raise InputError(
            "several images of the series lie at the same place (a time series or several reconstructions).",
            "Load the series in 3D Slicer's DICOM module, choose one time point, and save it as .nrrd.",
        )
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    worst = np.abs(positions - expected).max()
    if worst > max(SPACING_TOLERANCE * usual, 0.01):
        gaps = [f"{start @ normal:.2f}" for start, gap in zip(positions, distances) if gap > 1.5 * usual]
        where = f" Slices seem to be missing after {', '.join(gaps[:5])} mm." if gaps else ""
        raise InputError(
            f"the slices are not evenly spaced: the distances are {distances.min():.3f} to {distances.max():.3f} mm."
            + where,
            "Complete the series, or load it in 3D Slicer's DICOM module (which resamples it) and save it as .nrrd.",
        )


def _stacked(files: list[Path], shape: tuple[int, int, int]) -> np.ndarray:
    """The rescaled values of the slices, (I, J, K); integers where all slices have integers, else 32-bit floats."""
    slices = [slice_values(pydicom.dcmread(file)) for file in files]
    array = np.empty(shape, dtype=np.result_type(*{values.dtype for values in slices}), order="F")
    for index, values in enumerate(slices):
        array[:, :, index] = values
    return array


def slice_values(dataset: Dataset) -> np.ndarray:
    """The values of one image (columns, rows) or of many frames (columns, rows, frames), rescaled.

    Stored values of MONOCHROME1, where low is white, are inverted before they are rescaled unless they are
    in units (CT), whose meaning must not change.

    Raises:
        InputError: the pixels are compressed in a way that needs a package which is not installed.
    """
    try:
        stored = dataset.pixel_array
    except Exception as error:  # pydicom raises many kinds for missing and failing decoders
        raise InputError(
            f"the pixels (transfer syntax '{dataset.file_meta.TransferSyntaxUID.name}') could not be decoded: {error}",
            "Install pylibjpeg with its plugins, or save the series uncompressed with 3D Slicer.",
        ) from error
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1" and dataset.get("Modality") != "CT":
        bits = int(dataset.BitsStored)
        ends = -1 if int(dataset.PixelRepresentation) else (1 << bits) - 1
        stored = np.asarray(ends, dtype=stored.dtype) - stored
    values = rescaled(stored, float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0)))
    return values.T
