"""Two-dimensional images: PNG, JPEG and other pictures through Pillow, and DICOM X-rays."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ...core.errors import InputError
from ..grid import Grid
from ..volume import Volume
from .dicom_files import identifiers, is_dicom, number, read_dicom, text
from .dicom_slices import slice_values
from .file_names import PICTURES, volume_name

_SPACING_TAGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
LARGEST_PICTURE = 1 << 28
"""Pixels; Pillow's own guard against files that expand without end is set to this."""
_COLOR_MODES = ("RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "P", "PA")


def read_image(path: Path) -> Volume:
    """Read a picture or a DICOM image as (I, J, 1), or (3, I, J, 1) in color: i to the right, j down.

    Pictures whose three channels are equal are gray. Transparency is laid on black, and the notes say so where any
    pixel is transparent. Values keep their bits: 8 and 16 bit pictures give uint8 and uint16.
    """
    if path.suffix.lower() in PICTURES:
        array, notes = _picture(path)
        array = _gray_if_equal(array)
        return Volume(array, _grid(array, (1.0, 1.0)), volume_name(path), "", path, picture=True, notes=notes)
    if not is_dicom(path):
        raise InputError(
            f"{path.name} is not an image; {', '.join(PICTURES)} or a DICOM image was expected.",
            "Save it in one of these formats.",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _radiograph(path)


def _radiograph(path: Path) -> Volume:
    dataset = read_dicom(path)
    if number(dataset, "NumberOfFrames", 1) > 1:
        raise InputError(f"{path.name} is a film of several frames; one image was expected.", "Choose one frame.")
    notes: tuple[str, ...] = ()
    if number(dataset, "SamplesPerPixel", 1) > 1:
        array = _gray_if_equal(_color(dataset)[..., None])
    else:
        array, notes = _presented(slice_values(dataset), dataset)
        array = array[..., None]
    grid = _grid(array, _spacing(dataset))
    return Volume(array, grid, volume_name(path), "", path, picture=True, notes=notes, dicom=identifiers(dataset))


def _presented(values: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values (columns, rows) through the header's VOI look-up table, if it has one; windows are not applied."""
    if not dataset.get("VOILUTSequence"):
        return values, ()
    from pydicom.pixels import apply_voi

    if text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        return values, ("The X-ray's VOI look-up table was not applied, because it is stored inverted (MONOCHROME1).",)
    try:
        return np.asarray(apply_voi(values, dataset)), ("The VOI look-up table of the X-ray's header was applied.",)
    except Exception as error:  # tables of clinical files break the standard in many ways
        return values, (f"The X-ray's VOI look-up table could not be applied ({error}); stored values were used.",)


def _spacing(dataset: Dataset) -> tuple[float, float]:
    """Between columns and between rows, in mm; 1 where the header does not say, or says 0 as some devices do."""
    for tag in _SPACING_TAGS:
        rows_and_columns = dataset.get(tag)
        if rows_and_columns and min(float(value) for value in rows_and_columns) > 0:
            return float(rows_and_columns[1]), float(rows_and_columns[0])
    return 1.0, 1.0


def _color(dataset: Dataset) -> np.ndarray:
    """(3, I, J), RGB."""
    pixels = dataset.pixel_array
    space = text(dataset, "PhotometricInterpretation") or "RGB"
    if space not in ("RGB", "PALETTE COLOR"):
        from pydicom.pixels import convert_color_space

        pixels = convert_color_space(pixels, space, "RGB")
    return pixels.transpose(2, 1, 0)


def _picture(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """(I, J, 1) or (3, I, J, 1), and notes."""
    from PIL import Image

    notes: tuple[str, ...] = ()
    with Image.open(path) as opened:
        image: Image.Image = opened
        if image.width * image.height > LARGEST_PICTURE:
            raise InputError(f"it has {image.width} x {image.height} pixels, too many.", "Resize the picture.")
        if (frames := getattr(image, "n_frames", 1)) > 1:
            notes = (f"The file holds {frames} pictures; the first was taken.",)
        if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            alpha = image.convert("RGBA").getchannel("A")
            if np.asarray(alpha).min() < 255:
                black = Image.new("RGBA", image.size, (0, 0, 0, 255))
                image = Image.alpha_composite(black, image.convert("RGBA"))
                notes = (*notes, "Transparent parts of the picture are black to the model.")
        if image.mode in _COLOR_MODES:
            image = image.convert("RGB")
        elif image.mode in ("1", "LA", "La"):
            image = image.convert("L")
        pixels = np.asarray(image)
    if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "buif":
        raise InputError(f"its pixels ({image.mode}) are of no known kind.", "Save it as PNG.")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return pixels.transpose(*range(2, pixels.ndim), 1, 0)[..., None], notes


def _gray_if_equal(array: np.ndarray) -> np.ndarray:
    """(3, I, J, 1) with equal channels, as gray images are often stored, as (I, J, 1)."""
    if array.ndim == 4 and all(np.array_equal(array[0], channel) for channel in array[1:]):
        return array[0]
    return array


def _grid(array: np.ndarray, spacing: tuple[float, float]) -> Grid:
    """As 3D Slicer places pictures: i toward the patient's left, j toward posterior."""
    return Grid.from_directions(array.shape[-3:], (*spacing, 1.0), np.diag([-1.0, -1.0, 1.0]))
