"""Enhanced DICOM images: all slices of a volume in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ...core.errors import InputError
from ..grid import Grid
from .dicom_files import number, read_dicom
from .dicom_slices import slice_affine, slice_values
from .nifti_format import rescaled


def read_multiframe(path: Path) -> tuple[np.ndarray, Grid, bool]:
    """Read an enhanced CT, MR or similar file: the array (I, J, K), its grid, and whether its values are rescaled.

    Raises:
        InputError: the frames have no place in the patient (an ultrasound film), differ in orientation, or do not
            lie in one evenly spaced stack.
    """
    dataset = read_dicom(path)
    frames = [_FrameGroups(dataset, index) for index in range(int(number(dataset, "NumberOfFrames", 1)))]
    orientations = np.array([frame.numbers("PlaneOrientationSequence", "ImageOrientationPatient") for frame in frames])
    if not np.allclose(orientations, orientations[0], atol=1e-3):
        raise InputError("its frames differ in orientation.", "Split it in 3D Slicer's DICOM module.")
    positions = np.array([frame.numbers("PlanePositionSequence", "ImagePositionPatient") for frame in frames])
    spacing = np.array(frames[0].numbers("PixelMeasuresSequence", "PixelSpacing"))
    row, column = orientations[0].reshape(2, 3)
    thickness = float(frames[0].value("PixelMeasuresSequence", "SliceThickness") or 1.0)
    order, affine = slice_affine(row, column, spacing, positions, thickness)
    stored = slice_values(dataset)[..., order]
    scales = [frames[index].rescale() for index in order]
    if len(set(scales)) == 1:
        array = rescaled(stored, *scales[0])
    else:
        array = np.stack([rescaled(stored[..., k], *scale).astype(np.float32) for k, scale in enumerate(scales)], -1)
    scaled = frames[0].value("PixelValueTransformationSequence", "RescaleIntercept") not in (None, "")
    return array, Grid(array.shape, affine), scaled


class _FrameGroups:
    """The functional groups of one frame: its own, else those shared by all frames."""

    def __init__(self, dataset: Dataset, index: int) -> None:
        shared = dataset.get("SharedFunctionalGroupsSequence")
        per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
        self.groups = [sequence[position] for sequence, position in ((per_frame, index), (shared, 0)) if sequence]

    def value(self, sequence: str, name: str) -> object:
        for group in self.groups:
            items = group.get(sequence)
            if items and items[0].get(name) is not None:
                return items[0].get(name)
        return None

    def numbers(self, sequence: str, name: str) -> list[float]:
        value = self.value(sequence, name)
        if value is None:
            raise InputError(
                f"the frames lack {name}, so their place in the patient is not known.",
                "Choose a volume, not a film or a time series of images.",
            )
        return [float(number) for number in value]

    def rescale(self) -> tuple[float, float]:
        slope = self.value("PixelValueTransformationSequence", "RescaleSlope")
        intercept = self.value("PixelValueTransformationSequence", "RescaleIntercept")
        return (1.0 if slope in (None, "") else float(slope)), (0.0 if intercept in (None, "") else float(intercept))
