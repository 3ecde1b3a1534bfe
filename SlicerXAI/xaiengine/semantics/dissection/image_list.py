"""Which images are dissected, and where the masks of their concepts lie.

Folder layouts::

    FOLDER/images/a.nrrd            FOLDER/a.png               any folder of images, and a CSV with the
    FOLDER/masks/a.seg.nrrd         FOLDER/a_mask.png          columns image, mask and, for masks of one
    FOLDER/masks/effusion/a.png     FOLDER/a.seg.nrrd          concept, concept

A subfolder of the masks holds masks of one concept, named after it. Masks may also end in _mask, _seg, _labels.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.errors import InputError
from ...io.formats.file_names import PICTURES, format_suffix

IMAGE_ENDINGS = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".dcm", ".dicom", ".ima", *PICTURES)
MASK_TAILS = ("", "_mask", "-mask", "_seg", "-seg", "_labels", "-labels", "_label", "-label")
IMAGES, MASKS = "images", "masks"


@dataclass(frozen=True)
class MaskFile:
    """A file with masks; all that is not zero belongs to ``concept`` where that is given."""

    path: Path
    concept: str = ""


@dataclass(frozen=True)
class ImageEntry:
    """An image (or the folder of a DICOM series) with its files of masks. ``name`` is unique in its list."""

    name: str
    path: Path
    masks: tuple[MaskFile, ...] = ()


def stem_of(path: Path) -> str:
    """The name without the extension, where .seg.nrrd and .nii.gz are one."""
    suffix = format_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def list_images(folder: Path, masks: Path | None = None, pairs: Path | None = None) -> list[ImageEntry]:
    """The images of a folder with the masks that belong to them, by name.

    Raises:
        InputError: there is no such folder or list, it holds no images, or two images have the same name.
    """
    if pairs is not None:
        return _from_csv(folder, pairs)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "Give the folder that holds the images.")
    inner = folder / IMAGES
    images = inner if inner.is_dir() else folder
    own = folder / MASKS
    where = masks if masks is not None else own if own.is_dir() else images
    if not where.is_dir():
        raise InputError(f"There is no folder {where} with masks.", "Correct the option masks, or leave it empty.")
    found = _masks_by_stem(where)
    entries = []
    for path in _images_in(images, aside={where, own}):
        stem = stem_of(path) if path.is_file() else path.name
        given = [mask for tail in MASK_TAILS for mask in found.get((stem + tail).lower(), ())]
        entries.append(ImageEntry(stem, path, tuple(mask for mask in given if mask.path != path)))
    if where == images:
        taken = {mask.path for entry in entries for mask in entry.masks}
        entries = [entry for entry in entries if entry.path not in taken]
    return _checked(entries, images)


def _images_in(folder: Path, aside: set[Path]) -> list[Path]:
    items = [item for item in sorted(folder.iterdir()) if not item.name.startswith(".") and item not in aside]
    files = [item for item in items if item.is_file() and item.name.lower().endswith(IMAGE_ENDINGS)]
    series = [item for item in items if item.is_dir() and any(part.is_file() for part in item.iterdir())]
    return [item for item in files if ".seg." not in item.name.lower()] + series


def _masks_by_stem(folder: Path) -> dict[str, list[MaskFile]]:
    found: dict[str, list[MaskFile]] = {}
    for item in sorted(folder.iterdir()):
        if item.is_file() and item.name.lower().endswith(IMAGE_ENDINGS):
            found.setdefault(stem_of(item).lower(), []).append(MaskFile(item))
        elif item.is_dir():
            for part in sorted(item.iterdir()):
                if part.is_file() and part.name.lower().endswith(IMAGE_ENDINGS):
                    found.setdefault(stem_of(part).lower(), []).append(MaskFile(part, item.name))
    return found


def _checked(entries: list[ImageEntry], folder: Path) -> list[ImageEntry]:
    if not entries:
        raise InputError(
            f"The folder {folder} holds no images.",
            f"Put images there ({', '.join(IMAGE_ENDINGS)}, or folders of DICOM series).",
        )
    names = [entry.name for entry in entries]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:  # a.png and a.nrrd: masks and boxes could not tell them apart
        entries = [replace(item, name=item.path.name) if item.name in double else item for item in entries]
    return entries


def _from_csv(folder: Path, pairs: Path) -> list[ImageEntry]:
    rows = read_rows(pairs, ("image",))
    found: dict[Path, list[MaskFile]] = {}
    for row in rows:
        image = _located(row["image"], (pairs.parent, folder, folder / IMAGES))
        given = found.setdefault(image, [])
        if row.get("mask"):
            mask = _located(row["mask"], (pairs.parent, folder, folder / MASKS))
            given.append(MaskFile(mask, row.get("concept", "")))
    return _checked([ImageEntry(stem_of(path), path, tuple(masks)) for path, masks in found.items()], folder)


def _located(text: str, folders: Iterable[Path]) -> Path:
    """The file that a list names; where there is none, a path whose reading will say so."""
    tried = [folder / text for folder in folders]
    return next((path for path in tried if path.exists()), tried[0])


def read_rows(path: Path, wanted: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV (or .tsv) file with lower-case column names.

    Raises InputError when it is missing, unreadable, empty, or lacks one of the wanted columns.
    """
    if not path.is_file():
        raise InputError(f"There is no table {path}.", "Check the path.")
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            columns = [str(name).strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} is no CSV file in UTF-8: {error}.", "Save it as CSV (UTF-8).") from error
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise InputError(
            f"{path.name} has the columns {', '.join(columns) or 'none'}; it lacks {', '.join(missing)}.",
            "Name the columns in its first line.",
        )
    if not rows:
        raise InputError(f"{path.name} has no rows.", "Fill it, or leave the option empty.")
    return rows


def label_names(path: Path | None) -> Mapping[int, str]:
    """The names of label values from a CSV with the columns value and name; none without a file."""
    if path is None:
        return {}
    names = {}
    for row in read_rows(path, ("value", "name")):
        try:
            names[int(row["value"])] = row["name"]
        except ValueError as error:
            raise InputError(f"{path.name}: {row['value']!r} is no whole number.", "Correct the table.") from error
    return names
