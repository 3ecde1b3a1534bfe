"""DICOM image series, read with pydicom."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ...core.errors import InputError
from ..grid import Grid
from ..volume import Volume
from .dicom_files import files_of, identifiers, is_dicom, number, read_dicom, text
from .dicom_slices import slice_affine, slice_values
from .file_names import volume_name

__all__ = ["is_dicom", "is_projection", "read_series", "slice_values"]

_PROJECTIONS = ("CR", "DX", "MG", "RF", "XA", "IO", "PX", "RG")


def read_series(path: Path, series_uid: str = "") -> Volume:
    """Read the image series of a folder, or the one that a file belongs to, as a volume in RAS.

    Slices are ordered by their position along the normal of the slices. Values are rescaled by slope and
    intercept. A tilted gantry gives a sheared grid, which is exact. A single radiograph gives a picture (I, J, 1).
    A CT whose headers give no rescaling is not in HU, which its notes say.

    Raises:
        InputError: no images, several series, unequal slices, missing or doubled slices, unknown compression.
    """
    with warnings.catch_warnings():
        # pydicom warns of every small breach of the standard, of which clinical files are full.
        warnings.simplefilter("ignore")
        files = files_of(path, series_uid)
        headers = [read_dicom(file, pixels=False) for file in files]
        first = headers[0]
        if len(files) == 1 and is_projection(first):
            from .image2d import read_image

            return replace(read_image(files[0]), source=path)
        scales = {"RescaleIntercept" if text(header, "RescaleIntercept") else "" for header in headers}
        if len(files) == 1 and number(first, "NumberOfFrames", 1) > 1:
            from .dicom_multiframe import read_multiframe

            array, grid, scaled = read_multiframe(files[0])
            scales = {"RescaleIntercept" if scaled else ""}
        else:
            _check_alike(headers)
            order, grid = _sorted_grid(headers)
            array = _stacked([files[index] for index in order], grid.shape)
    unit, notes = _unit(first, scales)
    return Volume(array, grid, series_name(first, path), unit, path, notes=notes, dicom=identifiers(first))


def series_name(header: Dataset, path: Path) -> str:
    """What a series is called in results: by its number, else by the file's or folder's name.

    Not by its description, a free text in which names and findings of patients are met.
    """
    found = text(header, "SeriesNumber")
    return f"Series {found}" if found.isdigit() else volume_name(path)


def is_projection(header: Dataset) -> bool:
    """Whether an image is a radiograph: one frame without a place in the patient."""
    placed = all(header.get(name) for name in ("ImageOrientationPatient", "ImagePositionPatient"))
    return number(header, "NumberOfFrames", 1) <= 1 and (not placed or text(header, "Modality") in _PROJECTIONS)


def _unit(header: Dataset, scales: set[str]) -> tuple[str, tuple[str, ...]]:
    """The unit of the values, and notes where a CT has none."""
    if text(header, "Modality") != "CT":
        return "", ()
    if "" in scales and len(scales) > 1:
        return "", ("Some slices of the CT give no Rescale Intercept: their values are not in HU.",)
    if "" in scales:
        return "", ("The CT's header gives no Rescale Slope and Intercept: its values are stored numbers, not HU.",)
    kind = text(header, "RescaleType").upper()
    if kind not in ("", "HU"):
        return kind, (f"The values of the CT are in {kind} (Rescale Type), not in HU.",)
    return "HU", ()


def _check_alike(headers: list[Dataset]) -> None:
    first = headers[0]
    required = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
    for header in headers:
        missing = [name for name in required if not header.get(name)]
        if missing:
            raise InputError(
                f"the images lack {', '.join(missing)}, so their place in the patient is not known.",
                "Choose a series of CT or MR slices; single X-rays are read as two-dimensional images.",
            )
        if number(header, "SamplesPerPixel", 1) != 1:
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
    return number(header, "SpacingBetweenSlices", 0) or number(header, "SliceThickness", 0) or 1.0


def _stacked(files: list[Path], shape: tuple[int, int, int]) -> np.ndarray:
    """The rescaled values of the slices, (I, J, K); integers where all slices have integers, else 32-bit floats."""
    slices = [slice_values(read_dicom(file)) for file in files]
    array = np.empty(shape, dtype=np.result_type(*{values.dtype for values in slices}), order="F")
    for index, values in enumerate(slices):
        array[:, :, index] = values
    return array
