"""Gives a CLI module's results to 3D Slicer: label maps for segmentations, .tsv for tables, named values."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError, OptionError
from ..core.job import Artifact, Result, write_text_atomically
from ..core.output import disk_errors
from ..tasks import OutputSpec, ValueSpec

_EXTENSIONS = {
    "volume": (".nrrd",),
    "segmentation": (".nrrd", ".seg.nrrd"),
    "table": (".csv", ".tsv"),
}


def check_output_file(item: OutputSpec, path: Path) -> None:
    """Refuse before the work what could not be written after it.

    Raises:
        OptionError: the file's name does not fit its kind.
        InputError: its folder does not exist.
    """
    wanted = _EXTENSIONS.get(item.kind)
    if wanted and not path.name.lower().endswith(wanted):
        raise OptionError(f"{item.title} cannot be written as {path.name}.", f"Use {' or '.join(wanted)}.")
    if not path.parent.is_dir():
        raise InputError(f"The folder {path.parent} for {item.title} does not exist.", "Make it first.")


def deliver(result: Result, role: str, folder: Path, path: Path) -> None:
    """Copy the artifact of a role from the result folder to a file of the kind that its name says.

    A segmentation becomes a label map unless the name ends in ``.seg.nrrd``. An artifact that this run did not
    make (it is optional) is left out. Data that lies in several files of one name keeps them together.
    """
    artifact = result.artifact(role)
    if artifact is None:
        return
    source = folder / artifact.file
    with disk_errors(path.parent):
        if artifact.kind == "segmentation" and not path.name.lower().endswith(".seg.nrrd"):
            _write_label_map(source, path)
        elif artifact.kind == "table" and path.suffix.lower() == ".tsv":
            _write_tsv(source, path)
        else:
            shutil.copyfile(source, path)
        if artifact.kind == "data":
            _copy_companions(result, artifact, folder, path)


def write_returned_values(path: Path, specs: Sequence[ValueSpec], values: Mapping[str, Any]) -> None:
    """Write the single values that the module declares as ``name = value`` lines."""
    lines = [f"{spec.name} = {values[spec.name]}" for spec in specs if values.get(spec.name) is not None]
    with disk_errors(path.parent):
        write_text_atomically(path, "".join(line + "\n" for line in lines))


def _copy_companions(result: Result, artifact: Artifact, folder: Path, path: Path) -> None:
    """Copy the other files of the artifact's name, for example the words beside the numbers of a dissection."""
    for item in result.artifacts:
        file = Path(item.file)
        if item.kind == "data" and file.stem == Path(artifact.file).stem and item.file != artifact.file:
            shutil.copyfile(folder / item.file, path.with_suffix(file.suffix))


def _write_label_map(source: Path, path: Path) -> None:
    """Number the segments from 1 in their order; where they overlap, the later one stays."""
    from ..io.segmentation_files import read_segmentation
    from ..io.volume import Volume
    from ..io.volume_files import write_volume

    segmentation = read_segmentation(source)
    dtype = np.uint8 if len(segmentation.segments) < 256 else np.uint16
    labels = np.zeros(segmentation.grid.shape, dtype, order="F")
    for number, segment in enumerate(segmentation.segments, start=1):
        labels[segmentation.mask(segment)] = number
    write_volume(path, Volume(labels, segmentation.grid))


def _write_tsv(source: Path, path: Path) -> None:
    with open(source, encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(rows)
