"""Scans and pictures read as a model takes them: their channels, their series, and what is doubtful about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..io.volume import Volume
from ..io.volume_files import read_volume
from ..models.explained_model import ExplainedModel
from .channel_files import with_channels

HU_WINDOW = 100.0
"""Width from which a range with negative values is taken for one of HU."""
_SAMPLE = 200_000


def read_for_model(
    model: ExplainedModel, path: Path | str, channels: Sequence[Path | str] = (), series_uid: str = ""
) -> Volume:
    """A scan, picture or X-ray with all channels that the model takes.

    Args:
        model: says how many channels there are.
        path: the scan, or the first channel; a 4D file holds several.
        channels: files of the other channels in the model's order, resampled onto the first.
        series_uid: which series of a DICOM folder.

    Raises:
        InputError: it cannot be read, channels of another place, or another number of channels than the model takes.
    """
    several = model.in_channels > 1 or bool(channels)
    volume = read_volume(path, allow_channels=several, series_uid=series_uid)
    if channels:
        volume = with_channels(volume, channels)
    if volume.channels != model.in_channels and not (volume.channels == 1 and _makes_channels(model, volume)):
        raise _wrong_channels(model, volume)
    return volume


def _makes_channels(model: ExplainedModel, volume: Volume) -> bool:
    """Whether the preprocessing makes the network's channels out of one."""
    specs = getattr(model.preprocessing, "specs", None)
    if specs is None:
        return True  # only its own code knows; the network will say
    if any(getattr(spec, "name", "") in ("RepeatChannel",) for spec in specs):
        return True
    gray = getattr(model.preprocessing, "gray", None)
    return gray is not None and gray.for_volume(volume) is not None


def _wrong_channels(model: ExplainedModel, volume: Volume) -> InputError:
    names = f" ({', '.join(model.channel_names)})" if model.channel_names else ""
    plural = "s" if model.in_channels != 1 else ""
    given = "1 was given" if volume.channels == 1 else f"{volume.channels} were given"
    if model.in_channels == 1:
        remedy = "Choose a scan with one value per voxel."
    else:
        remedy = (
            f"Give the first as the scan and the {model.in_channels - 1} other{'s' if model.in_channels > 2 else ''} "
            "by --channels (the option Additional channels) in the model's order, or one 4D file."
        )
        if model.in_channels == 3 and volume.channels == 1:
            remedy += " If the network takes a gray image three times, add RepeatChannel to its preprocessing."
    return InputError(
        f"The model {model.name} takes {model.in_channels} channel{plural}{names}; {given} by {volume.name}.", remedy
    )


def doubts(volume: Volume, model: ExplainedModel) -> tuple[str, ...]:
    """What a user must know about this scan for this model: what its reader assumed, and values that are not HU."""
    found = unlike_hounsfield(volume, model)
    return (*volume.notes, found) if found else tuple(volume.notes)


def unlike_hounsfield(volume: Volume, model: ExplainedModel) -> str:
    """A warning where the model's preprocessing expects HU and the values are none; else nothing.

    HU are expected by ranges that begin below zero (``ScaleIntensityRange`` from -1000 to 400), and by nnU-Net's CT
    normalization. Air is -1000 HU and fat -100 HU: a CT has values below -50 unless it was cropped to an organ.
    """
    expected = expected_range(model)
    if expected is None or volume.picture:
        return ""
    low, high = expected
    values = volume.channels_first()[0].ravel()
    values = values[:: max(1, values.size // _SAMPLE)].astype(np.float32)
    least, most = float(values.min()), float(values.max())
    window = f"The model {model.name} expects HU (its range is {low:g} to {high:g})"
    if most - least <= 20:
        return f"{window}, but the scan's values lie between {least:.3g} and {most:.3g}: they look normalized."
    if least >= 0 and most > 900:
        counts, edges = np.histogram(values, bins=64)
        offset = 1024 if least <= 24 else 1000
        return (
            f"{window}, but the scan has no value below 0 ({least:.4g} to {most:.4g}, most often near "
            f"{edges[int(counts.argmax())]:.4g}): it is no CT in HU, or one stored with an offset such as {offset}."
        )
    if least >= -50:
        return f"{window}, but the scan's values lie between {least:.4g} and {most:.4g}: is it a CT in HU?"
    inside = float(((values > low) & (values < high)).mean())
    if inside < 0.005:
        return f"{window}, but nearly all of the scan's values ({least:.4g} to {most:.4g}) lie outside of it."
    return ""


def expected_range(model: ExplainedModel) -> tuple[float, float] | None:
    """The range of HU that the preprocessing brings to the network; None where it does not expect HU."""
    for spec in getattr(model.preprocessing, "specs", ()):
        inner: Any = getattr(spec, "spec", spec)
        if getattr(inner, "name", "") != "ScaleIntensityRange":
            continue
        low, high = float(inner.arguments["a_min"]), float(inner.arguments["a_max"])
        if low <= -50 and high - low >= HU_WINDOW:
            return low, high
    plan = getattr(model.preprocessing, "plan", None)
    for channel in getattr(plan, "normalization", ()):
        if channel.scheme == "CTNormalization":
            low = float(channel.properties.get("percentile_00_5", 0.0))
            high = float(channel.properties.get("percentile_99_5", 0.0))
            return (low, high) if low <= -50 and high - low >= HU_WINDOW else None
    return None
