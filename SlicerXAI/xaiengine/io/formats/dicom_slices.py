"""What DICOM slices share: their place in the patient, and their values."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from ...core.errors import InputError
from .dicom_files import number, text
from .nifti_format import rescaled

SPACING_TOLERANCE = 0.01
"""Maximum deviation of a slice from its place, as a share of the slice distance."""


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


def slice_values(dataset: Dataset) -> np.ndarray:
    """The values of one image (columns, rows) or of many frames (columns, rows, frames), rescaled.

    Stored values of MONOCHROME1, where low is white, are inverted before they are rescaled unless they are
    in units (CT), whose meaning must not change.

    Raises:
        InputError: the pixels are compressed in a way that needs a package which is not installed.
    """
    if not dataset.get("SamplesPerPixel"):
        dataset.SamplesPerPixel = 1
    if not dataset.get("PhotometricInterpretation"):
        dataset.PhotometricInterpretation = "MONOCHROME2"
    if "NumberOfFrames" in dataset and not dataset.get("NumberOfFrames"):
        del dataset.NumberOfFrames
    try:
        stored = dataset.pixel_array
    except Exception as error:  # pydicom raises many kinds for missing and failing decoders
        raise InputError(
            f"the pixels (transfer syntax '{dataset.file_meta.TransferSyntaxUID.name}') could not be decoded: {error}",
            "Install pylibjpeg with its plugins, or save the series uncompressed with 3D Slicer.",
        ) from error
    if text(dataset, "PhotometricInterpretation") == "MONOCHROME1" and text(dataset, "Modality") != "CT":
        bits = int(number(dataset, "BitsStored", stored.dtype.itemsize * 8))
        ends = -1 if int(number(dataset, "PixelRepresentation", 0)) else (1 << bits) - 1
        stored = np.asarray(ends, dtype=stored.dtype) - stored
    if dataset.get("ModalityLUTSequence"):
        return _looked_up(stored, dataset).T
    return rescaled(stored, number(dataset, "RescaleSlope", 1), number(dataset, "RescaleIntercept", 0)).T


def _looked_up(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Stored values through the modality look-up table (DICOM PS3.3 C.11.1)."""
    from pydicom.pixels import apply_modality_lut

    try:
        return np.asarray(apply_modality_lut(stored, dataset))
    except Exception as error:  # tables of clinical files break the standard in many ways
        raise InputError(
            f"its modality look-up table could not be applied: {error}", "Load it in 3D Slicer and save it as .nrrd."
        ) from error
