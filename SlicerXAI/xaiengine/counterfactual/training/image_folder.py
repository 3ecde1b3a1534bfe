"""Training images out of a folder: pictures, and slices of volumes by plane and range."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ...core.errors import InputError, XAIError
from ...io.formats.file_names import PICTURES, format_suffix
from ...io.volume import Volume
from ...io.volume_files import read_image2d, read_volume
from ..series.slice_replacement import PLANE_NORMAL, slice_frame
from .images import TrainingImages

FEWEST = 16
FEW = 500
"""Below this many images a generator rather remembers than learns, even with adaptive augmentation."""
_FLAT = 1e-3


@dataclass(frozen=True)
class FolderChoice:
    """Which images of a folder are taken, and how.

    ``window``: image values that become -1 and 1; None takes 0 to 255 for pictures of 8 bits, else the range from
    the 0.5th to the 99.5th percentile (median over the files). ``first`` and ``last``: parts of a volume's extent
    across the plane between which slices are taken, ``every`` so many slices. ``pixel``: mm of a pixel; 0 lets each
    slice fill the image.
    """

    size: int
    plane: str = "axial"
    first: float = 0.0
    last: float = 1.0
    every: int = 1
    pixel: float = 0.0
    window: tuple[float, float] | None = None


@dataclass
class FolderImages:
    """What was read: images, the window, the plane ("" for pictures), and a row for each file."""

    images: TrainingImages
    window: tuple[float, float]
    plane: str
    rows: list[dict[str, object]] = field(default_factory=list)


def image_files(folder: Path) -> list[Path]:
    """Pictures and volumes in a folder and its subfolders, by name; segmentations and hidden files are left out.

    Raises:
        InputError: no such folder, or nothing readable in it.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "Give the folder that holds the training images.")
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path, folder)]
    found = [path for path in found if path.suffix.lower() in PICTURES or format_suffix(path) not in ("", ".seg.nrrd")]
    if not found:
        raise InputError(
            f"The folder {folder} holds no images.", f"Put {', '.join(PICTURES)}, .nrrd, .nii.gz or .mha files there."
        )
    return found


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def read_folder(folder: Path, choice: FolderChoice, on_file: Callable[[], None] = lambda: None) -> FolderImages:
    """Read every image of a folder, seen as an explanation will see it, at the generator's size.

    Files that cannot be read, and slices of one value, are left out and said so in the rows.

    Raises:
        InputError: fewer than 16 images are left, or gray and color images are mixed.
    """
    files = image_files(folder)
    window = choice.window or _window(files)
    images: list[np.ndarray] = []
    rows: list[dict[str, object]] = []
    plane = ""
    for path in files:
        on_file()
        try:
            volume = _read(path)
            taken = list(_slices(volume, choice, window))
        except XAIError as error:
            rows.append({"file": path.relative_to(folder).as_posix(), "images": 0, "note": error.message})
            continue
        if volume.grid.shape[2] > 1:
            plane = choice.plane
        images += taken
        rows.append({"file": path.relative_to(folder).as_posix(), "images": len(taken), "note": ""})
    _check(images, folder, rows)
    stacked = TrainingImages(torch.from_numpy(np.stack(images).astype(np.float16)))
    return FolderImages(stacked, window, plane, rows)


def _read(path: Path) -> Volume:
    if path.suffix.lower() in PICTURES:
        return read_image2d(path, allow_color=True)
    return read_volume(path, allow_channels=True)


def _slices(volume: Volume, choice: FolderChoice, window: tuple[float, float]) -> Iterable[np.ndarray]:
    flat = 1 in volume.grid.shape
    count = 1 if flat else volume.grid.shape[volume.grid.index_axis(PLANE_NORMAL[choice.plane])]
    first, last = (0, 0) if flat else (round(choice.first * (count - 1)), round(choice.last * (count - 1)))
    pixel = (choice.pixel, choice.pixel) if choice.pixel else None
    for index in range(first, last + 1, choice.every):
        frame = slice_frame(volume, plane=choice.plane, index=index, size=choice.size, window=window, pixel=pixel)
        image = frame.image().numpy()
        if image.max() - image.min() > _FLAT:
            yield image


def _window(files: list[Path]) -> tuple[float, float]:
    ends = []
    for path in files:
        try:
            array = _read(path).array
        except XAIError:
            continue
        if array.dtype != np.uint8:
            ends.append(np.percentile(array, (0.5, 99.5)))
    if not ends:
        return (0.0, 255.0)
    low, high = np.median(np.array(ends), 0)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def _check(images: list[np.ndarray], folder: Path, rows: list[dict[str, object]]) -> None:
    if len({image.shape for image in images}) > 1:
        raise InputError(f"The folder {folder} mixes gray and color images.", "Keep one kind in the folder.")
    if len(images) < FEWEST:
        unread = sum(bool(row["note"]) for row in rows)
        raise InputError(
            f"{len(images)} training images were found in {folder} ({unread} files could not be read); at least "
            f"{FEWEST} are needed, and some thousands make a good generator.",
            "Add images, or take more slices of the volumes.",
        )
