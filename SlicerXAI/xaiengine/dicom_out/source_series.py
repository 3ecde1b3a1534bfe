"""The series that a result belongs to: its images or headers made for a scan that has none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from ..core.errors import InputError
from ..io.formats.dicom_files import files_of, number, read_dicom
from ..io.formats.dicom_format import is_projection, read_series
from ..io.grid import Grid
from ..io.volume import Volume

TOLERANCE_MM = 1e-2
LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """``images`` are headers without pixels, in any order; ``grid`` is the series' own; ``made``: by this program."""

    images: Sequence[Dataset]
    grid: Grid
    made: bool = False


def read_source(path: Path | str, series_uid: str = "") -> SourceSeries:
    """The headers of a series. Raises InputError when it has no place in the patient, or cannot be read."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist.", "Name the folder of the DICOM series.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = files_of(path, series_uid)
        images = [read_dicom(file, pixels=False) for file in files]
        if len(images) == 1 and is_projection(images[0]):
            raise InputError(
                f"{path.name} is a radiograph without a place in the patient: maps and segments cannot refer to it.",
                "Export results of CT or MR series.",
            )
        grid = read_series(path, series_uid).grid
    for image in images:
        _complete(image)
    return SourceSeries(images, grid)


def made_source(scan: Volume) -> SourceSeries:
    """Headers for a scan that no DICOM series is known of: an unnamed patient, a new study and series."""
    grid = scan.grid
    kind = CTImageStorage if scan.unit == "HU" else MRImageStorage
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    directions = LPS @ grid.directions
    now = datetime.now()
    images = []
    for index in range(grid.shape[2]):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID, image.SOPInstanceUID = kind, generate_uid()
        image.file_meta.MediaStorageSOPClassUID = kind
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.Modality = "CT" if kind == CTImageStorage else "MR"
        image.StudyDate, image.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        image.SeriesDescription = (scan.name or "scan")[:64]
        image.Columns, image.Rows = grid.shape[:2]
        image.PixelSpacing = [_decimal(grid.spacing[1]), _decimal(grid.spacing[0])]
        image.SliceThickness = _decimal(grid.spacing[2])
        image.ImageOrientationPatient = [_decimal(value) for value in directions[:, :2].T.ravel()]
        image.ImagePositionPatient = [_decimal(value) for value in LPS @ grid.index_to_ras((0, 0, index))]
        image.InstanceNumber, image.SamplesPerPixel = index + 1, 1
        _complete(image)
        images.append(image)
    return SourceSeries(images, grid, made=True)


def check_same_place(grid: Grid, source: SourceSeries, name: str) -> None:
    """Refuse a result that does not lie on the series' voxels. Raises InputError with the difference in mm."""
    own = source.grid
    if grid.shape != own.shape:
        raise InputError(
            f"{name} has {grid.describe()}, the series {own.describe()}.", "Name the series that was explained."
        )
    apart = float(np.abs(grid.corners() - own.corners()).max())
    if apart > TOLERANCE_MM:
        raise InputError(
            f"{name} lies up to {apart:.2f} mm beside the series' voxels.", "Name the series that was explained."
        )
    if own.is_sheared:
        raise InputError(
            "The series was made with a tilted gantry; DICOM's segmentations and maps cannot hold its sheared voxels.",
            "Resample the scan to upright slices in 3D Slicer, and explain that.",
        )


def _decimal(value: float) -> float:
    """As exact as DICOM's decimal strings of 16 characters hold."""
    return float(f"{value:.10g}")


def _complete(image: Dataset) -> None:
    """Fields of patient and study that every object must have; empty where the source gives none."""
    for name in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
    ):
        if name not in image:
            setattr(image, name, "")
    if not image.get("FrameOfReferenceUID"):
        raise InputError(
            "The series gives no Frame of Reference UID, so nothing can refer to its place.",
            "Anonymize it with a tool that keeps the Frame of Reference UID.",
        )
    if number(image, "NumberOfFrames", 1) > 1 and not image.get("SharedFunctionalGroupsSequence"):
        raise InputError("The series' frames say nothing of their place.", "Export results of CT or MR series.")
