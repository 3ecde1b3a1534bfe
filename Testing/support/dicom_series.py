"""DICOM series written slice by slice from a grid, for tests of reading them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid
from xaiengine.io.grid import Grid

_LPS = np.diag([-1.0, -1.0, 1.0])


def write_series(folder: Path, array: np.ndarray, grid: Grid, **header: object) -> list[Path]:
    """Write (I, J, K) as CT slices with rows along i, in a file order that differs from the order in space.

    ``header`` sets or replaces attributes of every slice. Returns the files, in the order of k.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid = str(header.pop("SeriesInstanceUID", generate_uid()))
    shuffled = np.random.default_rng(0).permutation(grid.shape[2])
    files = []
    for k in range(grid.shape[2]):
        dataset = _dataset(CTImageStorage)
        dataset.SeriesInstanceUID = uid
        dataset.InstanceNumber = int(shuffled[k]) + 1
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
        dataset.PixelSpacing = [repr(grid.spacing[1])[:16], repr(grid.spacing[0])[:16]]
        dataset.SliceThickness = repr(grid.spacing[2])[:16]
        dataset.ImageOrientationPatient = _decimal(_LPS @ grid.directions[:, :2])
        dataset.ImagePositionPatient = _decimal(_LPS @ grid.index_to_ras((0, 0, k)))
        _set_pixels(dataset, array[:, :, k].T)
        for name, value in header.items():
            setattr(dataset, name, value)
        files.append(folder / f"image{shuffled[k]:03d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def write_multiframe(path: Path, array: np.ndarray, grid: Grid, slope: float = 1, intercept: float = 0) -> Path:
    """Write (I, J, K) as one enhanced CT file, its frames in reverse order."""
    dataset = _dataset(EnhancedCTImageStorage)
    dataset.SeriesInstanceUID = generate_uid()
    dataset.NumberOfFrames = grid.shape[2]
    measures, orientation, rescale = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = _decimal([grid.spacing[1], grid.spacing[0]])
    measures.SliceThickness = _decimal([grid.spacing[2]])[0]
    orientation.ImageOrientationPatient = _decimal(_LPS @ grid.directions[:, :2])
    rescale.RescaleSlope, rescale.RescaleIntercept = str(slope), str(intercept)
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([rescale])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    order = range(grid.shape[2] - 1, -1, -1)
    dataset.PerFrameFunctionalGroupsSequence = Sequence([_position(grid, k) for k in order])
    _set_pixels(dataset, array.transpose(2, 1, 0)[list(order)])
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_xray(path: Path, pixels: np.ndarray, photometric: str, **header: object) -> Path:
    """Write (rows, columns) as one radiograph."""
    dataset = _dataset("1.2.840.10008.5.1.4.1.1.1")
    dataset.Modality = "CR"
    dataset.SeriesInstanceUID = generate_uid()
    _set_pixels(dataset, pixels)
    dataset.PhotometricInterpretation = photometric
    for name, value in header.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _position(grid: Grid, k: int) -> Dataset:
    position = Dataset()
    position.ImagePositionPatient = _decimal(_LPS @ grid.index_to_ras((0, 0, k)))
    groups = Dataset()
    groups.PlanePositionSequence = Sequence([position])
    return groups


def _decimal(values: np.ndarray | list[float]) -> list[str]:
    """Decimal strings of at most 16 characters, as DICOM wants them; columns follow each other."""
    return [f"{value:.12f}"[:16] for value in np.ravel(np.asarray(values, dtype=float), order="F")]


def _dataset(sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = "1.2.3"
    dataset.FrameOfReferenceUID = "1.2.3.4"
    dataset.Modality = "CT"
    dataset.SeriesDescription = "Thorax"
    return dataset


def _set_pixels(dataset: pydicom.Dataset, pixels: np.ndarray) -> None:
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
