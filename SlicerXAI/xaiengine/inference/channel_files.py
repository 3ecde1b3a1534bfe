"""Channels in files of their own: MR sequences, PET beside CT. Light to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..io.resample import resample
from ..io.volume import Volume
from ..io.volume_files import read_volume

SMALLEST_COVER = 0.5
NEARLY_ALL = 0.95


def with_channels(volume: Volume, others: Sequence[Path | str]) -> Volume:
    """The scan with the channels of other files behind its own, resampled onto it where they lie on other voxels.

    Raises InputError when a file cannot be read, or does not cover the place of the scan.
    """
    arrays = [volume.channels_first()]
    notes = list(volume.notes)
    for path in others:
        other = read_volume(path, allow_channels=True)
        if max(other.grid.overlaps(volume.grid), volume.grid.overlaps(other.grid)) < SMALLEST_COVER:
            raise InputError(
                f"{other.name} does not cover the same place as {volume.name}.",
                "Register the scans first, and give channels of the same patient.",
            )
        notes += [note for note in other.notes if note not in notes]
        if (covered := volume.grid.overlaps(other.grid)) < NEARLY_ALL:
            notes.append(f"{other.name} covers {covered:.0%} of {volume.name} only; it is 0 elsewhere.")
        if other.grid.same_as(volume.grid):
            arrays.append(other.channels_first())
        else:
            arrays.append(resample(other.channels_first().astype(np.float32), other.grid, volume.grid))
            notes.append(f"{other.name} was resampled onto the voxels of {volume.name}.")
    return replace(volume, array=np.concatenate(arrays), notes=tuple(notes))
