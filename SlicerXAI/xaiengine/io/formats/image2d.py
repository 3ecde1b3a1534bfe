"""Two-dimensional images: PNG, JPEG and other pictures through Pillow, and DICOM X-rays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from ...core.errors import InputError
from ..grid import Grid
from ..volume import Volume
from . import dicom_format
from .file_names import PICTURES, volume_name

_SPACING_TAGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def read_image(path: Path) -> Volume:
    """Read a picture or a DICOM image as (I, J, 1), or (3, I, J, 1) in color: i to the right, j down."""
    if path.suffix.lower() in PICTURES:
        array = _picture(path)
        return Volume(array, _grid(array, (1.0, 1.0)), volume_name(path), "", path)
    if not dicom_format.is_dicom(path):
        raise InputError(
            f"{path.name} is not an image; {', '.join(PICTURES)} or a DICOM image was expected.",
            "Save it in one of these formats.",
        )
    dataset = pydicom.dcmread(path)
    if int(dataset.get("NumberOfFrames", 1)) > 1:
        raise InputError(f"{path.name} is a film of several frames; one image was expected.", "Choose one frame.")
    array = _color(dataset) if int(dataset.get("SamplesPerPixel", 1)) > 1 else dicom_format.slice_values(dataset)
    array = array[..., None]
    return Volume(array, _grid(array, _spacing(dataset)), volume_name(path), "", path)


def _spacing(dataset: pydicom.Dataset) -> tuple[float, float]:
    """Between columns and between rows, in mm; 1 where the header does not say, or says 0 as some devices do."""
    for tag in _SPACING_TAGS:
        rows_and_columns = dataset.get(tag)
        if rows_and_columns and min(float(value) for value in rows_and_columns) > 0:
            return float(rows_and_columns[1]), float(rows_and_columns[0])
    return 1.0, 1.0


def _color(dataset: pydicom.Dataset) -> np.ndarray:
    """(3, I, J), RGB."""
    pixels = dataset.pixel_array
    space = str(dataset.get("PhotometricInterpretation", "RGB"))
    if space not in ("RGB", "PALETTE COLOR"):
        from pydicom.pixels import convert_color_space

        pixels = convert_color_space(pixels, space, "RGB")
    return pixels.transpose(2, 1, 0)


def _picture(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        if image.mode in ("P", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"):
            image = image.convert("RGB")
        elif image.mode in ("1", "LA"):
            image = image.convert("L")
        pixels = np.asarray(image)
    return pixels.transpose(*range(2, pixels.ndim), 1, 0)[..., None]


def _grid(array: np.ndarray, spacing: tuple[float, float]) -> Grid:
    """As 3D Slicer places pictures: i toward the patient's left, j toward posterior."""
    return Grid.from_directions(array.shape[-3:], (*spacing, 1.0), np.diag([-1.0, -1.0, 1.0]))
