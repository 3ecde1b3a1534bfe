"""Draws a result again from its files: for print, as vector graphics, through another point, with another window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import InputError, OptionError
from ..figures.three_planes import Outline, PictureText, draw_three_planes, middle_of
from ..io.resample import resample
from ..io.segmentation_files import read_segmentation
from .result_files import ResultFolder, read_result_folder
from .viewer import LABEL_OF_EXPLAINED, ShownResult, read_shown


def draw_result(
    folder: Path | str,
    path: Path | str,
    *,
    scan: Path | str | None = None,
    theme: str = "dark",
    window: str = "auto",
    maps: Sequence[str] = (),
    center_ras: Sequence[float] | None = None,
) -> list[Path]:
    """Draw the maps of a result with its outlines and return the files: one for every eight maps.

    ``path`` ends in .png, .svg or .pdf. ``maps`` are roles of volumes (default: all), ``center_ras`` the point in mm
    that the planes share (default: the middle of the first segment, else the strongest voxel).

    Raises:
        InputError: no finished result, or the scan is gone.
        OptionError: no such map, theme, window or format.
    """
    found = read_result_folder(folder)
    where = Path(scan) if scan is not None else found.scan_path()
    if where is None or not where.exists():
        raise InputError("The scan is not where the job read it.", "Name it with --scan.")
    shown = read_shown(found, where, most_maps=None)
    roles = [role for role, _, _ in shown.maps]
    unknown = [name for name in maps if name not in roles]
    if unknown:
        raise OptionError(f"The result has no map {unknown[0]!r}.", f"Choose from {', '.join(roles) or 'none'}.")
    asked = _explained(found, shown)
    layers = []
    for role, layer, own in shown.maps:
        if not maps or role in maps:
            values = resample(np.asarray(layer.values, np.float32), own, shown.scan.grid)
            layers.append(replace(layer, values=values, explained=asked))
    outlines = [Outline(mask, name, color) for name, color, mask in shown.segments]
    center: Sequence[float] | np.ndarray | None = center_ras
    if center is None and outlines:
        center = middle_of(outlines[0].mask, shown.scan.grid)
    title = found.scan_name or found.folder.name
    if len(layers) == 1:
        title = f"{title}: {layers[0].title}"
    text = PictureText(title, synthetic=found.result.task == "explain-counterfactual")
    return draw_three_planes(
        path, shown.scan, layers, outlines, text=text, center_ras=center, window=window, theme=theme
    )


def _explained(found: ResultFolder, shown: ShownResult) -> np.ndarray | None:
    artifact = found.result.artifact(LABEL_OF_EXPLAINED)
    if artifact is None or artifact.kind != "segmentation" or artifact.file in found.missing:
        return None
    return read_segmentation(found.path(artifact)).on_grid(shown.scan.grid).union() > 0
